"""Turn OBX-5 into Observation.value[x], by the type that OBX-2 says.

Out:     {"valueQuantity": …} and its like; {} where nothing was sent
Keeps:   digits ("13.50"); the unit of OBX-6, with a code only where the sender says UCUM; what is not of its type, as
         text
Source:  HL7 v2-to-FHIR guide, OBX[Observation], SN[Quantity], NR, CQ; HL7 v2.5.1 table 0125; FHIR R4 10.1
"""

import re

from adapters.draft import Tree
from adapters.hl7v2 import datatypes
from adapters.hl7v2.attachment import attachment
from adapters.hl7v2.message import Element, Segment
from adapters.hl7v2.reading import Reading


def value(reading: Reading, group: list[Segment]) -> Tree:
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
