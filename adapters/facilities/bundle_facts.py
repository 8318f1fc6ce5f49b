"""Write the clinical facts of an episode as FHIR resources: diagnoses, measurements, reports, notes, protection.

Out:     entries of a Draft, each known by MA_LK and its place in the episode
Source:  FHIR R4 resource pages; vital signs by the FHIR vital-signs profiles
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from adapters.facilities.episode import Order, Result, Vaccine, Vitals
from adapters.facilities.sheet import Sheet, Tree, moment, quantity
from adapters.systems import CVX, local
from ehr.fhir import vietnam, vital_signs
from ehr.fhir.elements import TERMINOLOGY, coded, reference
from terminology.lists import LAB_TEST_BY_CODE

_DIAGNOSIS: Final = local("diagnosis")
_OBSERVATION: Final = local("observation")
_REPORT: Final = local("report")
_NOTE: Final = local("note")
_ALLERGY: Final = local("allergy")
_DOSE: Final = local("immunization")
_REFERRAL: Final = local("referral")
_INTERPRETATION: Final = TERMINOLOGY + "v3-ObservationInterpretation"
_LABORATORY: Final = "1"


def problems(sheet: Sheet) -> list[Tree]:
    """Conditions; the answer is Encounter.diagnosis, the main one first."""
    diagnoses: list[Tree] = []
    for rank, diagnosis in enumerate((sheet.episode.main, *sheet.episode.secondary), start=1):
        value = f"{sheet.episode.link}/{diagnosis.code}"
        condition: Tree = {
            "resourceType": "Condition",
            "identifier": [{"system": _DIAGNOSIS, "value": value}],
            "clinicalStatus": coded(TERMINOLOGY + "condition-clinical", "active"),
            "verificationStatus": coded(TERMINOLOGY + "condition-ver-status", "confirmed"),
            "category": [coded(TERMINOLOGY + "condition-category", "encounter-diagnosis")],
            "code": coded(vietnam.ICD_10, diagnosis.code, diagnosis.text),
            "subject": reference(sheet.patient),
            "encounter": reference(sheet.visit),
            "recordedDate": moment(sheet.episode.end),
            "recorder": reference(sheet.doctor),
        }
        url = sheet.draft.state(condition, _DIAGNOSIS, value)
        diagnoses.append({"condition": reference(url), "use": coded(vietnam.DIAGNOSIS_ROLE, "DD"), "rank": rank})
    return diagnoses


def measurements(sheet: Sheet) -> None:
    """Vital signs of every round."""
    for number, vitals in enumerate(sheet.episode.vitals, start=1):
        for code, body in _signs(vitals):
            test = LAB_TEST_BY_CODE.get(code)
            _observe(
                sheet,
                key=f"V{number}/{code}",
                category="vital-signs",
                at=vitals.at,
                body={"code": coded(vietnam.LOINC, code, test.name_vi if test else "Huyết áp"), **body},
            )


def _signs(vitals: Vitals) -> Iterator[tuple[str, Tree]]:
    yield vital_signs.PULSE, {"valueQuantity": quantity(str(vitals.pulse), "/min")}
    yield vital_signs.TEMPERATURE, {"valueQuantity": quantity(vitals.temperature, "Cel")}
    yield vital_signs.BREATHS, {"valueQuantity": quantity(str(vitals.breaths), "/min")}
    yield vital_signs.OXYGEN, {"valueQuantity": quantity(str(vitals.oxygen), "%")}
    yield vital_signs.WEIGHT, {"valueQuantity": quantity(vitals.weight_kg, "kg")}
    yield vital_signs.HEIGHT, {"valueQuantity": quantity(str(vitals.height_cm), "cm")}
    if vitals.systolic is not None and vitals.diastolic is not None:
        parts = ((vital_signs.SYSTOLIC, vitals.systolic), (vital_signs.DIASTOLIC, vitals.diastolic))
        yield (
            vital_signs.PRESSURE,
            {
                "component": [
                    {"code": coded(vietnam.LOINC, code), "valueQuantity": quantity(str(value), "mm[Hg]")}
                    for code, value in parts
                ]
            },
        )


def _observe(sheet: Sheet, *, key: str, category: str, at: datetime, body: Tree) -> str:
    value = f"{sheet.episode.link}/{key}"
    observation: Tree = {
        "resourceType": "Observation",
        "identifier": [{"system": _OBSERVATION, "value": value}],
        "status": "final",
        "category": [coded(vietnam.OBSERVATION_CATEGORY, category)],
        **body,
        "subject": reference(sheet.patient),
        "encounter": reference(sheet.visit),
        "effectiveDateTime": moment(at),
    }
    return sheet.draft.state(observation, _OBSERVATION, value)


def reports(sheet: Sheet) -> dict[int, str]:
    """DiagnosticReports with their Observations; the answer maps the place of a service in XML3 to its report."""
    answers: dict[int, str] = {}
    for order in sheet.episode.orders:
        resulted = order.service.resulted
        assert resulted is not None, "an order in an episode has an answer"
        found = [_laboratory(sheet, order, result, resulted) for result in order.results]
        if not found:
            found = [_image(sheet, order, resulted)]
        value = f"{sheet.episode.link}/{order.number}"
        report: Tree = {
            "resourceType": "DiagnosticReport",
            "identifier": [{"system": _REPORT, "value": value}],
            "status": "final",
            "category": [coded(TERMINOLOGY + "v2-0074", "LAB" if order.service.group == _LABORATORY else "RAD")],
            "code": coded(vietnam.MA_DICH_VU, order.service.code, order.service.name),
            "subject": reference(sheet.patient),
            "encounter": reference(sheet.visit),
            "effectiveDateTime": moment(order.service.done),
            "issued": moment(resulted),
            "result": [reference(url) for url in found],
        }
        if order.conclusion:
            report["conclusion"] = order.conclusion
        answers[int(order.number)] = sheet.draft.state(report, _REPORT, value)
    return answers


def _laboratory(sheet: Sheet, order: Order, result: Result, resulted: datetime) -> str:
    body: Tree = {
        "code": coded(vietnam.LOINC, result.loinc, result.name),
        "issued": moment(resulted),
        "performer": [reference(sheet.doctor, sheet.episode.doctor.name)],
    }
    if result.unit:
        body["valueQuantity"] = quantity(result.value, result.unit)
    else:
        body["valueString"] = result.value
    body["interpretation"] = [coded(_INTERPRETATION, result.flag)]
    if result.low:
        body["referenceRange"] = [
            {"low": quantity(result.low, result.unit), "high": quantity(result.high, result.unit)}
        ]
    key = f"{order.number}/{result.loinc}"
    return _observe(sheet, key=key, category="laboratory", at=order.service.done, body=body)


def _image(sheet: Sheet, order: Order, resulted: datetime) -> str:
    body: Tree = {
        "code": coded(vietnam.MA_DICH_VU, order.service.code, order.service.name),
        "issued": moment(resulted),
        "performer": [reference(sheet.doctor, sheet.episode.doctor.name)],
        "valueString": f"{order.description} {order.conclusion}",
    }
    category = "imaging" if order.service.group == "2" else "procedure"
    return _observe(sheet, key=order.number, category=category, at=order.service.done, body=body)


def clinical_notes(sheet: Sheet) -> None:
    for number, note in enumerate(sheet.episode.notes, start=1):
        value = f"{sheet.episode.link}/N{number}"
        impression: Tree = {
            "resourceType": "ClinicalImpression",
            "identifier": [{"system": _NOTE, "value": value}],
            "status": "completed",
            "subject": reference(sheet.patient),
            "encounter": reference(sheet.visit),
            "date": moment(note.at),
            "assessor": reference(sheet.doctor, note.author.name),
            "summary": note.text,
        }
        sheet.draft.state(impression, _NOTE, value)


def protection(sheet: Sheet) -> None:
    """Allergies, which stay with the patient, and vaccinations."""
    for allergy in sheet.episode.allergies:
        value = f"{sheet.episode.record_number}/{allergy.substance}"
        sheet.draft.state(
            {
                "resourceType": "AllergyIntolerance",
                "identifier": [{"system": _ALLERGY, "value": value}],
                "clinicalStatus": coded(TERMINOLOGY + "allergyintolerance-clinical", "active"),
                "verificationStatus": coded(TERMINOLOGY + "allergyintolerance-verification", "confirmed"),
                "type": "allergy",
                "category": [allergy.category],
                "code": {"text": allergy.text},
                "patient": reference(sheet.patient),
                "reaction": [{"manifestation": [{"text": allergy.reaction}]}],
            },
            _ALLERGY,
            value,
        )
    for number, vaccine in enumerate(sheet.episode.vaccines, start=1):
        _vaccination(sheet, number, vaccine)


def _vaccination(sheet: Sheet, number: int, vaccine: Vaccine) -> None:
    value = f"{sheet.episode.link}/I{number}"
    immunization: dict[str, Any] = {
        "resourceType": "Immunization",
        "identifier": [{"system": _DOSE, "value": value}],
        "status": "completed",
        "vaccineCode": coded(CVX, vaccine.code, vaccine.name),
        "patient": reference(sheet.patient),
        "encounter": reference(sheet.visit),
        "occurrenceDateTime": moment(vaccine.at),
        "primarySource": True,
        "lotNumber": vaccine.lot,
        "expirationDate": vaccine.expires.isoformat(),
        "route": coded(TERMINOLOGY + "v3-RouteOfAdministration", vaccine.route),
        "performer": [{"actor": reference(sheet.doctor, sheet.episode.doctor.name)}],
        "protocolApplied": [{"doseNumberPositiveInt": vaccine.number}],
    }
    if vaccine.site:
        immunization["site"] = coded(TERMINOLOGY + "v3-ActSite", vaccine.site)
    sheet.draft.state(immunization, _DOSE, value)


def referral(sheet: Sheet) -> None:
    target = sheet.episode.outcome.referred_to
    if not target:
        return
    value = f"{sheet.episode.link}/referral"
    sheet.draft.state(
        {
            "resourceType": "ServiceRequest",
            "identifier": [{"system": _REFERRAL, "value": value}],
            "status": "active",
            "intent": "order",
            "code": {"text": "Chuyển tuyến"},
            "subject": reference(sheet.patient),
            "encounter": reference(sheet.visit),
            "authoredOn": moment(sheet.episode.end),
            "requester": reference(sheet.doctor),
            "performer": [reference(f"Organization/facility-{target}")],
            "reasonCode": [coded(vietnam.ICD_10, sheet.episode.main.code, sheet.episode.main.text)],
        },
        _REFERRAL,
        value,
    )
