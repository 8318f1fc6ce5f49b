"""The FHIR elements that our own code writes and reads everywhere: CodeableConcept, Reference, Identifier.

In:      codes, places and words; or elements of resources that the gate has let in
Out:     trees without empty values, because FHIR JSON has none; texts, "" or None where there is nothing
Source:  FHIR R4 datatypes.html (CodeableConcept, Identifier), references.html
"""

from collections.abc import Mapping
from typing import Any, Final

TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
"""What the URIs of HL7's own code systems begin with."""

EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"
"""What the URLs of R4's own extensions begin with."""

SUBSETTED: Final = {"system": TERMINOLOGY + "v3-ObservationValue", "code": "SUBSETTED"}
"""The tag of a resource that is only a part of itself (search.html#elements)."""


def is_subsetted(tag: Mapping[str, Any]) -> bool:
    return tag.get("code") == SUBSETTED["code"] and tag.get("system") in (SUBSETTED["system"], None)


def coded(system: str, code: str, text: str = "") -> dict[str, Any]:
    """A CodeableConcept with one coding."""
    concept: dict[str, Any] = {"coding": [{"system": system, "code": code}]}
    return {**concept, "text": text} if text else concept


def reference(to: str, display: str = "") -> dict[str, Any]:
    """A Reference; display only where there is one."""
    return {"reference": to, "display": display} if display else {"reference": to}


def code_of(concept: Mapping[str, Any] | None, system: str) -> str | None:
    """The code of one system in a CodeableConcept, or None."""
    for coding in (concept or {}).get("coding", ()):
        if coding.get("system") == system and "code" in coding:
            return str(coding["code"])
    return None


def text_of(concept: Mapping[str, Any] | None) -> str:
    """The words of a CodeableConcept: its text, else the first display, else the first code."""
    if not concept:
        return ""
    if concept.get("text"):
        return str(concept["text"])
    codings = concept.get("coding", ())
    shown = next((coding["display"] for coding in codings if coding.get("display")), None)
    return str(shown or next((coding["code"] for coding in codings if coding.get("code")), ""))


def identifier_of(element: Mapping[str, Any], system: str) -> str | None:
    """The first identifier value of one system, or None."""
    for identifier in element.get("identifier", ()):
        if identifier.get("system") == system and "value" in identifier:
            return str(identifier["value"])
    return None


def target_of(found: Mapping[str, Any] | None) -> str:
    """ "Type/id" of a Reference, without a version; "" where it has none."""
    return str((found or {}).get("reference", "")).split("/_history/", maxsplit=1)[0]
