"""What no type of msgspec can say of an object → the source of one __post_init__ that asks it all.

In:      type or backbone of the object, the rule of the element that holds it, and its attributes
Out:     a function of the converted object, which raises ValueError; nothing where there is nothing to ask
Asks:    that it is not empty, of a choice one variant, bound codes, invariants, and texts that were not met before
Why:     a function for each question would cost more than the questions: an ExplanationOfBenefit has a hundred objects
Source:  as ehr.fhir.explain; each check here is at least as strict as the one there
"""

import keyword
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import count
from typing import Any, Final

import msgspec
from msgspec import UNSET

from ehr.fhir.accepted_texts import REMEMBERED, TARGETS, Meet, or_absent, reference_check
from ehr.fhir.invariants import hold, invariants
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Element, Member, code_list, codes, shape

_VARIANTS_MAX: Final = 5
"""Of a choice of more, the variants that hold texts are rare, and asking for each costs every object."""
_RARE: Final = frozenset({"implicitRules", "language", "type"})
"""Texts of every resource or reference that are hardly ever there: the type of a Reference is one."""


def remembered(member: Member) -> str | None:
    """The kind of primitive, where the texts of a member are asked for here and not by a pattern."""
    element = member.element
    if member.type not in REMEMBERED or element.max is None or element.name in _RARE:
        return None
    if (element.is_choice and len(element.types) > _VARIANTS_MAX) or is_listed(member):
        return None
    return member.type


def is_listed(member: Member) -> bool:
    """Whether a required binding lists all codes of the member."""
    return member.type == "code" and bool(member.element.value_set and code_list(member.element.value_set))


ENDLESS_MET: Final = count()
"""Goes on at each object that may hold one like itself without end (ehr.fhir.structure.ENDLESS), whoever reads it: who
asks for a number before and after reading, and gets the next one, knows that there was none."""


def namespace(kind: str, rule: Element | None, meet: Meet | None, attributes: Iterable[str]) -> dict[str, Any]:
    """What the struct of a type holds beside its fields."""
    form = shape(kind)
    asked = _Questions()
    if not form.required and kind not in TYPE_IDS:
        asked.demand(_not_empty(attributes))
    if kind != "Extension":
        for element in form.choices:
            asked.demand(_one_variant(element))
    bound = codes(rule.value_set) if kind == "Coding" and rule is not None and rule.value_set else None
    if bound is None:
        for name, member in form.members.items():
            if known := remembered(member):
                attribute = f"{name}_" if keyword.iskeyword(name) else name
                asked.remember(f"node.{attribute}", attribute, *REMEMBERED[known])
    elif len(bound) > 1:
        pairs = {(system, code) for system, listed in bound.items() for code in listed}
        asked.demand(f"(node.system, node.code) in {asked.named(pairs)}")
    if kind == "Reference":
        targets = rule.targets if rule else None
        check = reference_check(targets, meet)
        asked.remember("targets.get(node.reference)", "reference", or_absent(targets), check)
    if kind in _ENDLESS:
        asked.count(_ENDLESS[kind])
    if kind in GUARDED:
        asked.demand(GUARDED[kind])
    elif kind not in TYPE_IDS and invariants(kind):
        asked.demand(f"{asked.named(_invariants_hold(kind))}(node)")
    return asked.namespace()


class _Questions:
    """Lines of the function, and the names they use."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, Any] = dict(_NAMES)

    def named(self, value: Any) -> str:
        name = f"known{len(self._names)}"
        self._names[name] = value
        return name

    def demand(self, condition: str) -> None:
        self._lines += [f"    if not ({condition}):", "        raise ValueError"]

    def remember(self, looked_up: str, attribute: str, known: Any, check: Callable[[Any], None]) -> None:
        """Ask the check where it is not known that the text of an attribute is right."""
        self._lines += [f"    if {looked_up} not in {self.named(known)}:"]
        self._lines += [f"        {self.named(check)}(node.{attribute})"]

    def count(self, condition: str) -> None:
        self._lines += [f"    if {condition}:", "        next(endless)"]

    def namespace(self) -> dict[str, Any]:
        if not self._lines:
            return {}
        exec("\n".join(["def __post_init__(node):", *self._lines]), self._names)  # noqa: S102 - names of R4 elements
        return {"__post_init__": self._names["__post_init__"]}


def _one_variant(element: Element) -> str:
    """At most one variant of the choice is there, or exactly one where it is required."""
    absent = len(element.json_names) - 1
    assert absent, "a choice has variants"
    count = " + ".join(f"(node.{name} is UNSET)" for name in element.json_names)
    return f"{count} {'==' if element.min else '>='} {absent}"


def _not_empty(attributes: Iterable[str]) -> str:
    """It has more than an id (ele-1); what is hardly ever there is asked last."""
    rare = ("extension", "modifierExtension")
    usual_first = sorted(attributes, key=lambda name: name in rare or name.startswith("_"))
    return " or ".join(f"node.{name} is not UNSET" for name in usual_first if name != "id")


def _invariants_hold(kind: str) -> Callable[[Any], bool]:
    return lambda node: hold(kind, msgspec.to_builtins(node, enc_hook=str))


def _period(start: str, end: str) -> bool:
    if len(start) == len(end) and start[-6:] == end[-6:]:
        return start <= end  # same precision and zone
    return _before(start, end) or hold("Period", {"start": start, "end": end})


def _before(start: str, end: str) -> bool:
    """Whether one moment is certainly before another: zones differ where clocks were changed in between."""
    if "T" not in start or "T" not in end:
        return False
    try:
        return datetime.fromisoformat(start) < datetime.fromisoformat(end)
    except ValueError:  # a leap second
        return False


def _absent(type_name: str, choice: str) -> str:
    """How many variants of a choice are not there."""
    element = next(one for one in shape(type_name).choices if one.name == choice)
    return " + ".join(f"(node.{name} is UNSET)" for name in element.json_names)


_EXTENSION_VARIANTS: Final = len(shape("Extension").choices[0].json_names)
_OBSERVATION_VARIANTS: Final = len(next(one for one in shape("Observation").choices if one.name == "value").json_names)

GUARDED: Final = {
    "Attachment": "node.data is UNSET or node.contentType is not UNSET",
    "ContactPoint": "node.value is UNSET or node.system is not UNSET",
    "Extension": f"{_absent('Extension', 'value')} == {_EXTENSION_VARIANTS} - (node.extension is UNSET)",
    "Observation": "node.dataAbsentReason is UNSET and node.component is UNSET"
    f" or {_absent('Observation', 'value')} == {_OBSERVATION_VARIANTS}",
    "Period": "node.start is UNSET or node.end is UNSET or period(node.start, node.end)",
    "Quantity": "node.code is UNSET or node.system is not UNSET",
}
"""Invariants of the commonest types written again on the attributes; those they do not grant are explained. Those of
other resource types are asked by ehr.fhir.accept, of the tree itself."""

_ENDLESS: Final = {"Extension": "True", "Identifier": "node.assigner is not UNSET"}

_NAMES: Final = {
    "UNSET": UNSET,
    "endless": ENDLESS_MET,
    "period": _period,
    "targets": TARGETS,
}
