"""Turn RXO or RXE, with RXR and TQ1, into MedicationRequest.

Keeps:   amounts with their digits, units as sent; the timing as text, because ORC-7.2 and TQ1-3 are local codes
Source:  HL7 v2-to-FHIR guide, RXO[MedicationRequest], RXR[MedicationRequest], TQ1[MedicationRequest]; HL7 v2.5.1 4.14
"""

from typing import Final

from adapters import systems
from adapters.draft import Tree
from adapters.hl7v2 import datatypes, order
from adapters.hl7v2.message import Segment
from adapters.hl7v2.order import Group
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.visit import Visit
from ehr.fhir.elements import reference

STATUS: Final = {"revoked": "cancelled"}
"""request-status → medicationrequest-status, where they differ."""
STOPPED: Final = frozenset({"DC", "OD"})
FIELDS: Final = {
    # code, dose minimum, dose maximum, dose unit, dispense amount, dispense unit, refills, instructions
    "RXO": (1, 2, 3, 4, 11, 12, 13, (6, 7)),
    "RXE": (2, 3, 4, 5, 10, 11, 12, (7, 21)),
}


def medication_request(reading: Reading, group: Group, segment: Segment, patient_url: str, visit: Visit | None) -> str:
    key = order.key(reading, group, "medication")
    system = systems.local("medication-request")
    resource: Tree = {
        "resourceType": "MedicationRequest",
        "identifier": [*order.identifiers(group), {"system": system, "value": key}],
        "status": _status(group),
        "intent": "order",
    }
    urgency = order.priority(group)
    if urgency:
        resource["priority"] = urgency
    resource["medicationCodeableConcept"] = _medicine(reading, group, segment)
    resource["subject"] = reference(patient_url)
    if visit:
        resource["encounter"] = reference(visit.url)
    authored = (
        reading.moment(group.common, 9) or reading.moment(segment, 32)
        if segment.name == "RXE"
        else (reading.moment(group.common, 9))
    )
    if authored:
        resource["authoredOn"] = authored
    requesters = practitioners(reading, group.common, 12) or practitioners(
        reading, segment, 13 if segment.name == "RXE" else 14
    )
    if requesters:
        resource["requester"] = requesters[0]
    notes = segment.notes
    if notes:
        resource["note"] = [{"text": text} for text in notes]
    dosage = _dosage(reading, group, segment)
    if dosage:
        resource["dosageInstruction"] = [dosage]
    dispense = _dispense(reading, group, segment)
    if dispense:
        resource["dispenseRequest"] = dispense
    if segment.text(9).upper() in ("N", "G", "T"):
        resource["substitution"] = {"allowedBoolean": segment.text(9).upper() != "N"}
    columns = reading.claim_columns(segment)
    if columns:
        resource["extension"] = [columns]
    return reading.draft.state(resource, system, key)


def _status(group: Group) -> str:
    if group.common is not None and group.common.text(1).upper() in STOPPED:
        return "stopped"
    status = order.status(group)
    return STATUS.get(status, status)


def _medicine(reading: Reading, group: Group, segment: Segment) -> Tree:
    """RXE-2 or RXO-1, else the give code of the other segment of the order."""
    for name in (segment.name, "RXO", "RXE"):
        other = group.find(name)
        concept = reading.concept(other, FIELDS[name][0]) if other else None
        if concept:
            return concept
    reading.fault("required", f"{segment.name} names no medicine", segment.path(FIELDS[segment.name][0]))
    return {}


def _dosage(reading: Reading, group: Group, segment: Segment) -> Tree:
    _, low, high, unit, *_, instructions = FIELDS[segment.name]
    dosage: Tree = {}
    words = [element.text(2) or element.text(1) for field in instructions for element in segment.repetitions(field)]
    timing = _timing(group, segment)
    text = "; ".join(dict.fromkeys(word for word in (*words, *timing) if word))
    if text:
        dosage["text"] = text
    route = group.find("RXR")
    if route is not None:
        for name, field in (("site", 2), ("route", 1), ("method", 4)):
            concept = reading.concept(route, field)
            if concept:
                dosage[name] = concept
    dose = _dose(reading, segment, low, high, unit)
    if dose:
        dosage["doseAndRate"] = [dose]
    return dosage


def _dose(reading: Reading, segment: Segment, low: int, high: int, unit: int) -> Tree:
    least, most = (datatypes.decimal(segment.text(field)) for field in (low, high))
    units = datatypes.unit(segment.first(unit), reading.origin.facility_code)
    if not units and segment.text(unit, 5):
        units = {"unit": segment.text(unit, 5)}
    if least is None:
        return {}
    if most is None or most == least:
        return {"doseQuantity": {"value": least, **units}}
    if most < least:
        reading.fault("value", "the greatest dose is below the least", segment.path(high))
        return {}
    return {"doseRange": {"low": {"value": least, **units}, "high": {"value": most, **units}}}


def _timing(group: Group, segment: Segment) -> list[str]:
    """The interval and duration as the sender wrote them: TQ1-3, TQ1-11, else ORC-7 or RXE-1."""
    timing = group.find("TQ1")
    if timing is not None:
        repeat = timing.text(3, 1, 2) or timing.text(3, 1, 1)
        words = [repeat, timing.text(11)]
    else:
        holder, field = (group.common, 7) if group.common is not None and group.common.filled(7) else (segment, 1)
        if holder is segment and segment.name != "RXE":
            return []
        assert holder is not None
        words = [holder.text(field, 2), holder.text(field, 3)]
    return [word for word in words if word]


def _dispense(reading: Reading, group: Group, segment: Segment) -> Tree:
    _, _, _, _, amount, unit, refills, _ = FIELDS[segment.name]
    dispense: Tree = {}
    start, end = _validity(reading, group, segment)
    if start or end:
        dispense["validityPeriod"] = {name: value for name, value in (("start", start), ("end", end)) if value}
    repeats = datatypes.decimal(segment.text(refills))
    if repeats is not None and repeats == int(repeats) and repeats >= 0:
        dispense["numberOfRepeatsAllowed"] = int(repeats)
    quantity = datatypes.decimal(segment.text(amount))
    if quantity is not None:
        units = datatypes.unit(segment.first(unit), reading.origin.facility_code)
        dispense["quantity"] = {"value": quantity, **units}
    return dispense


def _validity(reading: Reading, group: Group, segment: Segment) -> tuple[str | None, str | None]:
    timing = group.find("TQ1")
    if timing is not None:
        return reading.moment(timing, 7), reading.moment(timing, 8)
    for holder, field in ((group.common, 7), (segment if segment.name == "RXE" else None, 1)):
        if holder is not None and holder.filled(field):
            at = holder.path(field)
            return reading.moment_of(holder.text(field, 4), at), reading.moment_of(holder.text(field, 5), at)
    return None, None
