"""Write one line of plain words for a resource, and the XHTML narrative of a section.

Out:     text for people: what, how much, when; digits as the laboratory sent them
Source:  FHIR R4 narrative (a div in the XHTML namespace, no active content)
"""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from ehr.fhir.elements import text_of
from ehr.summary.sections import Section, Tree, when
from terminology.lists import CODE_LISTS

UNITS: Final[Mapping[str, str]] = {"Cel": "°C", "mm[Hg]": "mmHg", "10*9/L": "×10⁹/L", "10*12/L": "×10¹²/L", "1": ""}
"""UCUM codes that people do not read as they are; whatever else a sender writes is shown as sent."""

NO_INFORMATION: Final = "Chưa có thông tin / No information"


def code_text(concept: object) -> str:
    """The first code of a CodeableConcept, '' if it has none."""
    codings = concept.get("coding", ()) if isinstance(concept, Mapping) else ()
    return str(codings[0].get("code", "")) if codings else ""


def disposition_text(concept: Mapping[str, Any] | None) -> str:
    """How a stay ended: the sender's words, else the name its code has in the national list."""
    listed = CODE_LISTS["MA_LOAI_RV"].get(code_text(concept))
    words = text_of(concept)
    return listed.name_vi if listed is not None and words == listed.code else words


def quantity_text(quantity: object) -> str:
    if not isinstance(quantity, Mapping) or "value" not in quantity:
        return ""
    unit = str(quantity.get("unit") or quantity.get("code") or "")
    return f"{quantity.get('comparator', '')}{quantity['value']} {UNITS.get(unit, unit)}".strip()


def value_text(observation: Tree) -> str:
    """The value of an Observation or component in words."""
    if "valueQuantity" in observation:
        return quantity_text(observation["valueQuantity"])
    if "valueCodeableConcept" in observation:
        return text_of(observation["valueCodeableConcept"])
    if "component" in observation:
        parts = (f"{text_of(c.get('code'))} {value_text(c)}".strip() for c in observation["component"])
        return "; ".join(parts)
    for key, value in observation.items():
        if key.startswith("value") and isinstance(value, str | int | bool):
            return str(value)
    return text_of(observation.get("dataAbsentReason"))


def range_text(observation: Tree) -> str:
    """The reference range as the laboratory states it."""
    for reference in observation.get("referenceRange", ()):
        if reference.get("text"):
            return str(reference["text"])
        low, high = quantity_text(reference.get("low")), quantity_text(reference.get("high"))
        if low or high:
            return f"{low} - {high}".strip(" -") if low and high else (f"≥ {low}" if low else f"≤ {high}")
    return ""


def dosage_text(medication: Tree) -> str:
    dosages = medication.get("dosageInstruction") or medication.get("dosage") or ()
    return "; ".join(str(d["text"]) for d in dosages if d.get("text"))


def line(tree: Tree) -> str:
    """One line for one resource, in the words of its sender."""
    day = when(tree)[:10]
    match tree.get("resourceType"):
        case "Observation":
            words = f"{text_of(tree.get('code'))}: {value_text(tree)}"
        case "MedicationRequest" | "MedicationStatement":
            words = " — ".join(filter(None, (medication_text(tree), dosage_text(tree))))
        case "Immunization":
            words = text_of(tree.get("vaccineCode"))
        case "CarePlan":
            words = str(
                tree.get("title") or tree.get("description") or text_of(next(iter(tree.get("category", ())), None))
            )
        case _:
            code = code_text(tree.get("code"))
            words = f"{text_of(tree.get('code'))} ({code})" if code else text_of(tree.get("code"))
    return f"{words} · {day}" if day else words


def medication_text(tree: Tree) -> str:
    if "medicationCodeableConcept" in tree:
        return text_of(tree["medicationCodeableConcept"])
    reference: Any = tree.get("medicationReference") or {}
    return str(reference.get("display", ""))


def narrative(section: Section) -> dict[str, str]:
    """Narrative of a section: a list, or the statement that nothing is known."""
    if not section.entries:
        body = f"<p>{escape(NO_INFORMATION)}</p>"
    else:
        body = "<ul>" + "".join(f"<li>{escape(line(t))}</li>" for t in section.entries) + "</ul>"
        if section.omitted:
            more = f"Còn {section.omitted} mục cũ hơn / {section.omitted} older entries are not shown"
            body += f"<p>{escape(more)}</p>"
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{body}</div>'}
