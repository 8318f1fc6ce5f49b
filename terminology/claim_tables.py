"""The national claim tables XML0 to XML15: containers, field order, type, width and required rule of each.

In:     a version, "4750" (QĐ 4750/QĐ-BYT, 29/12/2023) or "3176" (QĐ 3176/QĐ-BYT, 29/10/2024)
Out:    Table and Field records; check_row names every breach of one row
Source: annex of QĐ 130/2023 as amended by QĐ 4750 ("annex"), the validator sheet of Viet Nam Social Security
        ("validator"), containers of letter CV 1245/BHXH-CNTT 03/05/2024. The changes of QĐ 3176 are those two
        public implementations agree on; its original annex is not public.

data/claim_fields.csv holds one line a field: what the annex says, what the validator checks, what QĐ 4750 amended
(S made a string; a number widened), and when the field must be filled. The letters are S string, N number; the
figure is the width, * where none is stated.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Final, Literal

Version = Literal["4750", "3176"]
Kind = Literal["string", "number"]

NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
"""No field of these tables is below zero."""
SUMS: Final[Mapping[str, str]] = {
    "T_TONGCHI_BV": "THANH_TIEN_BV",
    "T_TONGCHI_BH": "THANH_TIEN_BH",
    "T_BNTT": "T_BNTT",
    "T_BNCCT": "T_BNCCT",
    "T_BHTT": "T_BHTT",
    "T_NGUONKHAC": "T_NGUONKHAC",
}
"""Totals of XML1 → the field of XML2 and XML3 that they add up."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What one text says of a field: its kind and its width (None: no limit stated)."""

    kind: Kind
    width: int | None


@dataclass(frozen=True, slots=True)
class Requirement:
    """When a field must be filled.

    rule    yes, no; if (field has one of values), unless (it has none of them), with (all fields filled),
            without (none of fields filled), as4210 (the older rule, which depends on lists we do not hold)
    """

    rule: str
    fields: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    def applies(self, row: Mapping[str, str]) -> bool:
        if self.rule == "if":
            return row.get(self.fields[0], "") in self.values
        if self.rule == "unless":
            return row.get(self.fields[0], "") not in self.values
        if self.rule == "with":
            return all(row.get(name) for name in self.fields)
        if self.rule == "without":
            return not any(row.get(name) for name in self.fields)
        return self.rule == "yes"


@dataclass(frozen=True, slots=True)
class Field:
    """One tag of a record. kind and width are what a sender must keep to; annex and validator what each text says."""

    name: str
    kind: Kind
    width: int | None
    required: Requirement
    annex: Bound
    validator: Bound


@dataclass(frozen=True, slots=True)
class Table:
    """One table: the root tag, the list and record tags where it repeats, and its fields in the order of sending."""

    code: str
    root: str
    list_tag: str | None
    record_tag: str | None
    fields: tuple[Field, ...]

    @property
    def repeats(self) -> bool:
        return self.record_tag is not None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken rule of one row. Holds no value of the row, so that it may be logged and stored."""

    field: str
    rule: Literal["required", "width", "number", "unknown"]
    text: str


_HIV: Final = "HO_SO_BENH_AN_CHAM_SOC_VA_DIEU_TRI_HIV_AIDS"
_CONTAINERS: Final[dict[str, tuple[str, str | None, str | None]]] = {
    "XML0": ("CHI_TIEU_TRANG_THAI_KCB", "DSACH_TRANG_THAI_KCB", "TRANG_THAI_KCB"),
    "XML1": ("TONG_HOP", None, None),
    "XML2": ("CHITIEU_CHITIET_THUOC", "DSACH_CHI_TIET_THUOC", "CHI_TIET_THUOC"),
    "XML3": ("CHITIEU_CHITIET_DVKT_VTYT", "DSACH_CHI_TIET_DVKT", "CHI_TIET_DVKT"),
    "XML4": ("CHITIEU_CHITIET_DICHVUCANLAMSANG", "DSACH_CHI_TIET_CLS", "CHI_TIET_CLS"),
    "XML5": ("CHITIEU_CHITIET_DIENBIENLAMSANG", "DSACH_CHI_TIET_DIEN_BIEN_BENH", "CHI_TIET_DIEN_BIEN_BENH"),
    "XML6": (f"CHI_TIEU_{_HIV}", f"DSACH_{_HIV}", _HIV),
    "XML7": ("CHI_TIEU_DU_LIEU_GIAY_RA_VIEN", None, None),
    "XML8": ("CHI_TIEU_DU_LIEU_TOM_TAT_HO_SO_BENH_AN", None, None),
    "XML9": ("CHI_TIEU_DU_LIEU_GIAY_CHUNG_SINH", "DSACH_GIAYCHUNGSINH", "DU_LIEU_GIAY_CHUNG_SINH"),
    "XML10": ("CHI_TIEU_DU_LIEU_GIAY_NGHI_DUONG_THAI", None, None),
    "XML11": ("CHI_TIEU_DU_LIEU_GIAY_CHUNG_NHAN_NGHI_VIEC_HUONG_BAO_HIEM_XA_HOI", None, None),
    "XML12": ("", None, None),  # typed on the portal, never sent as a file (CV 1245 gives no skeleton)
    "XML13": ("CHI_TIEU_GIAYCHUYENTUYEN", None, None),
    "XML14": ("CHI_TIEU_GIAYHEN_KHAMLAI", None, None),
    "XML15": ("CHI_TIEU_DIEUTRI_BENHLAO", "DSACH_CHITIET_DIEUTRI_BENHLAO", "CHITIET_DIEUTRI_BENHLAO"),
}

FILE_CODES: Final = tuple(code for code in _CONTAINERS if code not in {"XML0", "XML12"})
"""Tables that travel in a GIAMDINHHS envelope, in their order (XML0 is sent alone, XML12 never)."""

_RENAMED_3176: Final = {
    ("XML13", "MA_NOI_DI"): "MA_CSKCB_DI",
    ("XML13", "MA_NOI_DEN"): "MA_CSKCB_DEN",
    ("XML13", "PP_DIEU_TRI"): "TINH_TRANG_CT",
}
_DROPPED_3176: Final = {("XML13", "TEN_DICH_VU"), ("XML13", "TEN_THUOC")}
_OPTIONAL_3176: Final = {("XML1", "MAHUYEN_CU_TRU")}
"""No checker of 3176 asks for the district, which was abolished on 01/07/2025."""

_WIDENED_3176: Final = {
    ("XML2", "MA_KHOA"): 50,
    ("XML3", "TT_THAU"): 255,
    ("XML3", "MA_BENH_YHCT"): 150,  # narrower than before
    ("XML4", "MA_DICH_VU"): 50,
    ("XML4", "MA_CHI_SO"): 255,
    ("XML4", "GIA_TRI"): 255,
}


def table(code: str, version: Version = "3176") -> Table:
    """One table of a version; KeyError for a code outside XML0 to XML15."""
    return tables(version)[code]


@cache
def tables(version: Version = "3176") -> Mapping[str, Table]:
    """All sixteen tables of a version by code."""
    rows: dict[str, list[Field]] = {code: [] for code in _CONTAINERS}
    text = (files("terminology") / "data" / "claim_fields.csv").read_text("utf-8")
    for line in csv.DictReader(text.splitlines()):
        code, field = line["table"], _field(line)
        if version == "3176":
            key = (code, field.name)
            if key in _DROPPED_3176:
                continue
            field = replace(
                field,
                name=_RENAMED_3176.get(key, field.name),
                width=_WIDENED_3176.get(key, field.width),
                required=Requirement("no") if key in _OPTIONAL_3176 else field.required,
            )
        rows[code].append(field)
    return {code: Table(code, *_CONTAINERS[code], tuple(fields)) for code, fields in rows.items()}


def check_row(of: Table, row: Mapping[str, str]) -> list[Breach]:
    """Every breach of one row: unknown tags, empty required fields, over-wide values, numbers that are none."""
    breaches = [Breach(name, "unknown", f"{of.code} has no field {name}") for name in row if name not in set(of.names)]
    for field in of.fields:
        value = row.get(field.name, "")
        if not value:
            if field.required.applies(row):
                breaches.append(Breach(field.name, "required", f"{of.code}.{field.name} must be filled"))
            continue
        if field.width is not None and len(value) > field.width:
            breaches.append(
                Breach(field.name, "width", f"{of.code}.{field.name} has {len(value)} of {field.width} characters")
            )
        if field.kind == "number" and not NUMBER.fullmatch(value):
            breaches.append(Breach(field.name, "number", f"{of.code}.{field.name} is not a number from 0 up"))
    return breaches


def _field(line: Mapping[str, str]) -> Field:
    annex, validator, amended = _bound(line["annex"]), _bound(line["validator"]), line["amended"]
    kind: Kind = "string" if amended.startswith("S") else validator.kind
    digits = amended.removeprefix("S")
    width = int(digits) if digits else validator.width
    return Field(line["field"], kind, width, _requirement(line["required"]), annex, validator)


def _bound(text: str) -> Bound:
    return Bound("string" if text[0] == "S" else "number", None if text[1:] == "*" else int(text[1:]))


def _requirement(text: str) -> Requirement:
    rule, *rest = text.split()
    if rule in {"if", "unless"}:
        return Requirement(rule, (rest[0],), tuple(rest[1:]))
    return Requirement(rule, tuple(rest))
