"""Check the rows of a dossier before they are mapped: every breach with table, row and field.

In:      Dossier
Out:     list[Issue]; at is "HOSO[1].XML2[3].SO_LUONG"
Source:  terminology.claim_tables (widths, required fields, numbers); QĐ 4750 annex: one MA_LK in all tables, parallel
         lists of cards; totals of XML1 are sums of XML2 and XML3
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from adapters.claim_xml.columns import parts
from adapters.claim_xml.envelope import MAPPED, Dossier, Row
from adapters.claim_xml.moments import Unreadable, day, minute
from ehr.errors import Issue
from terminology.claim_tables import SUMS, check_row, tables

_CODE_OF: Final = {"required": "required", "width": "value", "number": "value", "unknown": "structure"}
DONG: Final = Decimal(1)
"""Totals and rows are rounded apart: less than this is no difference."""
_CARD_LISTS: Final = ("MA_DKBD", "GT_THE_TU", "GT_THE_DEN")
_ICD10: Final = re.compile(r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?[*†]?")
_MINUTES: Final = frozenset(
    "NGAY_VAO NGAY_VAO_NOI_TRU NGAY_RA NGAY_TTOAN NGAY_YL NGAY_TH_YL NGAY_KQ THOI_DIEM_DBLS NGAY_SINH".split()  # noqa: SIM905
)


def check(dossier: Dossier, facility_code: str) -> list[Issue]:
    issues = list(_tables(dossier))
    summary, at = dossier.summary, f"{dossier.at}.XML1"
    link = summary.get("MA_LK", "")
    for code in MAPPED[1:]:
        for number, row in enumerate(dossier.rows.get(code, ()), start=1):
            if row.get("MA_LK") != link:
                issues.append(
                    Issue("value", f"{code}.MA_LK is not that of XML1", f"{dossier.at}.{code}[{number}].MA_LK")
                )
    if summary.get("MA_CSKCB") != facility_code:
        issues.append(Issue("forbidden", "XML1.MA_CSKCB is another facility than the sender", f"{at}.MA_CSKCB"))
    cards = summary.get("MA_THE_BHYT", "").split(";") if summary.get("MA_THE_BHYT") else []
    issues += [
        Issue("value", f"XML1.{name} has not as many parts as MA_THE_BHYT", f"{at}.{name}")
        for name in _CARD_LISTS
        if cards and len(summary.get(name, "").split(";")) != len(cards)
    ]
    for name in ("MA_BENH_CHINH", "MA_BENH_KT"):
        if any(not _ICD10.fullmatch(code) for code in parts(summary, name)):
            issues.append(Issue("code-invalid", f"XML1.{name} holds something other than ICD-10 codes", f"{at}.{name}"))
    if not issues and minute(summary["NGAY_RA"]) < minute(summary["NGAY_VAO"]):
        issues.append(Issue("value", "XML1.NGAY_RA is before NGAY_VAO", f"{at}.NGAY_RA"))
    return issues or list(_sums(dossier, at))


def _sums(dossier: Dossier, at: str) -> Iterator[Issue]:
    """A total that is not what the rows come to: rows are missing, or were changed after they were added up."""
    rows = [row for code in ("XML2", "XML3") for row in dossier.rows.get(code, ())]
    for total, part in SUMS.items():
        found = sum((Decimal(row.get(part) or 0) for row in rows), Decimal(0))
        if abs(Decimal(dossier.summary.get(total) or 0) - found) >= DONG:
            yield Issue("value", f"XML1.{total} is not the sum of {part} of XML2 and XML3, {found}", f"{at}.{total}")


def _tables(dossier: Dossier) -> Iterator[Issue]:
    for code in MAPPED:
        table = tables()[code]
        seen: set[str] = set()
        for number, row in enumerate(dossier.rows.get(code, ()), start=1):
            at = f"{dossier.at}.{code}" + (f"[{number}]" if table.repeats else "")
            for breach in check_row(table, row):
                yield Issue(_CODE_OF[breach.rule], breach.text, f"{at}.{breach.field}")
            yield from _moments(row, code, at)
            if table.repeats and row.get("STT") in seen:
                yield Issue("duplicate", f"{code}.STT stands twice", f"{at}.STT")
            seen.add(row.get("STT", ""))


def _moments(row: Row, code: str, at: str) -> Iterator[Issue]:
    for name in _MINUTES & row.keys():
        if row[name]:
            try:
                minute(row[name])
            except Unreadable as error:
                yield Issue("value", f"{code}.{name} is {error}", f"{at}.{name}")
    for name in ("GT_THE_TU", "GT_THE_DEN"):
        for part in filter(None, row.get(name, "").split(";")):
            try:
                day(part)
            except Unreadable as error:
                yield Issue("value", f"{code}.{name} is {error}", f"{at}.{name}")
