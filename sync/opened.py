"""A sealed envelope → what is in it, read back from its bytes.

Why:    the record may have moved on since a file was sealed; claims and the balance speak of what was sent.
Errors: Malformed   not an envelope, or not base64, or a table that is not XML
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from lxml import etree

from ehr.errors import Malformed
from sync.dossier import Columns

_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
_WIDE_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)


@dataclass(frozen=True, slots=True)
class Opened:
    """One HOSO: the rows of each of its tables."""

    tables: dict[str, list[Columns]]

    @property
    def summary(self) -> Columns:
        return self.tables["XML1"][0]

    @property
    def ma_lk(self) -> str:
        return self.summary.get("MA_LK", "")

    @property
    def t_bhtt(self) -> Decimal:
        return Decimal(self.summary["T_BHTT"])

    @property
    def t_tongchi_bv(self) -> Decimal:
        return Decimal(self.summary["T_TONGCHI_BV"])


def opened(body: bytes) -> list[Opened]:
    """The dossiers of an envelope in their order."""
    try:
        root = etree.fromstring(body, _WIDE_PARSER)
    except etree.XMLSyntaxError as error:
        raise Malformed("the envelope is not XML", at="GIAMDINHHS") from error
    if root.tag != "GIAMDINHHS":
        raise Malformed("the envelope's root is not GIAMDINHHS", at="GIAMDINHHS")
    return [_hoso(element) for element in root.iterfind("THONGTINHOSO/DANHSACHHOSO/HOSO")]


def _hoso(element: etree._Element) -> Opened:
    tables: dict[str, list[Columns]] = {}
    for file in element.iterfind("FILEHOSO"):
        code, content = file.findtext("LOAIHOSO", ""), file.findtext("NOIDUNGFILE", "")
        try:
            document = etree.fromstring(base64.b64decode(content, validate=True), _PARSER)
        except (binascii.Error, etree.XMLSyntaxError) as error:
            raise Malformed(f"{code} is not XML in base64", at=f"HOSO.{code}") from error
        tables[code] = list(_records(document))
    if not tables.get("XML1"):
        raise Malformed("a HOSO has no XML1", at="HOSO.XML1")
    return Opened(tables)


def _records(document: etree._Element) -> Iterator[Columns]:
    """The rows of a table, whether it is a list of records or one record."""
    records = [document] if not any(len(child) for child in document) else list(document[0])
    for record in records:
        yield {str(field.tag): field.text or "" for field in record}
