"""Write one line of plain words for a resource, and the XHTML narrative of a section.

Out:     text for people: what, how much, when; digits as the laboratory sent them
Source:  FHIR R4 narrative (a div in the XHTML namespace, no active content)
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final

from ehr.clock import local
from ehr.fhir.elements import text_of
from ehr.summary.sections import Section, Tree, when
from terminology.lists import CODE_LISTS

UNITS: Final[Mapping[str, str]] = {"Cel": "°C", "mm[Hg]": "mmHg", "10*9/L": "×10⁹/L", "10*12/L": "×10¹²/L", "1": ""}
"""UCUM codes that people do not read as they are; whatever else a sender writes is shown as sent."""

NO_INFORMATION: Final = "Chưa có thông tin / No information"
YES, NO = "Có / Yes", "Không / No"
SERIES: Final = "Chuỗi số đo / A series of measurements"
ABSENT: Final[Mapping[str, str]] = {
    "unknown": "Không rõ / Unknown",
    "asked-unknown": "Đã hỏi, không rõ / Asked, unknown",
    "asked-declined": "Không trả lời / Declined to answer",
    "temp-unknown": "Chưa rõ / Not known yet",
    "not-asked": "Không hỏi / Not asked",
    "not-applicable": "Không áp dụng / Not applicable",
    "not-performed": "Không thực hiện / Not performed",
    "not-permitted": "Không được phép / Not permitted",
    "masked": "Không hiển thị / Masked",
    "error": "Lỗi đo / Measurement error",
    "unsupported": "Không hỗ trợ / Not supported",
}
"""Codes of data-absent-reason that come without words."""


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
    key, value = next(((k, v) for k, v in observation.items() if k.startswith("value")), ("", None))
    if key:
        return _VALUES.get(key, str)(value)
    absent = observation.get("dataAbsentReason")
    words = text_of(absent)
    return ABSENT.get(words, words) if words == code_text(absent) else words


def moment_text(text: str) -> str:
    """A FHIR date or dateTime as people in Viet Nam write it; a partial date keeps its precision."""
    day, _, time = local(text).partition("T")
    return " ".join(filter(None, ("/".join(reversed(day.split("-"))), time[:5])))


def range_text(observation: Tree) -> str:
    """The reference ranges as the laboratory states them, each with whom it is for."""
    told = [" ".join(filter(None, (_for_whom(one), _range(one)))) for one in observation.get("referenceRange", ())]
    return "; ".join(dict.fromkeys(filter(None, told)))


def _range(reference: Tree) -> str:
    return str(reference["text"]) if reference.get("text") else _between(reference)


def _for_whom(reference: Tree) -> str:
    """ "Nam:" before the range of men; nothing before words, which say it themselves."""
    if reference.get("text"):
        return ""
    who = ", ".join(
        filter(None, (*(text_of(c) for c in reference.get("appliesTo", ())), _between(reference.get("age"))))
    )
    return f"{who}:" if who and _between(reference) else ""


def _between(bounds: object) -> str:
    """Of a Range, or of what has low and high as it has."""
    if not isinstance(bounds, Mapping):
        return ""
    low, high = quantity_text(bounds.get("low")), quantity_text(bounds.get("high"))
    if low and high:
        return f"{low} - {high}"
    return f"≥ {low}" if low else f"≤ {high}" if high else ""


def _ratio(ratio: Tree) -> str:
    return " : ".join(filter(None, (quantity_text(ratio.get("numerator")), quantity_text(ratio.get("denominator")))))


def _period(period: Tree) -> str:
    return " – ".join(moment_text(str(period[end])) for end in ("start", "end") if end in period)


_VALUES: Final[Mapping[str, Callable[[Any], str]]] = {
    "valueBoolean": lambda value: YES if value else NO,
    "valueDateTime": lambda value: moment_text(str(value)),
    "valuePeriod": _period,
    "valueRange": _between,
    "valueRatio": _ratio,
    "valueSampledData": lambda _: SERIES,
}
"""Values that are not shown as they are written."""


def dosage_text(medication: Tree) -> str:
    dosages = medication.get("dosageInstruction") or medication.get("dosage") or ()
    return "; ".join(str(d["text"]) for d in dosages if d.get("text"))


def line(tree: Tree) -> str:
    """One line for one resource, in the words of its sender."""
    day = local(when(tree))[:10]
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
    held = (one for one in tree.get("contained", ()) if f"#{one.get('id')}" == reference.get("reference"))
    return str(reference.get("display") or next((text_of(one.get("code")) for one in held), ""))


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
