"""Turn PV1 and PV2 into Encounter, with its places and people.

Out:     Encounter known by its visit number (PV1-19, which is MA_LK), else by the patient and the time of arrival
Keeps:   the record number (PV1-50, MA_HSBA); Vietnamese codes in PV1-10 (MA_KHOA), PV1-18 (MA_LOAI_KCB) and
         PV1-36 (MA_LOAI_RV) with their own code systems
Order:   an event that says nothing of the state (A08) keeps the state an earlier version has
Source:  HL7 v2-to-FHIR guide, PV1[Encounter], PV2[Encounter], Event[EncounterStatus]; FHIR R4 8.11
"""

import re
from dataclasses import dataclass
from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2.message import Segment
from adapters.hl7v2.people import location, practitioners
from adapters.hl7v2.reading import Reading
from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference

STATUS: Final = {
    "A01": "in-progress",
    "A02": "in-progress",
    "A03": "finished",
    "A04": "in-progress",
    "A05": "planned",
    "A06": "in-progress",
    "A07": "in-progress",
    "A10": "arrived",
    "A11": "cancelled",
    "A12": "in-progress",
    "A13": "in-progress",
    "A14": "planned",
    "A21": "onleave",
    "A22": "in-progress",
    "A23": "entered-in-error",
    "A27": "cancelled",
    "A38": "cancelled",
}
"""Trigger event → Encounter.status. A04 registers a patient who is there, so the visit has begun."""
ENDS: Final = frozenset({"A03"})
BEGINS: Final = frozenset({"A01", "A04"})
UNDOES_END: Final = frozenset({"A13"})
"""Whose PV1-45 is the end that is taken back."""

CLASS: Final = {"E": "EMER", "I": "IMP", "O": "AMB", "P": "PRENC"}
LOCAL_CLASS: Final = frozenset("RBCNU")
PARTICIPANT: Final = ((7, "ATND"), (8, "REF"), (9, "CON"), (17, "ADM"), (52, "PART"))
"""PV1 fields of people → v3-ParticipationType."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The Encounter of a message: its reference, and the key that its own facts are named by."""

    url: str
    key: str


def visit_key(reading: Reading, segment: Segment, patient_url: str) -> tuple[str, str, bool]:
    """(system, value, whether the sender gave it): what makes the visit itself."""
    for field, system in ((19, vietnam.EPISODE_LINK), (50, vietnam.RECORD_NUMBER)):
        value = segment.first(field).component(1)
        if value:
            return system, value, True
    arrived = segment.text(44)
    return systems.local("visit"), digest(patient_url, arrived or reading.origin.control_id), bool(arrived)


def mentioned(reading: Reading, patient_url: str) -> Visit | None:
    """The visit a result or an order belongs to: made sure of, not stated, and only where it has a number."""
    segment = reading.message.find("PV1")
    if segment is None:
        return None
    system, value, given = visit_key(reading, segment, patient_url)
    if not given:
        return None
    resource = _resource(reading, segment, patient_url, system, value)
    resource["status"] = "unknown"
    start = reading.moment(segment, 44)
    if start:
        resource["period"] = {"start": start}
    return Visit(reading.draft.mention(resource, system, value), f"{system}|{value}")


def stated(reading: Reading, patient_url: str, event: str) -> Visit | None:
    """The visit an ADT message is about."""
    segment = reading.message.find("PV1")
    if segment is None:
        return None
    system, value, given = visit_key(reading, segment, patient_url)
    if not given and event not in BEGINS and not any(segment.filled(field) for field in range(3, 53)):
        return None
    resource = _resource(reading, segment, patient_url, system, value)
    _state(reading, segment, event, resource)
    people(reading, segment, resource)
    _places(reading, segment, resource)
    _stay(reading, segment, resource)
    reason(reading, resource)
    for part in (segment, reading.message.find("PV2")):
        columns = reading.claim_columns(part) if part else None
        if columns:
            resource.setdefault("extension", []).append(columns)
    url = reading.draft.state(resource, system, value)
    if event in STATUS or segment.filled(45):
        reading.draft.state_moment(url)
    else:
        reading.draft.defer(url, ["status"])
    if resource["class"]["system"] == systems.NULL_FLAVOR:
        reading.draft.defer(url, ["class"])
    return Visit(url, f"{system}|{value}")


def _resource(reading: Reading, segment: Segment, patient_url: str, system: str, value: str) -> Tree:
    identifiers = [{"system": system, "value": value}]
    record_number = segment.first(50).component(1)
    if record_number and system != vietnam.RECORD_NUMBER:
        identifiers.append({"system": vietnam.RECORD_NUMBER, "value": record_number})
    resource: Tree = {
        "resourceType": "Encounter",
        "identifier": identifiers,
        "status": "unknown",
        "class": _class(segment),
        "subject": reference(patient_url),
    }
    if reading.origin.facility:
        resource["serviceProvider"] = reading.origin.facility
    return resource


def _class(segment: Segment) -> Tree:
    """PV1-2 as Coding; words such as INPATIENT by their first letter."""
    sent = segment.text(2).upper()
    letter = (
        sent if len(sent) == 1 else sent[:1] if sent in ("INPATIENT", "OUTPATIENT", "EMERGENCY", "PREADMIT") else ""
    )
    if letter in CLASS:
        return {"system": vietnam.ENCOUNTER_CLASS, "code": CLASS[letter]}
    if letter in LOCAL_CLASS and letter:
        return {"system": TERMINOLOGY + "v2-0004", "code": letter}
    unknown = {"system": systems.NULL_FLAVOR, "code": "UNK"}
    return {**unknown, "display": sent} if sent else unknown


def _state(reading: Reading, segment: Segment, event: str, resource: Tree) -> None:
    start = reading.moment(segment, 44)
    end = reading.moment(segment, 45) if event not in UNDOES_END else None
    happened = _happened(reading)
    if start is None and event in BEGINS:
        start = happened
    if end is None and event in ENDS:
        end = happened
    resource["status"] = STATUS.get(event) or ("finished" if end else "in-progress")
    if start or end:
        resource["period"] = {key: value for key, value in (("start", start), ("end", end)) if value}


def _happened(reading: Reading) -> str | None:
    event = reading.message.find("EVN")
    return (reading.moment(event, 6) or reading.moment(event, 2)) if event else None


def people(reading: Reading, segment: Segment, resource: Tree) -> None:
    participants = []
    for field, code in PARTICIPANT:
        role = coded(TERMINOLOGY + "v3-ParticipationType", code)
        participants += [{"type": [role], "individual": person} for person in practitioners(reading, segment, field)]
    if participants:
        resource["participant"] = participants


def _places(reading: Reading, segment: Segment, resource: Tree) -> None:
    places: list[Tree] = []
    for field, status in ((3, "active"), (6, "completed"), (11, "active")):
        place = location(reading, segment.first(field))
        if place and all(place != other["location"] for other in places):
            places.append({"location": place, "status": status})
    if places:
        if resource["class"].get("code") == "PRENC":
            places[0]["status"] = "planned"
        if resource["status"] == "finished":
            places = [{**place, "status": "completed"} for place in places]
        resource["location"] = places


def _stay(reading: Reading, segment: Segment, resource: Tree) -> None:
    types = []
    for field in (18, 4):
        concept = reading.concept(segment, field)
        if concept:
            _own_system(concept, r"(0[1-9]|1[0-6])", vietnam.MA_LOAI_KCB, only=field == 18)
            types.append(concept)
    if types:
        resource["type"] = types
    service = reading.concept(segment, 10)
    if service:
        _own_system(service, r"K\d\d(\.\d+)?", vietnam.MA_KHOA)
        resource["serviceType"] = service
    stay: Tree = {}
    source = reading.concept(segment, 14)
    if source:
        stay["admitSource"] = source
    disposition = reading.concept(segment, 36)
    if disposition:
        _own_system(disposition, r"[1-5]", vietnam.MA_LOAI_RV)
        stay["dischargeDisposition"] = disposition
    if stay:
        resource["hospitalization"] = stay


def _own_system(concept: Tree, form: str, system: str, *, only: bool = True) -> None:
    """A code without a system that has the form of a Vietnamese list is of that list."""
    for position, coding in enumerate(concept.get("coding", ())):
        if only and "system" not in coding and re.fullmatch(form, coding["code"]):
            concept["coding"][position] = {"system": system, **coding}


def reason(reading: Reading, resource: Tree) -> None:
    more = reading.message.find("PV2")
    concept = reading.concept(more, 3) if more else None
    text = more.text(12) if more else ""
    if concept:
        resource["reasonCode"] = [{**concept, "text": concept.get("text") or concept["coding"][0]["code"]}]
    elif text:
        resource["reasonCode"] = [{"text": text}]
