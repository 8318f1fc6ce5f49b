"""Turn rows of XML5 into ClinicalImpressions, and the vital signs written in them into Observations.

Keeps:   the note whole, as summary; what is read out of it stands beside it, with its digits
Source:  QĐ 4750 table XML5: "CSST<M75_T37_HA120/70_NT18_HL2>" (pulse, temperature, blood pressure, breathing, SpO2)
"""

import re
from decimal import Decimal
from typing import Final

from adapters import systems
from adapters.claim_xml.columns import add_columns, category, clinicians
from adapters.claim_xml.envelope import Row
from adapters.claim_xml.moments import minute
from adapters.claim_xml.stay import Stay
from adapters.draft import Tree
from ehr.fhir import vietnam, vital_signs

_NUMBER: Final = r"(\d{1,3}(?:\.\d{1,2})?)"
_SIGNS: Final = re.compile(
    rf"(?<![\w.])M{_NUMBER}_T{_NUMBER}(?:_HA{_NUMBER}/{_NUMBER})?(?:_NT{_NUMBER})?(?:_SP{_NUMBER})?(?=[_>\s.,;]|$)"
)
PULSE: Final = (vital_signs.PULSE, "Heart rate", "/min")
TEMPERATURE: Final = (vital_signs.TEMPERATURE, "Body temperature", "Cel")
BREATHS: Final = (vital_signs.BREATHS, "Respiratory rate", "/min")
OXYGEN: Final = (vital_signs.OXYGEN, "Oxygen saturation by pulse oximetry", "%")
PRESSURE: Final = (vital_signs.PRESSURE, "Blood pressure panel", "")
SYSTOLIC: Final = (vital_signs.SYSTOLIC, "Systolic blood pressure", "mm[Hg]")
DIASTOLIC: Final = (vital_signs.DIASTOLIC, "Diastolic blood pressure", "mm[Hg]")
Sign = tuple[str, str, str]


def notes(stay: Stay, rows: list[Row]) -> None:
    for row in rows:
        system, value = systems.local("note"), f"{row['MA_LK']}/XML5/{row['STT']}"
        resource: Tree = {
            "resourceType": "ClinicalImpression",
            "identifier": [{"system": system, "value": value}],
            "status": "completed",
            "subject": stay.patient,
            "encounter": stay.visit,
            "effectiveDateTime": minute(row["THOI_DIEM_DBLS"]),
            "date": minute(row["THOI_DIEM_DBLS"]),
            "summary": row["DIEN_BIEN_LS"],
        }
        writers = clinicians(row, "NGUOI_THUC_HIEN")
        if writers:
            resource["assessor"] = writers[0]
        add_columns(resource, row, ("GIAI_DOAN_BENH", "HOI_CHAN", "PHAU_THUAT", "NGUOI_THUC_HIEN", "DU_PHONG"))
        stay.draft.state(resource, system, value)
        _vital_signs(stay, row)


def _vital_signs(stay: Stay, row: Row) -> None:
    found = _SIGNS.search(row["DIEN_BIEN_LS"])
    if not found:
        return
    pulse, temperature, systolic, diastolic, breaths, oxygen = found.groups()
    for sign, text in ((PULSE, pulse), (TEMPERATURE, temperature), (BREATHS, breaths), (OXYGEN, oxygen)):
        if text:
            _sign(stay, row, sign, {"valueQuantity": _quantity(sign, text)})
    if systolic:
        parts = [
            {"code": _code(sign), "valueQuantity": _quantity(sign, text)}
            for sign, text in ((SYSTOLIC, systolic), (DIASTOLIC, diastolic))
        ]
        _sign(stay, row, PRESSURE, {"component": parts})


def _sign(stay: Stay, row: Row, sign: Sign, content: Tree) -> None:
    system, value = systems.local("observation"), f"{row['MA_LK']}/XML5/{row['STT']}/{sign[0]}"
    resource: Tree = {
        "resourceType": "Observation",
        "identifier": [{"system": system, "value": value}],
        "status": "final",
        "category": [category("vital-signs")],
        "code": _code(sign),
        "subject": stay.patient,
        "encounter": stay.visit,
        "effectiveDateTime": minute(row["THOI_DIEM_DBLS"]),
        **content,
    }
    writers = clinicians(row, "NGUOI_THUC_HIEN")
    if writers:
        resource["performer"] = writers
    stay.draft.state(resource, system, value)


def _code(sign: Sign) -> Tree:
    return {"coding": [{"system": vietnam.LOINC, "code": sign[0], "display": sign[1]}]}


def _quantity(sign: Sign, text: str) -> Tree:
    return {"value": Decimal(text), "unit": sign[2], "system": vietnam.UCUM, "code": sign[2]}
