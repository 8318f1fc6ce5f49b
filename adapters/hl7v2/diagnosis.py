"""Turn DG1, PRB and PR1 into Condition and Procedure, and name the conditions in the Encounter.

Keeps:   the code with its system (ICD-10 where the sender names none and the code has its form) and the sender's text
Errors:  required where a segment names no diagnosis, problem or procedure
Source:  HL7 v2-to-FHIR guide, DG1[Condition], DG1[Encounter], PR1[Procedure]; HL7 v2.5.1 12.4.2 PRB
"""

from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Segment
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.visit import Visit
from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference

CLINICAL: Final = TERMINOLOGY + "condition-clinical"
VERIFICATION: Final = TERMINOLOGY + "condition-ver-status"
CATEGORY: Final = TERMINOLOGY + "condition-category"
ROLE: Final = {"A": "AD", "F": "DD"}
"""DG1-6 → Encounter.diagnosis.use; a working diagnosis (W) has no code there."""


def conditions(reading: Reading, patient_url: str, visit: Visit | None) -> None:
    """Every DG1 of the message."""
    found: list[tuple[str, Segment]] = []
    for segment in reading.message.all("DG1"):
        url = _condition(reading, segment, patient_url, visit)
        if url:
            found.append((url, segment))
    if visit is None or not found:
        return
    encounter = reading.draft.get(visit.url)
    ranks = [_rank(segment) for _, segment in found]
    diagnoses: dict[str, Tree] = {}
    for position, ((url, segment), rank) in enumerate(zip(found, ranks, strict=True), start=1):
        use = ROLE.get(segment.text(6).upper())
        item: Tree = {"condition": reference(url)}
        if use:
            item["use"] = coded(vietnam.DIAGNOSIS_ROLE, use)
        item["rank"] = rank if any(ranks) and rank else position
        # one condition twice in a message: the later line (final after admission) says more
        diagnoses[url] = item
    encounter["diagnosis"] = list(diagnoses.values())


def _rank(segment: Segment) -> int:
    """DG1-15; 1 is the main diagnosis. A number, or "C"/"1" by table 0359."""
    text = segment.text(15)
    return int(text) if text.isdigit() and 0 < int(text) < 1000 else 0


def _condition(reading: Reading, segment: Segment, patient_url: str, visit: Visit | None) -> str | None:
    code = datatypes.diagnosis(segment.first(3), reading.origin.facility_code) or {}
    text = segment.text(4)
    if text:
        code["text"] = text
    if not code:
        reading.fault("required", "DG1 names no diagnosis", segment.path(3))
        return None
    removed = segment.text(21).upper() == "D"
    final = segment.text(6).upper() not in ("A", "W")
    key = digest(patient_url, visit.key if visit else reading.origin.control_id, datatypes.concept_key(code))
    system = systems.local("diagnosis")
    resource: Tree = {"resourceType": "Condition", "identifier": [{"system": system, "value": key}]}
    if removed:
        resource["verificationStatus"] = coded(VERIFICATION, "entered-in-error")
    else:
        resource["clinicalStatus"] = coded(CLINICAL, "active")
        resource["verificationStatus"] = coded(VERIFICATION, "confirmed" if final else "provisional")
    resource["category"] = [coded(CATEGORY, "encounter-diagnosis")]
    resource["code"] = code
    resource["subject"] = reference(patient_url)
    if visit:
        resource["encounter"] = reference(visit.url)
    recorded = reading.moment(segment, 5)
    if recorded:
        resource["recordedDate"] = recorded
    doctors = practitioners(reading, segment, 16)
    if doctors:
        resource["asserter"] = doctors[0]
    return reading.draft.state(resource, system, key)


def problems(reading: Reading, patient_url: str, visit: Visit | None) -> None:
    """Every PRB of the message: the problem list."""
    for segment in reading.message.all("PRB"):
        code = datatypes.diagnosis(segment.first(3), reading.origin.facility_code)
        if not code:
            reading.fault("required", "PRB names no problem", segment.path(3))
            continue
        own = datatypes.entity(segment.first(4))
        system, key = own or (systems.local("problem"), digest(patient_url, datatypes.concept_key(code)))
        resource: Tree = {"resourceType": "Condition", "identifier": [{"system": system, "value": key}]}
        resolved = reading.moment(segment, 9)
        if segment.text(1).upper() in ("DE", "D"):
            resource["verificationStatus"] = coded(VERIFICATION, "entered-in-error")
        else:
            resource["clinicalStatus"] = coded(CLINICAL, "resolved" if resolved else "active")
            resource["verificationStatus"] = coded(VERIFICATION, _certainty(segment))
        resource |= {"category": [coded(CATEGORY, "problem-list-item")], "code": code}
        resource["subject"] = reference(patient_url)
        if visit:
            resource["encounter"] = reference(visit.url)
        onset = reading.moment(segment, 16)
        if onset:
            resource["onsetDateTime"] = onset
        elif segment.text(17):
            resource["onsetString"] = segment.text(17)
        if resolved:
            resource["abatementDateTime"] = resolved
        recorded = reading.moment(segment, 2)
        if recorded:
            resource["recordedDate"] = recorded
        reading.draft.state(resource, system, key)


def _certainty(segment: Segment) -> str:
    """PRB-13, confirmation status, where it says less than confirmed."""
    words = f"{segment.text(13)} {segment.text(13, 2)}".casefold()
    for word, status in (("refuted", "refuted"), ("provisional", "provisional"), ("differential", "differential")):
        if word in words:
            return status
    return "unconfirmed" if "unconfirmed" in words or "probable" in words else "confirmed"


def procedures(reading: Reading, patient_url: str, visit: Visit | None) -> None:
    """Every PR1 of the message."""
    for segment in reading.message.all("PR1"):
        code = reading.concept(segment, 3) or {}
        if segment.text(4):
            code["text"] = segment.text(4)
        if not code:
            reading.fault("required", "PR1 names no procedure", segment.path(3))
            continue
        performed = reading.moment(segment, 5)
        own = datatypes.entity(segment.first(19))
        scope = visit.key if visit else reading.origin.control_id
        key = digest(patient_url, scope, datatypes.concept_key(code), performed or segment.text(1))
        system, key = own or (systems.local("procedure"), key)
        resource: Tree = {
            "resourceType": "Procedure",
            "identifier": [{"system": system, "value": key}],
            "status": "entered-in-error" if segment.text(20).upper() == "D" else "completed",
            "code": code,
            "subject": reference(patient_url),
        }
        if visit:
            resource["encounter"] = reference(visit.url)
        if performed:
            resource["performedDateTime"] = performed
        doctors = practitioners(reading, segment, 11, 8, 12)
        if doctors:
            resource["performer"] = [{"actor": doctor} for doctor in doctors]
        reason = datatypes.diagnosis(segment.first(15), reading.origin.facility_code)
        if reason:
            resource["reasonCode"] = [reason]
        reading.draft.state(resource, system, key)
