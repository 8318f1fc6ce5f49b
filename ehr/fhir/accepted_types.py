"""The shape of a resource type → a msgspec type that accepts only what is certainly valid.

In:      resource type; whether and how references to contained resources are noted; whether the tree is known to
         have no empty object, which spares the question in each: half of what reading costs
Out:     msgspec.Struct type; converting a tree to it raises msgspec.ValidationError where the tree may be wrong
Source:  as ehr.fhir.explain; each check here is at least as strict as the one there
"""

import keyword
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Final, ForwardRef, Literal, Union

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ehr.fhir.invariants import hold, invariants
from ehr.fhir.primitives import INTEGER_MAX, INTEGER_MIN, PATTERNS, STRING_CHARACTERS_MAX, problem
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Element, Member, code_list, codes, shape

Meet = Callable[[str, frozenset[str] | None], None]
"""Is told of each reference to a contained resource: its id, and the types the element allows."""

Check = Callable[[Any], bool]

_ID: Final = PATTERNS["id"]


class Xhtml:
    """Stands for a narrative that has been checked."""


class Base64:
    """Stands for base64 text that has been checked."""


class Inner:
    """Stands for a contained resource that has been checked."""


_CHECKED: Final[dict[Any, tuple[str, Any]]] = {Xhtml: ("xhtml", Xhtml()), Base64: ("base64Binary", Base64())}

_PRIMITIVES: Final[dict[str, Any]] = {
    "boolean": bool,
    "decimal": Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)],
    "integer": Annotated[int, Meta(ge=INTEGER_MIN, le=INTEGER_MAX)],
    "unsignedInt": Annotated[int, Meta(ge=0, le=INTEGER_MAX)],
    "positiveInt": Annotated[int, Meta(ge=1, le=INTEGER_MAX)],
    "string": Annotated[str, Meta(min_length=1, max_length=STRING_CHARACTERS_MAX)],
    "markdown": Annotated[str, Meta(min_length=1, max_length=STRING_CHARACTERS_MAX)],
    "xhtml": Xhtml,
    "base64Binary": Base64,
    **{
        kind: Annotated[str, Meta(pattern=rf"(?a:\A(?:{pattern})\Z)", max_length=STRING_CHARACTERS_MAX)]
        for kind, pattern in PATTERNS.items()
        if kind not in ("string", "markdown", "base64Binary")
    },
}


def checked(wanted: Any, value: Any) -> Any:
    """dec_hook of msgspec: primitives that no pattern can check."""
    kind, stand_in = _CHECKED[wanted]
    if problem(kind, value):
        raise ValueError
    return stand_in


@cache
def accepted_type(type_name: str, meet: Meet | None, dense: bool) -> Any:
    """The msgspec type of a resource type. With meet, contained resources and references to them are allowed."""
    return _Builder(meet, dense=dense).build(type_name)


class _Builder:
    """Builds the types of one resource type and of all below it; types refer to each other by their name here."""

    def __init__(self, meet: Meet | None, *, dense: bool) -> None:
        self.meet = meet
        self.dense = dense
        self.prefix = f"_{'Containing_' if meet else ''}{'Dense_' if dense else ''}"
        self.pending: list[tuple[str, str, Element | None]] = []

    def build(self, type_name: str) -> Any:
        first = self.name(type_name, None)
        while self.pending:
            name, kind, rule = self.pending.pop()
            if name not in globals():
                globals()[name] = self.struct(name, kind, rule)
        return globals()[first]

    def name(self, kind: str, element: Element | None) -> str:
        """Name of the type of an element; references and bound concepts have one for each rule."""
        name = self.prefix + kind.replace(".", "_")
        rule: Element | None = None
        if kind == "Reference" and element is not None and element.targets:
            name += "_to_" + "_".join(sorted(element.targets))
            rule = element
        elif kind in ("CodeableConcept", "Coding") and element and element.value_set and codes(element.value_set):
            name += "_of_" + "".join(letter if letter.isalnum() else "_" for letter in element.value_set)
            rule = element
        self.pending.append((name, kind, rule))
        return name

    def struct(self, name: str, kind: str, rule: Element | None) -> Any:
        fields: list[Any] = [("resourceType", Literal[kind])] if kind in TYPE_IDS else []
        rename: dict[str, str] = {}
        for member_name, member in shape(kind).members.items():
            if kind == "Reference" and rule is not None and member_name == "type":
                continue
            attribute = f"{member_name}_" if keyword.iskeyword(member_name) else member_name
            if attribute != member_name:
                rename[attribute] = member_name
            annotation = self.annotation(kind, member_name, member, rule)
            if annotation is None:
                continue
            if (member.element.min and not member.element.is_choice) or _is_bound(kind, member_name, rule):
                fields.append((attribute, annotation))
            else:
                fields.append((attribute, Union[annotation, UnsetType], UNSET))  # noqa: UP007
            if member.is_annotated and member.element.max is not None and not member.element.is_choice:
                fields.append((f"_{member_name}", Union[self.name("Element", None), UnsetType], UNSET))  # noqa: UP007
        return msgspec.defstruct(
            name,
            fields,
            module=__name__,
            namespace=self.namespace(kind, rule),
            forbid_unknown_fields=True,
            gc=False,
            kw_only=True,
            rename=rename or None,
        )

    def annotation(self, kind: str, name: str, member: Member, rule: Element | None) -> Any:
        if member.type == "Resource":
            one: Any = Inner if self.meet and name == "contained" else None
        elif kind == "Reference" and name == "reference":
            one = Annotated[str, Meta(pattern=self.reference_pattern(rule.targets if rule else None))]
        elif member.is_primitive:
            listed = _bound_list(name, rule) if kind == "Coding" and rule else None
            if member.element.value_set and member.type == "code":
                listed = code_list(member.element.value_set)
            one = Literal[listed] if listed else _PRIMITIVES[member.type]
        else:
            bound = rule if kind == "CodeableConcept" and name == "coding" else None
            one = ForwardRef(self.name(member.type, bound or member.element))
        if one is None or member.element.max is not None:
            return one
        return Annotated[list[one], Meta(min_length=1)]

    def reference_pattern(self, targets: Iterable[str] | None) -> str:
        """Texts that are surely a reference to one of these types."""
        types = _one_of(targets or TYPE_IDS)
        literal = rf"(?:https?://[^\s?#]+?/)?{types}/{_ID}(?:/_history/{_ID})?"
        local = rf"#{_ID}|" if self.meet else ""
        return rf"(?a:\A(?:{local}{literal}|{types}\?[\s\S]+|urn:(?:uuid|oid):[\s\S]*)\Z)"

    def namespace(self, kind: str, rule: Element | None) -> dict[str, Any]:
        """__post_init__ with what types cannot say: not empty, one variant of a choice, bound codes, invariants."""
        form = shape(kind)
        checks: list[Check] = []
        if not self.dense and not form.required and kind not in TYPE_IDS:
            checks.append(_NOT_EMPTY.get(kind, _not_empty))
        if kind != "Extension":
            checks += [_one_variant(element) for element in form.choices]
        if kind == "Coding" and rule is not None and rule.value_set and len(codes(rule.value_set) or ()) > 1:
            checks.append(_bound(rule.value_set))
        if kind in GUARDED or (kind not in TYPE_IDS and invariants(kind)):
            checks.append(GUARDED.get(kind) or _invariants_hold(kind))
        if kind == "Reference" and self.meet:
            checks.append(_meeting(self.meet, rule.targets if rule else None))
        return {"__post_init__": _refusing(checks)} if checks else {}


def _one_of(words: Iterable[str]) -> str:
    """A pattern of these words that reads each letter once: half the time of trying one word after the other."""
    tails: dict[str, list[str]] = {}
    for word in sorted(words):
        tails.setdefault(word[:1], []).append(word[1:])
    parts = [first + _one_of(rest) if first else "" for first, rest in tails.items()]
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(reversed(parts))})"


def _refusing(checks: list[Check]) -> Callable[[Any], None]:
    first, rest = checks[0], checks[1:]

    def refuse_one(node: Any) -> None:
        if not first(node):
            raise ValueError

    def refuse_any(node: Any) -> None:
        if not first(node):
            raise ValueError
        for check in rest:
            if not check(node):
                raise ValueError

    return refuse_any if rest else refuse_one


def _meeting(meet: Meet, targets: frozenset[str] | None) -> Check:
    def note(node: Any) -> bool:
        if node.reference is not UNSET and node.reference[0] == "#":
            meet(node.reference[1:], targets)
        return True

    return note


def _not_empty(node: Any) -> bool:
    """It has more than an id (ele-1)."""
    return any(getattr(node, name) is not UNSET for name in node.__struct_fields__ if name != "id")


def _one_variant(element: Element) -> Check:
    """At most one variant of the choice is there, or exactly one where it is required."""
    get = attrgetter(*element.json_names)
    absent = len(element.json_names) - 1
    assert absent, "a choice has variants"
    if element.min:
        return lambda node: get(node).count(UNSET) == absent
    return lambda node: get(node).count(UNSET) >= absent


def _is_bound(kind: str, name: str, rule: Element | None) -> bool:
    """Whether a required binding needs this member of a concept or coding to be there."""
    if rule is None:
        return False
    return (kind, name) in (("CodeableConcept", "coding"), ("Coding", "system"), ("Coding", "code"))


def _bound_list(name: str, rule: Element) -> tuple[str, ...] | None:
    """What the system or the code of a coding may be under a required binding."""
    systems = (codes(rule.value_set) if rule.value_set else None) or {}
    if name == "system":
        return tuple(systems)
    return tuple({code for listed in systems.values() for code in listed}) if name == "code" else None


def _bound(value_set: str) -> Check:
    systems = codes(value_set)
    assert systems is not None
    pairs = {(system, code) for system, listed in systems.items() for code in listed}
    return lambda coding: (coding.system, coding.code) in pairs


def _invariants_hold(kind: str) -> Check:
    return lambda node: hold(kind, msgspec.to_builtins(node, enc_hook=str))


def _period(node: Any) -> bool:
    start, end = node.start, node.end
    if start is UNSET or end is UNSET:
        return True
    if len(start) == len(end) and start[-6:] == end[-6:]:
        return bool(start <= end)  # same precision and zone
    return _before(start, end) or hold("Period", {"start": start, "end": end})


def _before(start: str, end: str) -> bool:
    """Whether one moment is certainly before another: zones differ where clocks were changed in between."""
    if "T" not in start or "T" not in end:
        return False
    try:
        return datetime.fromisoformat(start) < datetime.fromisoformat(end)
    except ValueError:  # a leap second
        return False


_extension_values: Final = attrgetter(*next(iter(shape("Extension").choices)).json_names)
_observation_values: Final = attrgetter(*next(c for c in shape("Observation").choices if c.name == "value").json_names)
_EXTENSION_VARIANTS: Final = len(next(iter(shape("Extension").choices)).json_names)


def _extension(node: Any) -> bool:
    absent = _extension_values(node).count(UNSET)
    return bool(absent == _EXTENSION_VARIANTS - (node.extension is UNSET))


def _observation(node: Any) -> bool:
    if node.dataAbsentReason is UNSET and node.component is UNSET:
        return True
    return all(value is UNSET for value in _observation_values(node))


GUARDED: Final[dict[str, Check]] = {
    "Attachment": lambda node: node.data is UNSET or node.contentType is not UNSET,
    "ContactPoint": lambda node: node.value is UNSET or node.system is not UNSET,
    "Extension": _extension,
    "Observation": _observation,
    "Period": _period,
    "Quantity": lambda node: node.code is UNSET or node.system is not UNSET,
}
"""Invariants of the commonest types written again on the attributes; those they do not grant are explained. Those of
other resource types are asked by ehr.fhir.accept, of the tree itself."""

_NOT_EMPTY: Final[dict[str, Check]] = {
    "CodeableConcept": lambda node: node.coding is not UNSET or node.text is not UNSET or _not_empty(node),
    "Coding": lambda node: node.code is not UNSET or node.system is not UNSET or _not_empty(node),
    "Identifier": lambda node: node.value is not UNSET or node.system is not UNSET or _not_empty(node),
    "Period": lambda node: node.start is not UNSET or node.end is not UNSET or _not_empty(node),
    "Quantity": lambda node: node.value is not UNSET or node.unit is not UNSET or _not_empty(node),
    "Reference": lambda node: node.reference is not UNSET or node.display is not UNSET or _not_empty(node),
}
"""The usual elements of the commonest types, asked first."""
