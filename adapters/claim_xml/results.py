"""Turn rows of XML4 into Observations, and those of one service and one time into a DiagnosticReport.

Keeps:   GIA_TRI with its digits and DON_VI_DO as it is; a value that is no number as text; MO_TA and KET_LUAN
Source:  QĐ 4750 table XML4; ehr.fhir.vietnam
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from adapters import systems
from adapters.claim_xml.columns import add_columns, category, clinicians
from adapters.claim_xml.envelope import Row
from adapters.claim_xml.moments import minute
from adapters.claim_xml.stay import Stay
from adapters.draft import Tree
from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference

_LOINC: Final = re.compile(r"\d{1,5}-\d")
_NUMBER: Final = re.compile(r"(<=|>=|<|>)?\s*(-?(?:0|[1-9]\d*)(?:\.\d+)?)")
_CATEGORY: Final = {"1": "laboratory", "2": "imaging", "3": "procedure"}
_SECTION: Final = {"laboratory": "LAB", "imaging": "RAD", "procedure": "OTH"}


def results(stay: Stay, rows: list[Row], services: list[Row]) -> None:
    groups = {row["MA_DICH_VU"]: row.get("MA_NHOM", "") for row in services if row.get("MA_DICH_VU")}
    names = {row["MA_DICH_VU"]: row.get("TEN_DICH_VU", "") for row in services if row.get("MA_DICH_VU")}
    reports: dict[tuple[str, str, str], list[Tree]] = {}
    for row in rows:
        kind = _CATEGORY.get(
            groups.get(row.get("MA_DICH_VU", ""), ""), "laboratory" if row.get("GIA_TRI") else "imaging"
        )
        url = _observation(stay, row, kind)
        key = (row.get("MA_DICH_VU", ""), row.get("NGAY_KQ", ""), kind)
        reports.setdefault(key, []).append({"url": url, "row": row})
    for (service, when, kind), members in reports.items():
        if service:
            _report(stay, Study(service, names.get(service, ""), when, kind), members)


def _observation(stay: Stay, row: Row, kind: str) -> str:
    system, value = systems.local("observation"), f"{row['MA_LK']}/XML4/{row['STT']}"
    code: Tree = {"text": row["TEN_CHI_SO"]}
    indicator = " ".join(row.get("MA_CHI_SO", "").split())
    if indicator:
        own = vietnam.LOINC if _LOINC.fullmatch(indicator) else vietnam.MA_CHI_SO
        code = {"coding": [{"system": own, "code": indicator}], **code}
    resource: Tree = {
        "resourceType": "Observation",
        "identifier": [{"system": system, "value": value}],
        "status": "final",
        "category": [category(kind)],
        "code": code,
        "subject": stay.patient,
        "encounter": stay.visit,
    }
    if row.get("NGAY_KQ"):
        moment = minute(row["NGAY_KQ"])
        resource["effectiveDateTime"] = moment
        if "T" in moment:
            resource["issued"] = moment
    readers = clinicians(row, "MA_BS_DOC_KQ")
    if readers:
        resource["performer"] = readers
    resource |= _value(row)
    add_columns(resource, row, ("MA_DICH_VU", "MO_TA", "KET_LUAN", "DU_PHONG"))
    return stay.draft.state(resource, system, value)


def _value(row: Row) -> Tree:
    text = row.get("GIA_TRI", "")
    number = _NUMBER.fullmatch(text)
    if number:
        quantity: Tree = {"value": Decimal(number[2])}
        if number[1]:
            quantity["comparator"] = number[1]
        if row.get("DON_VI_DO"):
            quantity["unit"] = row["DON_VI_DO"]
        return {"valueQuantity": quantity}
    text = " ".join(part for part in (text, row.get("DON_VI_DO", "")) if part)
    text = text or row.get("KET_LUAN", "") or row.get("MO_TA", "")
    return {"valueString": text} if text else {}


@dataclass(frozen=True, slots=True)
class Study:
    """One service and the moment of its result. when: NGAY_KQ as sent."""

    service: str
    name: str
    when: str
    kind: str


def _report(stay: Stay, study: Study, members: list[Tree]) -> None:
    first: Mapping[str, str] = members[0]["row"]
    system, value = systems.local("report"), f"{first['MA_LK']}/XML4/{study.service}/{study.when}"
    code: Tree = coded(vietnam.MA_DICH_VU, study.service)
    if study.name:
        code["text"] = study.name
    resource: Tree = {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": system, "value": value}],
        "status": "final",
        "category": [coded(TERMINOLOGY + "v2-0074", _SECTION[study.kind])],
        "code": code,
        "subject": stay.patient,
        "encounter": stay.visit,
    }
    if study.when:
        resource["effectiveDateTime"] = minute(study.when)
    resource["result"] = [reference(member["url"]) for member in members]
    conclusions = [member["row"]["KET_LUAN"] for member in members if member["row"].get("KET_LUAN")]
    if conclusions:
        resource["conclusion"] = "\n".join(dict.fromkeys(conclusions))
    stay.draft.state(resource, system, value)
