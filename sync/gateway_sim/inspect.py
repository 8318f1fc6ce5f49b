"""A HOSO as received → taken over, or refused with a reason: the insurer's own reading, not the sender's.

Source: validator sheet (terminology.claim_tables); formulas of QĐ 4750; ICD-10 annex A2 (codes never a main
        diagnosis: external causes, organisms B95 to B97, resistance U80 to U89)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final

from terminology.claim_tables import SUMS, Version, check_row, tables

Row = Mapping[str, str]
Hoso = Mapping[str, Sequence[Row]]

_CARD: Final = re.compile(r"[A-Z]{2}[1-5][0-9]{12}")
_MAIN: Final = re.compile(r"[A-Z][0-9]{2}(\.[0-9]{1,2})?[†]?")
_NEVER_MAIN: Final = re.compile(r"[VWXY].*|B9[5-7].*|U8.*|.*\*")
_FORM: Final = re.compile(r"0[1-9]|1[0-6]")
_CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Fault:
    """A reason to refuse: a code of ours and words as an appraiser would write them."""

    code: str
    text: str


def faults_of(hoso: Hoso, facility_code: str, version: Version) -> Iterator[Fault]:
    """Everything wrong with one dossier."""
    summary = hoso["XML1"][0]
    for code, rows in hoso.items():
        table = tables(version).get(code)
        if table is None:
            yield Fault("CAU_TRUC", f"{code}: bảng không có trong quy định")
            continue
        for row in rows:
            for breach in check_row(table, row):
                yield Fault("CAU_TRUC", f"{code}.{breach.field}: {breach.rule}")
            if row.get("MA_LK") != summary.get("MA_LK"):
                yield Fault("MA_LK", f"{code}: MA_LK khác XML1")
    if summary.get("MA_CSKCB") != facility_code:
        yield Fault("MA_CSKCB", "MA_CSKCB khác đơn vị gửi")
    if not all(_CARD.fullmatch(card) for card in summary.get("MA_THE_BHYT", "").split(";")):
        yield Fault("THE_SAI", "Số thẻ BHYT không đúng cấu trúc")
    main = summary.get("MA_BENH_CHINH", "")
    if not _MAIN.fullmatch(main) or _NEVER_MAIN.fullmatch(main):
        yield Fault("ICD_CHINH", "Mã bệnh không được là bệnh chính")
    if not _FORM.fullmatch(summary.get("MA_LOAI_KCB", "")):
        yield Fault("LOAI_KCB", "MA_LOAI_KCB không có trong danh mục")
    yield from _money(hoso, summary)


def _money(hoso: Hoso, summary: Row) -> Iterator[Fault]:
    drugs, services = hoso.get("XML2", ()), hoso.get("XML3", ())
    try:
        for number, row in enumerate(drugs, start=1):
            expected = _number(row, "SO_LUONG") * _number(row, "DON_GIA")
            yield from _row_fault("XML2", number, row, expected, expected)
        for number, row in enumerate(services, start=1):
            share = _number(row, "SO_LUONG") * _number(row, "TYLE_TT_DV") / 100
            bv, bh = share * _number(row, "DON_GIA_BV"), share * _number(row, "DON_GIA_BH")
            yield from _row_fault("XML3", number, row, bv, bh)
        rows = [*drugs, *services]
        for total, part in SUMS.items():
            if _number(summary, total) != sum((_number(row, part) for row in rows), Decimal(0)):
                yield Fault("TONG_TIEN", f"XML1.{total} khác tổng {part} của XML2 và XML3")
        if _number(summary, "T_THUOC") != sum((_number(row, "THANH_TIEN_BV") for row in drugs), Decimal(0)):
            yield Fault("TONG_TIEN", "XML1.T_THUOC khác tổng XML2")
    except InvalidOperation:
        yield Fault("TONG_TIEN", "Số tiền không phải là số")


def _row_fault(table: str, number: int, row: Row, bv: Decimal, bh_full: Decimal) -> Iterator[Fault]:
    at = f"{table}[{number}]"
    stated_bv, stated_bh = _number(row, "THANH_TIEN_BV"), _number(row, "THANH_TIEN_BH")
    if stated_bv != _cents(bv):
        yield Fault("THANH_TIEN", f"{at}.THANH_TIEN_BV sai công thức")
    if stated_bh != _cents(bh_full * _number(row, "TYLE_TT_BH") / 100):
        yield Fault("THANH_TIEN", f"{at}.THANH_TIEN_BH sai công thức")
    parts = sum((_number(row, name) for name in ("T_BNTT", "T_BNCCT", "T_BHTT", "T_NGUONKHAC")), Decimal(0))
    if parts != stated_bv:
        yield Fault("THANH_TIEN", f"{at}: các nguồn chi trả không bằng THANH_TIEN_BV")
    if _number(row, "T_NGUONKHAC") == 0 and _number(row, "T_BHTT") != _cents(
        stated_bh * _number(row, "MUC_HUONG") / 100
    ):
        yield Fault("THANH_TIEN", f"{at}.T_BHTT sai mức hưởng")


def _number(row: Row, name: str) -> Decimal:
    return Decimal(row.get(name) or "0")


def _cents(value: Decimal) -> Decimal:
    return value.quantize(_CENT, ROUND_HALF_UP)
