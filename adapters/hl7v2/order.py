"""The order groups of a message (ORC, OBR, RXO, RXE … up to the next), and what ORC, OBR and TQ1 say of any order.

Source:  HL7 v2.5.1 4.4 (order messages), 7.3 (result messages); HL7 v2-to-FHIR guide, ORC and OBR maps,
         tables 0119 (order control), 0038 (order status)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Element, Message, Segment
from adapters.hl7v2.reading import Reading
from adapters.systems import IDENTIFIER_TYPE
from ehr.fhir.elements import coded

DETAILS: Final = ("OBR", "RXO", "RXE", "RXA", "ODS", "RQD")
"""Segments that say what was ordered; the first one after an ORC belongs to it."""

_BY_ORDER_STATUS: Final = {
    "CA": "revoked",
    "CM": "completed",
    "DC": "revoked",
    "ER": "entered-in-error",
    "HD": "on-hold",
    "RP": "revoked",
}
_BY_CONTROL: Final = {
    "CA": "revoked",
    "OC": "revoked",
    "CR": "revoked",
    "DC": "revoked",
    "OD": "revoked",
    "DR": "revoked",
    "HD": "on-hold",
    "OH": "on-hold",
    "HR": "on-hold",
    "FU": "completed",
    "OF": "completed",
    "DE": "entered-in-error",
}
PRIORITY: Final = {"S": "stat", "STAT": "stat", "A": "asap", "ASAP": "asap", "R": "routine", "ROUTINE": "routine"}


@dataclass(frozen=True, slots=True)
class Group:
    """One order: where it begins, its common part, its detail, and everything up to the next order."""

    position: int
    common: Segment | None
    detail: Segment | None
    segments: tuple[Segment, ...]

    def find(self, name: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.name == name), None)

    def all(self, name: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.name == name]


def groups(message: Message) -> list[Group]:
    """ORC starts a group; so does a detail segment whose group already has one of that name."""
    found: list[list[Segment]] = []
    for segment in message.segments:
        starts = segment.name == "ORC" or (
            segment.name in DETAILS and (not found or any(other.name == segment.name for other in found[-1]))
        )
        if starts:
            found.append([])
        if found:
            found[-1].append(segment)
    return [_group(segments) for segments in found]


def before(message: Message, found: Sequence[Group]) -> Sequence[Segment]:
    """What stands before the first order: its OBX are about the patient (2.8.2 PATIENT_OBSERVATION)."""
    if not found:
        return message.segments
    first = found[0].segments[0].position
    return [segment for segment in message.segments if segment.position < first]


def _group(segments: Sequence[Segment]) -> Group:
    common = segments[0] if segments[0].name == "ORC" else None
    detail = next((segment for segment in segments if segment.name in DETAILS), None)
    return Group(segments[0].position, common, detail, tuple(segments))


def numbers(group: Group) -> tuple[Element | None, Element | None]:
    """Placer and filler order number: ORC-2 and ORC-3, else OBR-2 and OBR-3."""
    result: list[Element | None] = []
    for field in (2, 3):
        element = group.common.first(field) if group.common else None
        if not (element and element.text(1)) and group.detail is not None and group.detail.name == "OBR":
            element = group.detail.first(field)
        result.append(element if element is not None and element.text(1) else None)
    return result[0], result[1]


def identifiers(group: Group) -> list[Tree]:
    """The order numbers as Identifier, placer first."""
    found = []
    for element, code in zip(numbers(group), ("PLAC", "FILL"), strict=True):
        known = datatypes.entity(element) if element is not None else None
        if known:
            kind = coded(IDENTIFIER_TYPE, code)
            found.append({"type": kind, "system": known[0], "value": known[1]})
    return found


def key(reading: Reading, group: Group, kind: str, *, filler_first: bool = False) -> str:
    """The name of an order's resource of one kind: by its numbers and code, else by its place in the message."""
    placer, filler = numbers(group)
    pair = (filler, placer) if filler_first else (placer, filler)
    number = next((element for element in pair if element is not None), None)
    code = reading.concept(group.detail, _CODE_FIELD[group.detail.name]) if group.detail else None
    about = datatypes.concept_key(code or {})
    if number is None:
        return digest(kind, reading.origin.control_id, str(group.position), about)
    return digest(kind, *(datatypes.entity(number) or ()), about)


_CODE_FIELD: Final = {"OBR": 4, "RXO": 1, "RXE": 2, "RXA": 5, "ODS": 3, "RQD": 2}


def status(group: Group) -> str:
    """request-status of the order; what the tables leave open is active."""
    if group.common is None:
        return "active"
    by_status = _BY_ORDER_STATUS.get(group.common.text(5).upper())
    return by_status or _BY_CONTROL.get(group.common.text(1).upper(), "active")


def priority(group: Group) -> str | None:
    """TQ1-9, ORC-7.6, OBR-27.6 or OBR-5."""
    timing = group.find("TQ1")
    request = group.find("OBR")
    sent = (
        timing.text(9) if timing else "",
        group.common.text(7, 6) if group.common else "",
        request.text(27, 6) if request else "",
        request.text(5) if request else "",
    )
    return next((PRIORITY[code.upper()] for code in sent if code.upper() in PRIORITY), None)
