"""Turn one VXU^V04 into a transaction Bundle: Patient, RelatedPersons, and one Immunization per RXA.

Keeps:   lot, expiry, dose with its digits (999 means unknown), site, route, refusal; each OBX as an Observation that is
         part of its Immunization
Errors:  required where RXA names no vaccine or no date
Source:  HL7 v2-to-FHIR guide, message VXU_V04, RXA[Immunization], RXR[Immunization], ORC[Immunization]
"""

from decimal import Decimal
from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes, order
from adapters.hl7v2.allergy import allergies
from adapters.hl7v2.insurance import coverages
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.observation import Context, observations
from adapters.hl7v2.order import Group
from adapters.hl7v2.patient import patient, related_persons
from adapters.hl7v2.people import location, practitioner
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.visit import Visit, mentioned
from adapters.port import Mapped, Origin
from ehr.fhir.elements import TERMINOLOGY, coded, reference

STATUS: Final = {"CP": "completed", "PA": "completed", "RE": "not-done", "NA": "not-done"}
DOSE_UNKNOWN: Final = Decimal(999)


def vxu(message: Message, origin: Origin) -> Mapped:
    reading = Reading(message, origin)
    patient_url = patient(reading)
    if patient_url is None:
        return reading.issues
    related_persons(reading, patient_url)
    allergies(reading, patient_url)
    coverages(reading, patient_url)
    visit = mentioned(reading, patient_url)
    groups = order.groups(message)
    for group in groups:
        segment = group.find("RXA")
        if segment is not None:
            immunization(reading, group, segment, patient_url, visit)
    observations(reading, order.before(message, groups), Context(patient_url, digest(patient_url, "person")))
    return reading.result()


def immunization(reading: Reading, group: Group, segment: Segment, patient_url: str, visit: Visit | None) -> str | None:
    code = reading.concept(segment, 5)
    occurred = reading.moment(segment, 3)
    if not code:
        reading.fault("required", "RXA names no vaccine", segment.path(5))
    if not occurred and not reading.issues:
        reading.fault("required", "RXA names no date", segment.path(3))
    if not code or not occurred:
        return None
    placer, filler = order.numbers(group)
    numbered = placer is not None or filler is not None
    about = datatypes.concept_key(code)
    # 9999 and 0 stand in ORC-3 for records without an order of their own
    number = filler.text(1) if filler is not None else ""
    if numbered and number not in ("9999", "0"):
        key = order.key(reading, group, "immunization", filler_first=True)
    else:
        key = digest(patient_url, "immunization", about, occurred[:10])
    system = systems.local("immunization")
    resource: Tree = {
        "resourceType": "Immunization",
        "identifier": [*order.identifiers(group), {"system": system, "value": key}],
        "status": _status(segment),
        "vaccineCode": code,
        "patient": reference(patient_url),
        "occurrenceDateTime": occurred,
    }
    if visit:
        resource["encounter"] = reference(visit.url)
    reason = reading.concept(segment, 18)
    if reason and resource["status"] == "not-done":
        resource["statusReason"] = reason
    _source(reading, segment, resource)
    _product(reading, group, segment, resource)
    _performers(reading, group, segment, resource)
    notes = segment.notes
    if notes:
        resource["note"] = [{"text": text} for text in notes]
    url = reading.draft.state(resource, system, key)
    observations(reading, group.segments, Context(patient_url, key, effective=occurred, part_of=url))
    return url


def _status(segment: Segment) -> str:
    if segment.text(21).upper() == "D":
        return "entered-in-error"
    return STATUS.get(segment.text(20).upper(), "completed")


def _source(reading: Reading, segment: Segment, resource: Tree) -> None:
    """RXA-9, NIP001: 00 is a new record, the others tell of an earlier one."""
    source = segment.first(9)
    if not source.text(1):
        return
    resource["primarySource"] = source.text(1) == "00"
    if source.text(1) != "00":
        concept = reading.concept_of(source)
        if concept:
            resource["reportOrigin"] = concept


def _product(reading: Reading, group: Group, segment: Segment, resource: Tree) -> None:
    if segment.text(15):
        resource["lotNumber"] = segment.text(15)
    expires = reading.day(segment, 16)
    if expires:
        resource["expirationDate"] = expires
    maker = segment.text(17, 2) or segment.text(17)
    if maker:
        resource["manufacturer"] = {"display": maker}
        code, name = segment.text(17, 1), segment.text(17, 3)
        system = systems.code_system(name, reading.origin.facility_code)
        if code and system:
            resource["manufacturer"]["identifier"] = {"system": system, "value": code}
    amount = datatypes.decimal(segment.text(6))
    if amount is not None and amount != DOSE_UNKNOWN:
        resource["doseQuantity"] = {"value": amount, **datatypes.unit(segment.first(7), reading.origin.facility_code)}
    if segment.text(20).upper() == "PA":
        resource["isSubpotent"] = True
    way = group.find("RXR")
    if way is not None:
        for name, field in (("site", 2), ("route", 1)):
            concept = reading.concept(way, field)
            if concept:
                resource[name] = concept


def _performers(reading: Reading, group: Group, segment: Segment, resource: Tree) -> None:
    performers = []
    for holder, field, function in ((segment, 10, "AP"), (group.common, 12, "OP")):
        for element in holder.repetitions(field) if holder is not None else ():
            person = practitioner(reading, element)
            if person:
                role = coded(TERMINOLOGY + "v2-0443", function)
                performers.append({"function": role, "actor": person})
    if performers:
        resource["performer"] = performers
    place = location(reading, segment.first(11))
    if place:
        resource["location"] = place
