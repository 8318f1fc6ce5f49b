"""The shape of a resource type → a msgspec type that accepts only what is certainly valid.

In:      resource type; whether and how references to contained resources are noted
Out:     msgspec.Struct type; converting a tree to it raises msgspec.ValidationError where the tree may be wrong
Source:  as ehr.fhir.explain; each check here is at least as strict as the one there
"""

import keyword
import sys
import threading
from functools import cache
from typing import Annotated, Any, Final, ForwardRef, Literal, Union

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ehr.fhir.accepted_checks import is_listed, namespace, remembered
from ehr.fhir.accepted_texts import Meet
from ehr.fhir.primitives import INTEGER_MAX, INTEGER_MIN, PATTERNS, STRING_CHARACTERS_MAX, problem
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Element, Member, code_list, codes, shape


class Xhtml:
    """Stands for a narrative that has been checked."""


class Base64:
    """Stands for base64 text that has been checked."""


class Inner:
    """Stands for a contained resource that has been checked."""


_CHECKED: Final[dict[Any, tuple[str, Any]]] = {Xhtml: ("xhtml", Xhtml()), Base64: ("base64Binary", Base64())}

_TEXT: Final = Annotated[str, Meta(min_length=1, max_length=STRING_CHARACTERS_MAX)]

_PRIMITIVES: Final[dict[str, Any]] = {
    "boolean": bool,
    "decimal": Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)],
    "integer": Annotated[int, Meta(ge=INTEGER_MIN, le=INTEGER_MAX)],
    "unsignedInt": Annotated[int, Meta(ge=0, le=INTEGER_MAX)],
    "positiveInt": Annotated[int, Meta(ge=1, le=INTEGER_MAX)],
    "string": _TEXT,
    "markdown": _TEXT,
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


_BUILDING: Final = threading.Lock()


@cache
def accepted_type(type_name: str, meet: Meet | None) -> Any:
    """The msgspec type of a resource type. With meet, contained resources and references to them are allowed."""
    with _BUILDING:
        made = _Builder(meet).build(type_name)
        msgspec.json.Decoder(made)  # resolves the names of its parts, which may be done by one thread only
        return made


class _Builder:
    """Builds the types of one resource type and of all below it; types refer to each other by their name here."""

    def __init__(self, meet: Meet | None) -> None:
        self.meet = meet
        self.prefix = "_Containing_" if meet else "_"
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
            namespace=namespace(kind, rule, self.meet, [field[0] for field in fields]),
            forbid_unknown_fields=True,
            gc=False,
            kw_only=True,
            rename=rename or None,
        )

    def annotation(self, kind: str, name: str, member: Member, rule: Element | None) -> Any:
        if member.type == "Resource":
            one: Any = Inner if self.meet and name == "contained" else None
        elif kind == "Reference" and name == "reference":
            one = _TEXT
        elif member.is_primitive:
            listed = _bound_list(name, rule) if kind == "Coding" and rule else _code_list(member)
            one = Literal[listed] if listed else _TEXT if remembered(member) else _PRIMITIVES[member.type]
        else:
            bound = rule if kind == "CodeableConcept" and name == "coding" else None
            one = ForwardRef(self.name(member.type, bound or member.element))
        if one is None or member.element.max is not None:
            return one
        return Annotated[list[one], Meta(min_length=1)]


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


def _code_list(member: Member) -> tuple[str, ...] | None:
    return code_list(member.element.value_set) if is_listed(member) and member.element.value_set else None
