"""The one date parameter of each type that lies in the resource row itself (date_lo_us, date_hi_us).

It orders a patient's record and answers most date searches; other date parameters lie in date_index.
Order:   for clinical types the moment it happened, for documents and requests the moment it was written
Rule:    single-valued, so that one range says it exactly (tests/unit/test_index_extract.py)
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from ehr.fhir import parameters

CHOSEN: Final[Mapping[str, str]] = {
    "Account": "period",
    "Appointment": "date",
    "Basic": "created",
    "Bundle": "timestamp",
    "ChargeItem": "occurrence",
    "Claim": "created",
    "ClaimResponse": "created",
    "Communication": "sent",
    "CommunicationRequest": "authored",
    "Condition": "onset-date",
    "Contract": "issued",
    "CoverageEligibilityRequest": "created",
    "CoverageEligibilityResponse": "created",
    "DetectedIssue": "identified",
    "DeviceRequest": "authored-on",
    "DocumentManifest": "created",
    "ExplanationOfBenefit": "created",
    "Goal": "start-date",
    "ImagingStudy": "started",
    "Media": "created",
    "MedicationAdministration": "effective-time",
    "MedicationDispense": "whenhandedover",
    "MedicationRequest": "authoredon",
    "MedicationStatement": "effective",
    "NutritionOrder": "datetime",
    "Patient": "birthdate",
    "PaymentNotice": "created",
    "PaymentReconciliation": "created",
    "Person": "birthdate",
    "Provenance": "recorded",
    "QuestionnaireResponse": "authored",
    "RelatedPerson": "birthdate",
    "RequestGroup": "authored",
    "ServiceRequest": "authored",
    "Slot": "start",
    "Specimen": "collected",
    "Task": "authored-on",
    "VisionPrescription": "datewritten",
}


@cache
def main_date(type_name: str) -> str | None:
    """Code of the type's main date parameter: the chosen one, else one called "date" if it is single-valued."""
    known = parameters.of(type_name)
    code = CHOSEN.get(type_name, "date")
    found = known.get(code)
    if found is None or found.kind != "date" or any(step.many for path in found.paths for step in path.steps):
        return None
    return code
