"""Turn the course of XML1 into Encounter and Conditions.

Keeps:   every column that has no element of its own as a claim column; totals (T_…) too, so that a reader may compare
Source:  QĐ 4750 table XML1; ehr.fhir.vietnam
"""

from typing import Final

from adapters import systems
from adapters.claim_xml.columns import parts
from adapters.claim_xml.envelope import Row
from adapters.claim_xml.moments import minute
from adapters.claim_xml.person import CARD_COLUMNS, PERSON_COLUMNS
from adapters.draft import Draft, Tree
from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference

INPATIENT: Final = frozenset({"03", "04", "06", "09"})
_OWN_ELEMENT: Final = frozenset(
    """MA_LK STT MA_BN HO_TEN SO_CCCD NGAY_SINH GIOI_TINH DIA_CHI DIEN_THOAI MA_THE_BHYT MA_DKBD GT_THE_TU GT_THE_DEN
    MA_BENH_CHINH MA_BENH_KT MA_LOAI_KCB MA_LOAI_RV NGAY_VAO NGAY_RA MA_HSBA MA_CSKCB CAN_NANG LY_DO_VV""".split()  # noqa: SIM905
) | {*PERSON_COLUMNS, *CARD_COLUMNS}
_CONDITION: Final = TERMINOLOGY + "condition-"


def encounter(draft: Draft, summary: Row, patient_url: str) -> str:
    link = summary["MA_LK"]
    form = summary["MA_LOAI_KCB"]
    identifiers = [{"system": vietnam.EPISODE_LINK, "value": link}]
    if summary.get("MA_HSBA"):
        identifiers.append({"system": vietnam.RECORD_NUMBER, "value": summary["MA_HSBA"]})
    resource: Tree = {
        "resourceType": "Encounter",
        "identifier": identifiers,
        "status": "finished",
        "class": {"system": vietnam.ENCOUNTER_CLASS, "code": _class(summary, form)},
        "type": [coded(vietnam.MA_LOAI_KCB, form)],
        "subject": reference(patient_url),
        "period": {"start": minute(summary["NGAY_VAO"]), "end": minute(summary["NGAY_RA"])},
    }
    departments = parts(summary, "MA_KHOA")
    if departments:
        resource["serviceType"] = {"coding": [{"system": vietnam.MA_KHOA, "code": code} for code in departments]}
    if summary.get("LY_DO_VV"):
        resource["reasonCode"] = [{"text": summary["LY_DO_VV"]}]
    resource["hospitalization"] = {"dischargeDisposition": coded(vietnam.MA_LOAI_RV, summary["MA_LOAI_RV"])}
    resource["serviceProvider"] = draft.origin.facility
    left = {name: value for name, value in summary.items() if value and name not in _OWN_ELEMENT}
    if left:
        resource["extension"] = [vietnam.columns_extension(left)]
    url = draft.state(resource, vietnam.EPISODE_LINK, link)
    resource = draft.get(url)
    resource["diagnosis"] = _diagnoses(draft, summary, patient_url, url)
    return url


def _class(summary: Row, form: str) -> str:
    if form in INPATIENT:
        return "IMP"
    return "EMER" if summary.get("MA_DOITUONG_KCB", "").split(".")[0] == "2" else "AMB"


def _diagnoses(draft: Draft, summary: Row, patient_url: str, visit_url: str) -> list[Tree]:
    """MA_BENH_CHINH first, then MA_BENH_KT in their order, each a Condition named in the Encounter."""
    codes = [summary["MA_BENH_CHINH"].strip(), *parts(summary, "MA_BENH_KT")]
    result = []
    for rank, code in enumerate(dict.fromkeys(codes), start=1):
        system, value = systems.local("diagnosis"), f"{summary['MA_LK']}/XML1/{code}"
        concept: Tree = coded(vietnam.ICD_10, code)
        if rank == 1 and summary.get("CHAN_DOAN_RV"):
            concept["text"] = summary["CHAN_DOAN_RV"]
        url = draft.state(
            {
                "resourceType": "Condition",
                "identifier": [{"system": system, "value": value}],
                "clinicalStatus": coded(_CONDITION + "clinical", "active"),
                "verificationStatus": coded(_CONDITION + "ver-status", "confirmed"),
                "category": [coded(_CONDITION + "category", "encounter-diagnosis")],
                "code": concept,
                "subject": reference(patient_url),
                "encounter": reference(visit_url),
                "recordedDate": minute(summary["NGAY_RA"]),
            },
            system,
            value,
        )
        use = coded(vietnam.DIAGNOSIS_ROLE, "DD")
        result.append({"condition": reference(url), "use": use, "rank": rank})
    return result
