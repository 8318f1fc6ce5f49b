"""The compiled R4 structure → the members a JSON object of one type may have.

In:      type name ("Patient", "Quantity") or path of a backbone ("Observation.component")
Out:     Shape: JSON name → Member; required elements; choices
Cost:    read once (5 ms), each shape built when first asked for
Source:  r4/structure.json, r4/bindings.json and r4/displays.json, compiled from the R4 4.0.1 StructureDefinitions
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson

PRIMITIVES: Final = frozenset(
    {
        "base64Binary",
        "boolean",
        "canonical",
        "code",
        "date",
        "dateTime",
        "decimal",
        "id",
        "instant",
        "integer",
        "markdown",
        "oid",
        "positiveInt",
        "string",
        "time",
        "unsignedInt",
        "uri",
        "url",
        "uuid",
        "xhtml",
    }
)


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type. max None: any number. targets None: a Reference to any type."""

    name: str
    min: int
    max: int | None
    types: tuple[str, ...]
    targets: frozenset[str] | None
    value_set: str | None
    is_choice: bool
    is_summary: bool

    @property
    def path_name(self) -> str:
        return f"{self.name}[x]" if self.is_choice else self.name

    @property
    def json_names(self) -> tuple[str, ...]:
        if not self.is_choice:
            return (self.name,)
        return tuple(self.name + kind[0].upper() + kind[1:] for kind in self.types)


@dataclass(frozen=True, slots=True)
class Member:
    """One property of a JSON object: its element, and which of the element's types it has."""

    element: Element
    type: str

    @property
    def is_primitive(self) -> bool:
        return self.type in PRIMITIVES

    @property
    def is_annotated(self) -> bool:
        """Whether it may have an id and extensions, under `_name`; the id of an element or resource has none."""
        return self.is_primitive and self.element.name != "id"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a JSON object of one type may hold."""

    type: str
    members: Mapping[str, Member]
    required: tuple[Element, ...]
    choices: tuple[Element, ...] = field(default=())


@cache
def shape(type_path: str) -> Shape:
    """Shape of a resource type, datatype or backbone; KeyError where there is none."""
    elements = [_element(entry) for entry in _tables()["types"][type_path]]
    members: dict[str, Member] = {}
    for element in elements:
        for name, kind in zip(element.json_names, element.types, strict=True):
            members[name] = Member(element, kind)
    return Shape(
        type=type_path,
        members=members,
        required=tuple(element for element in elements if element.min),
        choices=tuple(element for element in elements if element.is_choice),
    )


def has_shape(type_path: str) -> bool:
    """Whether R4 has a resource type, datatype or backbone of this name."""
    return type_path in _tables()["types"]


ENDLESS: Final = ("extension", "modifierExtension", "assigner")
"""Members by which any element may hold elements like itself, for ever: Identifier.assigner is a Reference."""


@cache
def nesting(type_path: str) -> int | None:
    """How deep objects and lists lie in each other in this type, but for ENDLESS; None where there is no bound."""
    return _nesting(type_path, ())


def _nesting(type_path: str, above: tuple[str, ...]) -> int | None:
    if type_path in above:
        return None
    deepest = 0
    for name, member in shape(type_path).members.items():
        if name in ENDLESS or name == "contained" or (member.is_primitive and member.element.max is not None):
            continue
        below = 0 if member.is_primitive else _member_nesting(member, (*above, type_path))
        if below is None:
            return None
        deepest = max(deepest, below + (member.element.max is None))
    return deepest + 1


def _member_nesting(member: Member, above: tuple[str, ...]) -> int | None:
    return None if member.type == "Resource" else _nesting(member.type, above)


def _element(entry: Mapping[str, Any]) -> Element:
    targets = entry.get("r")
    return Element(
        name=entry["n"],
        min=entry["min"],
        max=entry.get("max"),
        types=tuple(entry["t"]) if "t" in entry else (entry["c"],),
        targets=frozenset(targets) if targets else None,
        value_set=entry.get("vs"),
        is_choice=entry.get("x", False),
        is_summary=entry.get("s", False),
    )


@cache
def codes(value_set: str) -> Mapping[str, frozenset[str]] | None:
    """System → codes of a value set of a required binding; None where its codes cannot be listed."""
    systems = _bindings()["codes"].get(value_set)
    return None if systems is None else {system: frozenset(listed) for system, listed in systems.items()}


def displays(system: str) -> Mapping[str, str]:
    """Code → display, of the codes of a system that are in a value set of a required binding."""
    found: Mapping[str, str] = _displays().get(system, {})
    return found


@cache
def code_list(value_set: str) -> tuple[str, ...] | None:
    """All codes of a value set, whatever their system, in the order of the specification."""
    systems = _bindings()["codes"].get(value_set)
    return None if systems is None else tuple(code for listed in systems.values() for code in listed)


@cache
def _tables() -> Any:
    return orjson.loads((files("ehr.fhir.r4") / "structure.json").read_bytes())


@cache
def _bindings() -> Any:
    return orjson.loads((files("ehr.fhir.r4") / "bindings.json").read_bytes())


@cache
def _displays() -> Any:
    return orjson.loads((files("ehr.fhir.r4") / "displays.json").read_bytes())["displays"]
