"""Turn OBX into Observation: value, unit, range and flags exactly as sent.

Keeps:   OBX-5 digits ("13.50"), OBX-6 as the unit (a code only where the sender says UCUM), OBX-7 as text and, where
         it reads as a range, as low and high, OBX-8 as interpretation
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
from adapters.hl7v2.attachment import attachment
from adapters.hl7v2.parse import Element, Segment
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from ehr.fhir import vietnam
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
VITAL_SIGNS: Final = frozenset(
    """8867-4 8310-5 8480-6 8462-4 85354-9 9279-1 59408-5 2708-6 29463-7 3141-9 8302-2 39156-5 8287-5""".split()  # noqa: SIM905
)
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
        url = _observation(reading, group, context, notes_after(group[-1]))
        if url and url not in found:
            found.append(url)
    return found


def notes_after(segment: Segment) -> list[str]:
    """The text of the NTE segments that directly follow one."""
    found = segment.message.after(segment, "NTE")
    texts = ["\n".join(element.whole() for element in note.repetitions(3)).strip() for note in found]
    return [text for text in texts if text]


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
    resource |= _value(reading, group)
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
    kind = "vital-signs" if codes & VITAL_SIGNS else context.section or "exam"
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


def _value(reading: Reading, group: list[Segment]) -> Tree:
    """OBX-5 by the type OBX-2 says; what is not of its type is kept as text."""
    first = group[0]
    kind = first.text(2).upper()
    elements = [element for segment in group for element in segment.repetitions(5)]
    if not elements:
        return {}
    texts = [element.whole().strip() for element in elements]
    as_text: Tree = {"valueString": "\n".join(texts)} if any(texts) else {}
    if len(elements) > 1 and kind not in ("CE", "CWE", "CNE", "CF"):
        return as_text
    if kind in ("DT", "TS", "DTM"):
        moment = reading.moment(first, 5)
        return {"valueDateTime": moment} if moment else as_text
    typed: Tree = {}
    match kind:
        case "NM":
            typed = _number(reading, first, texts[0])
        case "SN":
            typed = _structured(reading, first, elements[0])
        case "CE" | "CWE" | "CNE" | "CF":
            typed = _coded(reading, elements)
        case "TM":
            typed = _time_of_day(texts[0])
        case "ED":
            typed = _embedded(elements[0])
        case "NR" | "CQ":
            typed = _pair(reading, first, elements[0], kind)
        case _:
            pass
    return typed or as_text


def _coded(reading: Reading, elements: list[Element]) -> Tree:
    concepts = [concept for element in elements if (concept := reading.concept_of(element))]
    if not concepts:
        return {}
    codings = [coding for concept in concepts for coding in concept.get("coding", ())]
    text = "; ".join(concept["text"] for concept in concepts if "text" in concept)
    return {"valueCodeableConcept": {**({"coding": codings} if codings else {}), **({"text": text} if text else {})}}


def _number(reading: Reading, segment: Segment, text: str) -> Tree:
    number = datatypes.decimal(text)
    if number is None:
        return {}
    return {"valueQuantity": {"value": number, **datatypes.unit(segment.first(6), reading.origin.facility_code)}}


def _structured(reading: Reading, segment: Segment, element: Element) -> Tree:
    """SN: comparator^number^separator or suffix^number."""
    comparator, separator = element.text(1), element.text(3)
    first, second = datatypes.decimal(element.text(2)), datatypes.decimal(element.text(4))
    unit = datatypes.unit(segment.first(6), reading.origin.facility_code)
    exact = comparator in ("", "=")
    if first is None or not (exact or comparator in ("<", "<=", ">", ">=")):
        return {}
    if second is None and not separator:
        return {"valueQuantity": {"value": first, **({} if exact else {"comparator": comparator}), **unit}}
    if second is not None and exact and separator == "-":
        return {"valueRange": {"low": {"value": first, **unit}, "high": {"value": second, **unit}}}
    if second is not None and exact and separator in (":", "/"):
        return {"valueRatio": {"numerator": {"value": first}, "denominator": {"value": second}}}
    return {}


def _pair(reading: Reading, segment: Segment, element: Element, kind: str) -> Tree:
    """NR as Range; CQ as Quantity with its own unit."""
    first = datatypes.decimal(element.text(1))
    if first is None:
        return {}
    if kind == "CQ":
        unit = element.text(2) or segment.text(6)
        return {"valueQuantity": {"value": first, **({"unit": unit} if unit else {})}}
    second = datatypes.decimal(element.text(2))
    if second is None:
        return {}
    unit_of = datatypes.unit(segment.first(6), reading.origin.facility_code)
    return {"valueRange": {"low": {"value": first, **unit_of}, "high": {"value": second, **unit_of}}}


def _time_of_day(text: str) -> Tree:
    match = re.fullmatch(r"([01]\d|2[0-3])([0-5]\d)(?:([0-5]\d)(\.\d+)?)?(?:[+-]\d{4})?", text)
    return {"valueTime": f"{match[1]}:{match[2]}:{match[3] or '00'}{match[4] or ''}"} if match else {}


def _embedded(element: Element) -> Tree:
    """ED: R4 has no valueAttachment, so it travels in the extension that brings back the one of R5."""
    found = attachment(element)
    if not found:
        return {}
    url = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.value"
    return {"extension": [{"url": url, "valueAttachment": found}]}
