"""Turn the person and the card of XML1 into Patient, Coverage and body weight.

Keeps:   SO_CCCD with the kind its form tells: 12 digits CCCD, 9 digits CMND, a letter and 7 digits passport
Source:  QĐ 4750 table XML1; ehr.fhir.vietnam
"""

import re
from decimal import Decimal
from typing import Final

from adapters import systems
from adapters.claim_xml.columns import add_columns, category, parts
from adapters.claim_xml.envelope import Row
from adapters.claim_xml.moments import day, minute
from adapters.draft import Draft, Tree
from adapters.moments import birth
from ehr.fhir import vietnam, vital_signs
from ehr.fhir.elements import coded, reference
from terminology.claim_tables import NUMBER

_KINDS: Final = (
    (re.compile(r"\d{12}"), vietnam.NATIONAL_ID, "NI"),
    (re.compile(r"\d{9}"), systems.CITIZEN_ID, "NI"),
    (re.compile(r"[A-Z]\d{7}"), vietnam.PASSPORT_NUMBER, "PPN"),
)
PERSON_COLUMNS: Final = (
    "MA_QUOCTICH",
    "MA_DANTOC",
    "MA_NGHE_NGHIEP",
    "MATINH_CU_TRU",
    "MAHUYEN_CU_TRU",
    "MAXA_CU_TRU",
    "NHOM_MAU",
)
CARD_COLUMNS: Final = ("MA_KHUVUC", "NAM_NAM_LIEN_TUC", "NGAY_MIEN_CCT")


def patient(draft: Draft, summary: Row) -> str:
    number = summary["MA_BN"]
    assigner = {"identifier": {"system": vietnam.FACILITY_CODE, "value": draft.origin.facility_code}}
    identifiers: list[Tree] = [
        {"type": _type("PI"), "system": vietnam.PATIENT_NUMBER, "value": number, "assigner": assigner}
    ]
    document = summary.get("SO_CCCD", "")
    if document:
        system, code = next(
            ((system, code) for form, system, code in _KINDS if form.fullmatch(document)),
            (systems.local("number:SO_CCCD"), "U"),
        )
        identifiers.append({"type": _type(code), "system": system, "value": document})
    identifiers += [
        {"type": _type("SB"), "system": vietnam.INSURANCE_NUMBER, "value": card}
        for card in dict.fromkeys(parts(summary, "MA_THE_BHYT"))
    ]
    resource: Tree = {
        "resourceType": "Patient",
        "identifier": identifiers,
        "name": [{"text": summary["HO_TEN"]}],
        "gender": vietnam.GENDER_OF_SEX.get(summary["GIOI_TINH"], "unknown"),
    }
    resource |= birth(summary["NGAY_SINH"], minute(summary["NGAY_SINH"]))
    if summary.get("DIEN_THOAI"):
        resource["telecom"] = [{"system": "phone", "value": summary["DIEN_THOAI"]}]
    if summary.get("DIA_CHI"):
        resource["address"] = [{"use": "home", "text": summary["DIA_CHI"], "country": "VN"}]
    add_columns(resource, summary, PERSON_COLUMNS)
    if draft.origin.organization:
        resource["managingOrganization"] = reference(draft.origin.organization)
    return draft.state(resource, vietnam.PATIENT_NUMBER, number)


def coverages(draft: Draft, summary: Row, patient_url: str) -> None:
    """One Coverage a card; the columns of cards are parallel lists."""
    registered, starts, ends = (parts(summary, name) for name in ("MA_DKBD", "GT_THE_TU", "GT_THE_DEN"))
    for number, card in enumerate(parts(summary, "MA_THE_BHYT")):
        resource: Tree = {
            "resourceType": "Coverage",
            "identifier": [{"system": vietnam.INSURANCE_NUMBER, "value": card}],
            "status": "active",
            "subscriberId": card,
            "beneficiary": reference(patient_url),
            "payor": [{"display": vietnam.SOCIAL_INSURANCE}],
        }
        period = {name: day(parts[number]) for name, parts in (("start", starts), ("end", ends)) if parts[number:]}
        if period:
            resource["period"] = period
        own = {name: summary[name] for name in CARD_COLUMNS if summary.get(name)}
        if registered[number:]:
            own["MA_DKBD"] = registered[number]
        if own:
            resource["extension"] = [vietnam.columns_extension(own)]
        draft.state(resource, vietnam.INSURANCE_NUMBER, card)


def weight(draft: Draft, summary: Row, patient_url: str, visit_url: str) -> None:
    """CAN_NANG with its digits."""
    text = summary.get("CAN_NANG", "")
    if not NUMBER.fullmatch(text):
        return
    system, value = systems.local("observation"), f"{summary['MA_LK']}/XML1/CAN_NANG"
    draft.state(
        {
            "resourceType": "Observation",
            "identifier": [{"system": system, "value": value}],
            "status": "final",
            "category": [category("vital-signs")],
            "code": {
                "coding": [{"system": vietnam.LOINC, "code": vital_signs.WEIGHT, "display": "Body weight"}],
                "text": "Cân nặng",
            },
            "subject": reference(patient_url),
            "encounter": reference(visit_url),
            "effectiveDateTime": minute(summary["NGAY_VAO"]),
            "valueQuantity": {"value": Decimal(text), "unit": "kg", "system": vietnam.UCUM, "code": "kg"},
        },
        system,
        value,
    )


def _type(code: str) -> Tree:
    return coded(systems.IDENTIFIER_TYPE, code)
