"""Small valid resources for tests of the interface."""

from typing import Any

CCCD = "http://fhir.ehealth.gov.vn/core/sid/national_id"
MRN = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"
LOINC = "http://loinc.org"


def patient(*identifiers: tuple[str, str], family: str = "Nguyễn", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        **({"identifier": [{"system": s, "value": v} for s, v in identifiers]} if identifiers else {}),
        "name": [{"family": family, "given": ["Thị", "Đào"]}],
        "gender": "female",
        "birthDate": "1970-05-01",
        **more,
    }


def observation(subject: str, value: int | float = 5, code: str = "2345-7", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": subject},
        "effectiveDateTime": "2026-11-20T08:30:00+07:00",
        "valueQuantity": {"value": value, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        **more,
    }


def organization(name: str = "Trạm y tế") -> dict[str, Any]:
    return {"resourceType": "Organization", "name": name}


def entry(method: str, url: str, resource: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **more.pop("request", {})}, **more}
    return made | ({"resource": resource} if resource else {})


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
