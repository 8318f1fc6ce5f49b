"""Choose what of a person's record belongs in each section of the International Patient Summary.

In:      trees of current resources by type, of all source Patients of one person
Out:     list[Section], in the order of the guide; the three required sections are always there
Rules:   entered-in-error and refuted never appear; repeated problems and results are shown once, newest first;
         a section over summary_section_entries_max keeps the newest and says so in its narrative
Source:  IPS 2.0.0, Composition-uv-ips (section codes, min 1 problems, allergies, medications)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from ehr import limits
from ehr.clock import local

Tree = Mapping[str, Any]
Trees = Mapping[str, Sequence[Tree]]

PROBLEMS: Final = "11450-4"
ALLERGIES: Final = "48765-2"
MEDICATIONS: Final = "10160-0"
IMMUNIZATIONS: Final = "11369-6"
RESULTS: Final = "30954-2"
PROCEDURES: Final = "47519-4"
PAST_PROBLEMS: Final = "11348-0"
VITAL_SIGNS: Final = "8716-3"
PLAN: Final = "18776-5"
"""LOINC codes of the sections."""

RECENT_MEDICATION: Final = timedelta(days=90)
"""A finished prescription still matters to the next doctor for about a quarter."""


@dataclass(frozen=True, slots=True)
class Section:
    """code: LOINC of the section; omitted: entries left out because the section is full."""

    code: str
    display: str
    title_vi: str
    title_en: str
    required: bool
    entries: tuple[Tree, ...]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class _Rule:
    code: str
    display: str
    title_vi: str
    title_en: str
    required: bool
    choose: Callable[[Trees, date], list[Tree]]


def sections(trees: Trees, today: date) -> list[Section]:
    """All sections with content, and the required ones even without."""
    chosen: list[Section] = []
    for rule in _RULES:
        entries = rule.choose(trees, today)
        if entries or rule.required:
            kept = tuple(entries[: limits.summary_section_entries_max])
            chosen.append(
                Section(
                    rule.code,
                    rule.display,
                    rule.title_vi,
                    rule.title_en,
                    rule.required,
                    kept,
                    len(entries) - len(kept),
                )
            )
    return chosen


def codes_of(concept: object) -> list[tuple[str, str]]:
    """(system, code) of each coding of a CodeableConcept."""
    if not isinstance(concept, Mapping):
        return []
    return [(c.get("system", ""), c["code"]) for c in concept.get("coding", ()) if "code" in c]


def has_code(concept: object, *codes: str) -> bool:
    return any(code in codes for _, code in codes_of(concept))


def when(tree: Tree) -> str:
    """The clinical moment of a resource as its sender wrote it, for ordering and display; '' if none."""
    for key in _MOMENTS:
        value = tree.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping):
            return str(value.get("start") or value.get("end") or "")
    return ""


_MOMENTS: Final = (
    "effectiveDateTime",
    "effectivePeriod",
    "effectiveInstant",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "onsetDateTime",
    "onsetPeriod",
    "authoredOn",
    "recordedDate",
    "dateAsserted",
    "period",
    "created",
    "date",
    "issued",
)


def newest_first(found: list[Tree]) -> list[Tree]:
    """By moment, whatever zone it was written in."""
    return sorted(found, key=lambda tree: local(when(tree)), reverse=True)


def _once(found: list[Tree], element: str) -> list[Tree]:
    """Newest first, each code once."""
    seen: set[object] = set()
    kept: list[Tree] = []
    for tree in newest_first(found):
        concept = tree.get(element)
        codes = codes_of(concept)
        key: object = codes[0] if codes else (concept or {}).get("text") if isinstance(concept, Mapping) else None
        if key is not None and key in seen:
            continue
        seen.add(key)
        kept.append(tree)
    return kept


def sound(tree: Tree) -> bool:
    """Not withdrawn: neither entered in error nor refuted."""
    return tree.get("status") != "entered-in-error" and not has_code(
        tree.get("verificationStatus"), "entered-in-error", "refuted"
    )


def happened(tree: Tree) -> bool:
    """Sound, and neither called off nor only planned."""
    return sound(tree) and tree.get("status") not in ("cancelled", "not-done", "planned", "registered", "draft")


def _problems(trees: Trees, _: date) -> list[Tree]:
    ended = ("inactive", "remission", "resolved")
    found = [t for t in trees.get("Condition", ()) if sound(t) and not has_code(t.get("clinicalStatus"), *ended)]
    return _once(found, "code")


def _past_problems(trees: Trees, today: date) -> list[Tree]:
    present = {code for t in _problems(trees, today) for code in codes_of(t.get("code"))}
    ended = ("inactive", "remission", "resolved")
    found = [
        t
        for t in trees.get("Condition", ())
        if sound(t) and has_code(t.get("clinicalStatus"), *ended) and not present.intersection(codes_of(t.get("code")))
    ]
    return _once(found, "code")


def _allergies(trees: Trees, _: date) -> list[Tree]:
    found = [
        t
        for t in trees.get("AllergyIntolerance", ())
        if sound(t) and not has_code(t.get("clinicalStatus"), "inactive", "resolved")
    ]
    return _once(found, "code")


def _medications(trees: Trees, today: date) -> list[Tree]:
    recent = (today - RECENT_MEDICATION).isoformat()
    found = [
        t
        for kind in ("MedicationRequest", "MedicationStatement")
        for t in trees.get(kind, ())
        if t.get("status") in ("active", "on-hold", "intended")
        or (t.get("status") in ("completed", "unknown") and local(when(t))[:10] >= recent)
    ]
    return _once(found, "medicationCodeableConcept")


def _immunizations(trees: Trees, _: date) -> list[Tree]:
    return newest_first([t for t in trees.get("Immunization", ()) if t.get("status") == "completed"])


def _procedures(trees: Trees, _: date) -> list[Tree]:
    return newest_first([t for t in trees.get("Procedure", ()) if t.get("status") in ("completed", "in-progress")])


def _observed(trees: Trees, category: str) -> list[Tree]:
    found = [
        t
        for t in trees.get("Observation", ())
        if t.get("status") in ("final", "amended", "corrected", "preliminary")
        and any(has_code(c, category) for c in t.get("category", ()))
    ]
    return _once(found, "code")


def _results(trees: Trees, _: date) -> list[Tree]:
    return _observed(trees, "laboratory")


def _vital_signs(trees: Trees, _: date) -> list[Tree]:
    return _observed(trees, "vital-signs")


def _plan(trees: Trees, _: date) -> list[Tree]:
    return newest_first([t for t in trees.get("CarePlan", ()) if t.get("status") in ("active", "draft")])


_RULES: Final = (
    _Rule(PROBLEMS, "Problem list - Reported", "Bệnh đang mắc", "Problems", True, _problems),
    _Rule(ALLERGIES, "Allergies and adverse reactions Document", "Dị ứng", "Allergies", True, _allergies),
    _Rule(MEDICATIONS, "History of Medication use Narrative", "Thuốc", "Medicines", True, _medications),
    _Rule(IMMUNIZATIONS, "History of Immunization note", "Tiêm chủng", "Immunizations", False, _immunizations),
    _Rule(
        RESULTS,
        "Relevant diagnostic tests/laboratory data note",
        "Kết quả xét nghiệm",
        "Results",
        False,
        _results,
    ),
    _Rule(
        PROCEDURES, "History of Procedures Document", "Phẫu thuật, thủ thuật, dịch vụ", "Procedures", False, _procedures
    ),
    _Rule(PAST_PROBLEMS, "History of Past illness note", "Tiền sử bệnh", "Past problems", False, _past_problems),
    _Rule(VITAL_SIGNS, "Vital signs note", "Dấu hiệu sinh tồn", "Vital signs", False, _vital_signs),
    _Rule(PLAN, "Plan of care note", "Kế hoạch chăm sóc", "Plan of care", False, _plan),
)
