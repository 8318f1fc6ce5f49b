"""Turn one ADT message into a transaction Bundle: the patient, the visit, and what the message says of both.

Out:     Patient and Encounter stated (conditional updates), RelatedPerson (NK1), Condition (DG1), Procedure (PR1),
         AllergyIntolerance (AL1, IAM), Coverage (IN1), Observation (OBX), Practitioner and Location mentioned
Order:   any: an update before the admission makes the visit, the admission completes it
Why:     a merge (A40 and its elders) sets Patient.link both ways and moves nothing: what a facility recorded under a
         number stays under it, and the city's view is the Person
Source:  HL7 v2-to-FHIR guide, messages ADT_A01, A02, A05, A06, A09, A11, A17; HL7 v2.5.1 3.3
"""

from typing import Final

from adapters.draft import Tree, digest
from adapters.hl7v2.allergy import allergies
from adapters.hl7v2.diagnosis import conditions, problems, procedures
from adapters.hl7v2.insurance import coverages
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.observation import Context, observations
from adapters.hl7v2.patient import identifier, of_segment, patient, related_persons
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.visit import mentioned, stated
from adapters.port import Mapped, Origin
from ehr.fhir import vietnam
from ehr.fhir.elements import reference

PERSON_ONLY: Final = frozenset({"A24", "A28", "A29", "A31", "A37", "A47", "A60"})
"""Events about the patient, not about a visit."""
ACCOUNTS: Final = frozenset({"A35", "A41", "A49"})
"""Merges of the accounts (MRG-3) of one patient: the record keeps no accounts, and the patient stays."""
MERGES: Final = frozenset({"A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47"}) | ACCOUNTS
EVENTS: Final = (
    frozenset(f"A{number:02}" for number in range(1, 15))
    | {"A21", "A22", "A23", "A27", "A28", "A31", "A38", "A60"}
    | MERGES
) - {"A09"}


def adt(message: Message, origin: Origin) -> Mapped:
    """Admission, transfer, discharge, registration, update, cancellation."""
    reading = Reading(message, origin)
    _, event = message.type
    patient_url = patient(reading)
    if patient_url is None:
        return reading.issues
    visit = None if event in PERSON_ONLY else stated(reading, patient_url, event)
    related_persons(reading, patient_url)
    allergies(reading, patient_url)
    coverages(reading, patient_url)
    conditions(reading, patient_url, visit)
    problems(reading, patient_url, visit)
    procedures(reading, patient_url, visit)
    scope = visit.key if visit else origin.control_id
    context = Context(patient_url, digest(patient_url, scope, "adt"), visit_url=visit.url if visit else None)
    observations(reading, message.segments, context)
    return reading.result()


def merge(message: Message, origin: Origin) -> Mapped:
    """A40 and its like: PID survives, MRG-1 names what it replaces."""
    reading = Reading(message, origin)
    surviving: str | None = None
    for segment in message.segments:
        if segment.name == "PID":
            surviving = of_segment(reading, segment)
        elif segment.name == "MRG" and surviving is not None:
            _replaced(reading, segment, surviving)
        elif segment.name == "MRG" and not reading.issues:
            reading.fault("structure", "MRG follows the PID of the patient who stays", segment.path(1))
    if surviving is not None:
        mentioned(reading, surviving)
    if message.find("PID") is None:
        reading.fault("required", "the message has no PID segment", "PID")
    if message.find("MRG") is None:
        reading.fault("required", "a merge has an MRG segment", "MRG")
    return reading.result()


def _replaced(reading: Reading, segment: Segment, surviving: str) -> None:
    numbers = [
        found
        for element in segment.repetitions(1)
        if (found := identifier(reading, element)) and found["system"] == vietnam.PATIENT_NUMBER
    ]
    if not numbers:
        reading.fault("required", "MRG-1 names no patient number", segment.path(1))
        return
    survivor = reading.draft.get(surviving)
    _, event = reading.message.type
    # The first number is the one to give up; further ones in MRG-1 belong to the same old record.
    number = numbers[0]
    same = any(number["value"] == own["value"] and number["system"] == own["system"] for own in survivor["identifier"])
    if event in ACCOUNTS:
        if not same:
            text = f"{event} is about accounts of one patient, and MRG-1 names another than PID-3; send A40 for those"
            reading.fault("value", text, segment.path(1))
        return
    if same:
        reading.fault("value", "a patient cannot be merged into itself", segment.path(1))
        return
    resource: Tree = {
        "resourceType": "Patient",
        "identifier": [number],
        "active": False,
        "link": [{"other": reference(surviving), "type": "replaced-by"}],
    }
    replaced = reading.draft.state(resource, number["system"], number["value"])
    survivor["active"] = True
    survivor.setdefault("link", []).append({"other": reference(replaced), "type": "replaces"})
