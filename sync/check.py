"""A dossier → everything a checker of the insurer would refuse in it.

Source: rules of the validator sheet (terminology.claim_tables); the checks that live systems run before sending:
        parallel card lists, ≤ 12 secondary diagnoses, order of times, totals of XML1 = sums of XML2 and XML3; codes,
        rates and forms of times as the annex of QĐ 4750 gives them with a field
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from ehr.errors import Issue
from sync.benefit import CARD
from sync.dossier import SECONDARY_MAX, Charge, Columns, Dossier
from sync.moments import is_moment
from terminology.claim_tables import SUMS, Version, check_row, tables

_CARD_LISTS: Final = ("MA_DKBD", "GT_THE_TU", "GT_THE_DEN")
_CODES: Final = {"required": "required", "width": "too-long", "number": "value", "unknown": "structure"}

_CODES_OF_STAY: Final[Mapping[str, str]] = {"GIOI_TINH": "123", "KET_QUA_DTRI": "12345678", "MA_LOAI_RV": "12345"}
_CODES_OF_CHARGE: Final[Mapping[str, str]] = {"PHAM_VI": "123", "MA_PTTT": "123"}
_MOMENTS_OF_STAY: Final = ("NGAY_VAO", "NGAY_VAO_NOI_TRU", "NGAY_RA")
_MOMENTS_OF_CHARGE: Final = ("NGAY_YL", "NGAY_TH_YL", "NGAY_KQ")
_MINUTE: Final = 12
_RATES: Final = ("MUC_HUONG", "TYLE_TT_BH")
_WHOLE: Final = Decimal(100)


def check(dossier: Dossier, version: Version = "3176") -> list[Issue]:
    """Every problem; empty when the dossier may be sent."""
    issues: list[Issue] = []
    for code, rows in dossier.tables():
        table = tables(version)[code]
        for number, row in enumerate(rows, start=1):
            at = f"{code}[{number}]." if table.repeats else f"{code}."
            issues += [Issue(_CODES[breach.rule], breach.text, at + breach.field) for breach in check_row(table, row)]
    issues += _values(dossier.summary, "XML1", _CODES_OF_STAY, _MOMENTS_OF_STAY)
    for charge in dossier.charges:
        at = f"{charge.table}[{charge.columns['STT']}]"
        issues += _values(charge.columns, at, _CODES_OF_CHARGE, _MOMENTS_OF_CHARGE)
        issues += _rates(charge, at)
    issues += _summary(dossier.summary)
    issues += _times(dossier)
    issues += _sums(dossier)
    return issues


def _values(row: Columns, at: str, codes: Mapping[str, str], moments: tuple[str, ...]) -> Iterator[Issue]:
    for name, allowed in codes.items():
        if row.get(name) and row[name] not in set(allowed):
            yield Issue("code-invalid", f"{name} is none of {', '.join(allowed)}", f"{at}.{name}")
    for name in moments:
        if row.get(name) and not (len(row[name]) == _MINUTE and is_moment(row[name])):
            yield Issue("value", f"{name} is no minute of the calendar; write yyyymmddHHMM", f"{at}.{name}")


def _rates(charge: Charge, at: str) -> Iterator[Issue]:
    row = charge.columns
    for name in _RATES:
        if Decimal(row[name]) > _WHOLE:
            yield Issue("value", f"{name} is more than 100 percent", f"{at}.{name}")
    if not Decimal(row["SO_LUONG"]):
        text = "SO_LUONG is 0; a charge that was taken back has a status that says so"
        yield Issue("value", text, f"{at}.SO_LUONG")


def _summary(row: Columns) -> Iterator[Issue]:
    cards = row.get("MA_THE_BHYT", "").split(";")
    for card in cards:
        if not CARD.fullmatch(card):
            yield Issue("value", "the card number has not the form of a BHYT card", "XML1.MA_THE_BHYT")
    for name in _CARD_LISTS:
        parts = row.get(name, "").split(";")
        if len(parts) != len(cards) or not all(parts):
            yield Issue("business-rule", f"{name} must have one part for each card", f"XML1.{name}")
    if len(row.get("MA_BENH_KT", "").split(";")) > SECONDARY_MAX:
        yield Issue("business-rule", f"more than {SECONDARY_MAX} secondary diagnoses", "XML1.MA_BENH_KT")
    if row.get("NGAY_RA", "") < row.get("NGAY_VAO", ""):
        yield Issue("business-rule", "NGAY_RA is before NGAY_VAO", "XML1.NGAY_RA")
    if row.get("NGAY_VAO_NOI_TRU") and row["NGAY_VAO_NOI_TRU"] < row.get("NGAY_VAO", ""):
        yield Issue("business-rule", "NGAY_VAO_NOI_TRU is before NGAY_VAO", "XML1.NGAY_VAO_NOI_TRU")


def _times(dossier: Dossier) -> Iterator[Issue]:
    if not dossier.charges:
        yield Issue("business-rule", "an episode without any charge is not claimed", "XML3")
    for charge in dossier.charges:
        row = charge.columns
        ordered = row.get("NGAY_YL", "")
        for name in ("NGAY_TH_YL", "NGAY_KQ"):
            if row.get(name) and row[name] < ordered:
                at = f"{charge.table}[{row.get('STT')}].{name}"
                yield Issue("business-rule", f"{name} is before NGAY_YL", at)


def _sums(dossier: Dossier) -> Iterator[Issue]:
    """Added up anew from the texts as they will be read, not from our own numbers."""
    rows = [charge.columns for charge in dossier.charges]
    for total, part in SUMS.items():
        if Decimal(dossier.summary[total]) != sum((Decimal(row[part]) for row in rows), Decimal(0)):
            yield Issue("business-rule", f"{total} is not the sum of {part} of XML2 and XML3", f"XML1.{total}")
