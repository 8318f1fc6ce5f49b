"""A coded value against the value set an element is bound to.

Out:     issues: required → error, extensible → warning; a value set that is not known here → said, never passed over
Source:  FHIR R4 terminologies.html#strength, elementdefinition.html eld-11, extension elementdefinition-maxValueSet
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ehr.fhir.profiles.item import Item
from ehr.fhir.profiles.library import CodeQuestion, Library
from ehr.fhir.profiles.rule import Binding

if TYPE_CHECKING:
    from ehr.errors import Severity
    from ehr.fhir.profiles.check import Check


_CODED: Final = frozenset(
    {"code", "Coding", "CodeableConcept", "Quantity", "Age", "Count", "Distance", "Duration", "string", "uri"}
)
"""What a binding binds (eld-11): the other types of a choice have no codes."""


def check_binding(check: "Check", binding: Binding, item: Item) -> None:
    if item.kind not in _CODED or item.value is None:
        return
    if binding.strength == "required":
        _bound(check, binding.value_set, item, "error", "warning")
    elif binding.strength == "extensible":
        _bound(check, binding.value_set, item, "warning", "information")
    if binding.max_value_set is not None:
        _bound(check, binding.max_value_set, item, "error", "information")


def _bound(check: "Check", value_set: str, item: Item, wrong: "Severity", unknown: "Severity") -> None:
    found = members(check.library, value_set, item)
    if found is None:
        check.say("not-found", f"not checked: the value set {value_set} is not known here", item.path, unknown)
    elif not found and not (wrong == "warning" and _is_text_only(item)):
        what = "one coding must be a code" if item.kind == "CodeableConcept" else "must be a code"
        check.say("code-invalid", f"{what} of {value_set}", item.path, wrong)


def members(library: Library, value_set: str, item: Item) -> bool | None:
    """Whether one of the codes of a value is in the set; None where that is not known."""
    answers = [library.member(CodeQuestion(value_set, system, code)) for system, code in _codes(item)]
    if True in answers:
        return True
    return None if None in answers else False


def _codes(item: Item) -> Iterator[tuple[str | None, str]]:
    """Systems and codes; what is no text R4 itself refuses."""
    value: Any = item.value
    if isinstance(value, str):
        yield None, value
        return
    for coding in value.get("coding", []) if item.kind == "CodeableConcept" else [value]:
        system, code = (coding.get("system") or "", coding.get("code")) if isinstance(coding, Mapping) else ("", None)
        if isinstance(system, str) and isinstance(code, str):
            yield system, code


def _is_text_only(item: Item) -> bool:
    """An extensible binding lets a concept without a code in the set be text (terminologies.html#extensible)."""
    return item.is_object and not item.value.get("coding")
