"""Turn OBX into Observation: value, unit, range and flags exactly as sent.

Keeps:   OBX-7 as text and, where it reads as a range, as low and high, OBX-8 as interpretation; OBX-5: value.py
Order:   lines of text (TX, FT) under one code and sub-id are one Observation
Errors:  required where OBX-3 is empty
Source:  HL7 v2-to-FHIR guide, OBX[Observation], SN[Quantity], tables 0085 and 0078; FHIR R4 10.1
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Element, Segment
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.value import value
from ehr.fhir import vietnam, vital_signs
from ehr.fhir.elements import TERMINOLOGY, coded, reference

STATUS: Final = {
    "A": "amended",
    "B": "amended",
    "C": "corrected",
    "D": "entered-in-error",
    "F": "final",
    "I": "registered",
    "O": "registered",
    "P": "preliminary",
    "R": "preliminary",
    "S": "preliminary",
    "U": "final",
    "V": "final",
    "W": "entered-in-error",
    "X": "cancelled",
}
"""OBX-11 (table 0085) → Observation.status; N and what is not in the table are "unknown"."""
INTERPRETATION: Final = frozenset(
    """< > A AA B CAR D DET E EX EXP H HH HU HX I IE IND L LL LU LX MS N NCL ND NEG NR NS OBX POS QCF R RR S SDD SYN-R
    SYN-S TOX U UNE VS W WR""".split()  # noqa: SIM905
)
"""Codes of table 0078 that v3-ObservationInterpretation has too."""
_RANGE: Final = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:-|–|to)\s*(-?\d+(?:\.\d+)?)\s*")
_BOUND: Final = re.compile(r"\s*(<|<=|>|>=|≤|≥)\s*(-?\d+(?:\.\d+)?)\s*")
_TEXTS: Final = frozenset({"TX", "FT"})


@dataclass(slots=True)
class Context:
    """What the observations of one group share. service_code: MA_DICH_VU of the service they answer."""

    patient_url: str
    key: str
    visit_url: str | None = None
    effective: str | None = None
    issued: str | None = None
    specimen_url: str | None = None
    order_url: str | None = None
    section: str = ""
    status: str = "unknown"
    part_of: str | None = None
    service_code: str = ""
    seen: dict[str, int] = field(default_factory=dict)


def observations(reading: Reading, segments: Sequence[Segment], context: Context) -> list[str]:
    """The references of every OBX of a group, with the notes (NTE) that follow each."""
    found: list[str] = []
    lines: list[list[Segment]] = []
    for segment in segments:
        if segment.name == "OBX" and lines and _continues(lines[-1][-1], segment):
            lines[-1].append(segment)
        elif segment.name == "OBX":
            lines.append([segment])
    for group in lines:
        url = _observation(reading, group, context, group[-1].notes)
        if url and url not in found:
            found.append(url)
    return found


def _continues(before: Segment, segment: Segment) -> bool:
    """The next line of one text: same code, same sub-id, both text."""
    if not {before.text(2).upper(), segment.text(2).upper()} <= _TEXTS:
        return False
    return all(str(before.first(n).node) == str(segment.first(n).node) for n in (3, 4, 11))


def _observation(reading: Reading, group: list[Segment], context: Context, notes: list[str]) -> str | None:
    first = group[0]
    code = reading.concept(first, 3)
    if not code:
        reading.fault("required", "OBX-3 names no observation", first.path(3))
        return None
    system, key = _identity(first, code, context)
    status = STATUS.get(first.text(11).upper(), context.status if not first.filled(11) else "unknown")
    resource: Tree = {
        "resourceType": "Observation",
        "identifier": [{"system": system, "value": key}],
        "status": status,
        "category": [_category(code, context)],
        "code": code,
        "subject": reference(context.patient_url),
    }
    for name, url in (("encounter", context.visit_url), ("specimen", context.specimen_url)):
        if url:
            resource[name] = reference(url)
    for name, url in (("basedOn", context.order_url), ("partOf", context.part_of)):
        if url:
            resource[name] = [reference(url)]
    effective = reading.moment(first, 14) or context.effective
    if effective:
        resource["effectiveDateTime"] = effective
    if context.issued:
        resource["issued"] = context.issued
    resource |= value(reading, group)
    if context.service_code:
        columns = vietnam.columns_extension({"MA_DICH_VU": context.service_code})
        resource.setdefault("extension", []).append(columns)
    _circumstances(reading, first, resource, notes)
    return reading.draft.state(resource, system, key)


def _identity(segment: Segment, code: Tree, context: Context) -> tuple[str, str]:
    """OBX-21, else the order, the code, the sub-id, and its place among its equals in the group."""
    own = datatypes.entity(segment.first(21))
    if own:
        return own
    about = f"{datatypes.concept_key(code)}|{segment.text(4)}"
    context.seen[about] = context.seen.get(about, 0) + 1
    return systems.local("observation"), digest(context.key, about, str(context.seen[about]))


def _category(code: Tree, context: Context) -> Tree:
    codes = {item["code"] for item in code.get("coding", ()) if item.get("system") == vietnam.LOINC}
    kind = "vital-signs" if codes & vital_signs.ALL else context.section or "exam"
    return coded(vietnam.OBSERVATION_CATEGORY, kind)


def _circumstances(reading: Reading, segment: Segment, resource: Tree, notes: list[str]) -> None:
    flags = [flag for element in segment.repetitions(8) if (flag := _interpretation(reading, element))]
    if flags:
        resource["interpretation"] = flags
    if notes:
        resource["note"] = [{"text": text} for text in notes]
    people = practitioners(reading, segment, 16)
    if people:
        resource["performer"] = people
    method = reading.concept(segment, 17)
    if method:
        resource["method"] = method
    site = reading.concept(segment, 20)
    if site:
        resource["bodySite"] = site
    if segment.text(7):
        resource["referenceRange"] = [_range(segment, resource.get("valueQuantity", {}))]
    if segment.text(11).upper() == "N" and not any(name.startswith("value") for name in resource):
        resource["dataAbsentReason"] = coded(TERMINOLOGY + "data-absent-reason", "not-asked")


def _interpretation(reading: Reading, element: Element) -> Tree | None:
    code = element.text(1)
    if code in INTERPRETATION:
        return coded(TERMINOLOGY + "v3-ObservationInterpretation", code, element.text(2))
    return reading.concept_of(element)


def _range(segment: Segment, quantity: Tree) -> Tree:
    """OBX-7 as sent, and as numbers in the unit of the value where it reads as numbers."""
    text = segment.first(7).whole().strip()
    unit = {name: value for name, value in quantity.items() if name in ("unit", "system", "code")}
    result: Tree = {}
    between = _RANGE.fullmatch(text)
    bound = _BOUND.fullmatch(text)
    if between:
        low, high = datatypes.decimal(between[1]), datatypes.decimal(between[2])
        if low is not None and high is not None and low <= high:
            result = {"low": {"value": low, **unit}, "high": {"value": high, **unit}}
    elif bound:
        limit = datatypes.decimal(bound[2])
        result = {"high" if bound[1] in ("<", "<=", "≤") else "low": {"value": limit, **unit}}
    return {**result, "text": text}
