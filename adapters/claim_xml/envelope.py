"""Open a GIAMDINHHS envelope: bytes → dossiers, each a set of table documents, read as rows of text.

Out:     Envelope(facility code, dossiers); Dossier: rows by table (XML1 to XML5), other tables as documents
Keeps:   every value as text, exactly as it stands between its tags, CDATA or not
Limits:  claim_xml_bytes_max for the envelope and for all its tables together; claim_xml_dossiers_max; XML depth 256
         (libxml2)
Errors:  Malformed with table, row and tag: not XML, a DOCTYPE, wrong base64, an unknown table or container, another
         number of dossiers than SOLUONGHOSO tells
Safety:  no DTD, no entity, no network: a DOCTYPE is refused before and after parsing; only UTF-8 is read, so that no
         other encoding hides one
Source:  letter CV 1245/BHXH-CNTT 03/05/2024, 3.4 (envelope) and its skeletons (containers); terminology.claim_tables
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lxml import etree

from ehr import limits
from ehr.errors import Malformed, TooMuch
from terminology.claim_tables import FILE_CODES, Table, tables

Row = dict[str, str]

MAPPED: Final = ("XML1", "XML2", "XML3", "XML4", "XML5")
_COUNT: Final = "GIAMDINHHS.THONGTINHOSO.SOLUONGHOSO"
_BOM: Final = b"\xef\xbb\xbf"
_DOCTYPE: Final = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_ENCODING: Final = re.compile(rb"""^\s*<\?xml[^>]*\bencoding\s*=\s*["']([^"']*)["']""")


@dataclass(frozen=True, slots=True)
class Dossier:
    """One HOSO. at: where it stands, for errors ("HOSO[2]")."""

    at: str
    rows: Mapping[str, list[Row]]
    documents: Mapping[str, bytes]

    @property
    def summary(self) -> Row:
        return self.rows["XML1"][0]


@dataclass(frozen=True, slots=True)
class Envelope:
    facility_code: str
    dossiers: tuple[Dossier, ...]


def control_id(body: bytes) -> str:
    """The digest of the envelope: it has no number of its own. The same file again is the same message."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def open_envelope(body: bytes) -> Envelope:
    if len(body) > limits.claim_xml_bytes_max:
        raise TooMuch(f"the envelope has {len(body)} bytes, the limit is {limits.claim_xml_bytes_max}", at="GIAMDINHHS")
    root = parse(body, "GIAMDINHHS")
    if root.tag != "GIAMDINHHS":
        raise Malformed("the root element is GIAMDINHHS", at="GIAMDINHHS")
    files = root.findall("THONGTINHOSO/DANHSACHHOSO/HOSO")
    if not files:
        raise Malformed("the envelope holds no HOSO", at="GIAMDINHHS.THONGTINHOSO.DANHSACHHOSO")
    told = (root.findtext("THONGTINHOSO/SOLUONGHOSO") or "").strip()
    if told and told.lstrip("0") != str(len(files)):
        raise Malformed(f"the envelope holds {len(files)} HOSO, and SOLUONGHOSO says otherwise", at=_COUNT)
    if len(files) > limits.claim_xml_dossiers_max:
        raise TooMuch(
            f"the envelope holds {len(files)} dossiers, the limit is {limits.claim_xml_dossiers_max}", at="GIAMDINHHS"
        )
    left = limits.claim_xml_bytes_max
    dossiers = []
    for number, one in enumerate(files, start=1):
        at = f"HOSO[{number}]"
        documents = _documents(one, at, left)
        left -= sum(map(len, documents.values()))
        dossiers.append(_dossier(documents, at))
    return Envelope((root.findtext("THONGTINDONVI/MACSKCB") or "").strip(), tuple(dossiers))


def parse(body: bytes, at: str) -> etree._Element:
    """One XML document, with nothing in it that reaches outside it."""
    body = body.removeprefix(_BOM)
    declared = _ENCODING.match(body)
    if declared and declared[1].strip().lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise Malformed("the encoding is UTF-8", at=at)
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"byte {error.start} is not UTF-8", at=at) from error
    if _DOCTYPE.search(body):
        raise Malformed("a document type declaration is not accepted", at=at)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        # the library's text may quote the document, which names a patient: only the place is told
        line, column = error.position
        raise Malformed(f"not well-formed XML at line {line}, column {column}", at=at) from error
    if root.getroottree().docinfo.doctype:
        raise Malformed("a document type declaration is not accepted", at=at)
    return root


def _documents(one: etree._Element, at: str, bytes_max: int) -> dict[str, bytes]:
    """Table code → its XML document."""
    documents: dict[str, bytes] = {}
    for number, part in enumerate(one.findall("FILEHOSO"), start=1):
        code = (part.findtext("LOAIHOSO") or "").strip()
        place = f"{at}.FILEHOSO[{number}]"
        if code not in FILE_CODES:
            raise Malformed("LOAIHOSO names no table of the envelope (XML1 to XML15)", at=f"{place}.LOAIHOSO")
        if code in documents:
            raise Malformed(f"{code} stands twice in one HOSO", at=place)
        content = "".join((part.findtext("NOIDUNGFILE") or "").split())
        if len(content) * 3 // 4 > bytes_max:
            raise TooMuch("the tables of the envelope are over its limit together", at=place)
        try:
            documents[code] = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Malformed("NOIDUNGFILE is not base64", at=f"{place}.NOIDUNGFILE") from error
        bytes_max -= len(documents[code])
    if "XML1" not in documents:
        raise Malformed("a HOSO has an XML1", at=at)
    return documents


def _dossier(documents: Mapping[str, bytes], at: str) -> Dossier:
    rows = {code: rows_of(tables()[code], documents[code], f"{at}.{code}") for code in MAPPED if code in documents}
    rest = {code: body for code, body in documents.items() if code not in MAPPED}
    for code, body in rest.items():
        if parse(body, f"{at}.{code}").tag != tables()[code].root:
            raise Malformed(f"the root element is {tables()[code].root}", at=f"{at}.{code}")
    return Dossier(at, rows, rest)


def rows_of(table: Table, body: bytes, at: str) -> list[Row]:
    """The records of one table document."""
    root = parse(body, at)
    if root.tag != table.root:
        raise Malformed(f"the root element is {table.root}", at=at)
    if not table.repeats:
        return [_row(root, at)]
    assert table.list_tag, "a table that repeats has a list"
    holder = root.find(table.list_tag)
    if holder is None:
        raise Malformed(f"the list element is {table.list_tag}", at=at)
    records = list(holder)
    wrong = next((n for n, record in enumerate(records, start=1) if record.tag != table.record_tag), None)
    if wrong is not None:
        raise Malformed(f"the record element is {table.record_tag}", at=f"{at}[{wrong}]")
    return [_row(record, f"{at}[{number}]") for number, record in enumerate(records, start=1)]


def _row(record: etree._Element, at: str) -> Row:
    row: Row = {}
    for field in record:
        name = str(field.tag)
        if len(field):
            raise Malformed("a field holds text, no elements", at=f"{at}.{name}")
        if name in row:
            raise Malformed("a field stands twice in one record", at=f"{at}.{name}")
        row[name] = (field.text or "").strip()
    return row
