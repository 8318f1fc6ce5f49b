"""Dossiers of one facility → the GIAMDINHHS envelope as bytes, always the same bytes for the same dossiers.

Source: CV 1245/BHXH-CNTT 03/05/2024, section 3.4 (envelope) and its appendix (containers); tag order of QĐ 4750,
        names of QĐ 3176. CHUKYDONVI stays empty: the scope of the facility's signature is in an XSD that is not
        public, and no kept library here signs XML (docs/adr/0053).
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

from lxml import etree

from sync.dossier import Columns, Dossier
from terminology.claim_tables import Table, Version, tables

_NAMESPACES: Final = {
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "xsd": "http://www.w3.org/2001/XMLSchema",
}

_NOT_XML: Final = {0xFFFE: " ", 0xFFFF: " "}


def table_document(table: Table, rows: Sequence[Columns]) -> bytes:
    """The XML document of one table: every field in its order, empty ones too."""
    root = etree.Element(table.root)
    if table.list_tag is None or table.record_tag is None:
        assert len(rows) == 1, "a table without a list has one record"
        _fields(root, table, rows[0])
    else:
        listed = etree.SubElement(root, table.list_tag)
        for row in rows:
            _fields(etree.SubElement(listed, table.record_tag), table, row)
    return _bytes(root)


def hoso(dossier: Dossier, version: Version = "3176") -> etree._Element:
    """One HOSO: a FILEHOSO for each table of the dossier."""
    element = etree.Element("HOSO")
    for code, rows in dossier.tables():
        file = etree.SubElement(element, "FILEHOSO")
        etree.SubElement(file, "LOAIHOSO").text = code
        content = table_document(tables(version)[code], rows)
        etree.SubElement(file, "NOIDUNGFILE").text = base64.b64encode(content).decode("ascii")
    return element


def hoso_sha256(element: etree._Element) -> bytes:
    """What identifies the content of a dossier: sent again only when this differs."""
    return hashlib.sha256(etree.tostring(element)).digest()


def envelope(facility_code: str, made_on: date, dossiers: Iterable[etree._Element]) -> bytes:
    """The whole file of one batch."""
    root = etree.Element("GIAMDINHHS", nsmap=_NAMESPACES)
    unit = etree.SubElement(root, "THONGTINDONVI")
    etree.SubElement(unit, "MACSKCB").text = facility_code
    information = etree.SubElement(root, "THONGTINHOSO")
    etree.SubElement(information, "NGAYLAP").text = made_on.strftime("%Y%m%d")
    count = etree.SubElement(information, "SOLUONGHOSO")
    listed = etree.SubElement(information, "DANHSACHHOSO")
    listed.extend(dossiers)
    count.text = str(len(listed))
    etree.SubElement(root, "CHUKYDONVI")
    return _bytes(root)


def _fields(record: etree._Element, table: Table, row: Columns) -> None:
    for field in table.fields:
        etree.SubElement(record, field.name).text = _legal(row.get(field.name, ""))


def _legal(text: str) -> str:
    """XML 1.0 cannot carry some characters that a FHIR string may hold."""
    return "".join(sign if sign >= " " or sign in "\t\n\r" else " " for sign in text).translate(_NOT_XML)


def _bytes(root: etree._Element) -> bytes:
    return etree.tostring(root, encoding="utf-8", xml_declaration=True)
