"""Turn SIU^S12 to S26 into a transaction Bundle with one Appointment.

Errors:  required where a booked appointment has no time
Source:  HL7 v2-to-FHIR guide, message SIU_S12, SCH[Appointment], AIS, AIP, AIL maps; FHIR R4 8.13 (app-3, app-4)
"""

from datetime import datetime, timedelta
from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.patient import patient
from adapters.hl7v2.people import location, practitioner
from adapters.hl7v2.reading import Reading
from adapters.port import Mapped, Origin
from ehr.fhir.elements import reference

STATUS: Final = {
    "PENDING": "pending",
    "WAITLIST": "waitlist",
    "BOOKED": "booked",
    "STARTED": "checked-in",
    "COMPLETE": "fulfilled",
    "CANCELLED": "cancelled",
    "DISCONTINUED": "cancelled",
    "DELETED": "entered-in-error",
    "NOSHOW": "noshow",
}
"""SCH-25 (table 0278)."""
BY_EVENT: Final = {"S15": "cancelled", "S16": "cancelled", "S17": "entered-in-error", "S26": "noshow"}
WITHOUT_TIME: Final = frozenset({"cancelled", "proposed", "waitlist"})


def siu(message: Message, origin: Origin) -> Mapped:
    reading = Reading(message, origin)
    patient_url = patient(reading, mention=True)
    if patient_url is None:
        return reading.issues
    segment = message.find("SCH")
    if segment is None:
        reading.fault("required", "a scheduling message has an SCH segment", "SCH")
        return reading.issues
    _appointment(reading, segment, patient_url)
    return reading.result()


def _appointment(reading: Reading, segment: Segment, patient_url: str) -> None:
    _, event = reading.message.type
    placer, filler = (datatypes.entity(segment.first(number)) for number in (1, 2))
    own = filler or placer
    system = systems.local("appointment")
    value = digest(*own) if own else digest(patient_url, reading.origin.control_id)
    identifiers: list[Tree] = [{"system": system, "value": value}]
    identifiers += [{"system": known[0], "value": known[1]} for known in (placer, filler) if known]
    status = STATUS.get(segment.text(25).upper()) or BY_EVENT.get(event, "booked")
    resource: Tree = {"resourceType": "Appointment", "identifier": identifiers, "status": status}
    kind = reading.concept(segment, 8)
    if kind:
        resource["appointmentType"] = kind
    reason = reading.concept(segment, 7)
    if reason:
        resource["reasonCode"] = [reason]
    services = [found for other in reading.message.all("AIS") if (found := reading.concept(other, 3))]
    if services:
        resource["serviceType"] = services
    _times(reading, segment, resource)
    notes = [element.whole() for other in reading.message.all("NTE") for element in other.repetitions(3)]
    if notes:
        resource["comment"] = "\n".join(notes).strip()
    resource["participant"] = [
        {"actor": reference(patient_url), "status": "accepted"},
        *_participants(reading, segment),
    ]
    reading.draft.state(resource, system, value)


def _times(reading: Reading, segment: Segment, resource: Tree) -> None:
    """SCH-11.4 and .5, TQ1-7 and -8, or AIS-4 with a duration in minutes."""
    timing = reading.message.find("TQ1")
    service = reading.message.find("AIS")
    start = reading.moment_of(segment.text(11, 4), segment.path(11)) or reading.moment(timing, 7)
    end = reading.moment_of(segment.text(11, 5), segment.path(11)) or reading.moment(timing, 8)
    start = start or reading.moment(service, 4)
    minutes = _minutes(segment, 9, 10) or (_minutes(service, 7, 8) if service else None)
    if minutes:
        resource["minutesDuration"] = minutes
    if start and "T" in start and not end and minutes:
        end = (datetime.fromisoformat(start) + timedelta(minutes=minutes)).isoformat()
    if start and end and "T" in start and "T" in end:
        resource["start"], resource["end"] = start, end
    elif resource["status"] not in WITHOUT_TIME and not reading.issues:
        reading.fault("required", "an appointment that is booked has a start and an end", segment.path(11))


def _minutes(segment: Segment, number: int, unit: int) -> int | None:
    amount = datatypes.decimal(segment.text(number))
    words = segment.text(unit).upper()
    if amount is None or amount != int(amount) or amount <= 0:
        return None
    if words in ("", "M", "MIN", "MINUTES", "PHÚT"):
        return int(amount)
    return int(amount) * 60 if words in ("H", "HR", "HOURS") else None


def _participants(reading: Reading, segment: Segment) -> list[Tree]:
    found = [
        {"actor": person, "status": "accepted"}
        for other in reading.message.all("AIP")
        for element in other.repetitions(3)
        if (person := practitioner(reading, element))
    ]
    if not found:
        found = [
            {"actor": person, "status": "accepted"}
            for element in segment.repetitions(16)
            if (person := practitioner(reading, element))
        ]
    found += [
        {"actor": place, "status": "accepted"}
        for other in reading.message.all("AIL")
        if (place := location(reading, other.first(3)))
    ]
    return found
