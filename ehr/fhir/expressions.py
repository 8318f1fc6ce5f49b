"""The FHIRPath of a SearchParameter → the JSON paths it reads, each with its static type. Pure.

In:      where elements are defined (HL7's StructureDefinitions when the tables are compiled, our own compiled structure
         for a parameter that is declared at run time); a type; an expression
Out:     Resolved paths; text() is how ehr.fhir.parameters reads them back
Subset:  members, [0], first(), as, as(), ofType(), where(k='v'), where(resolve() is T), extension('url'), |
Errors:  Unreadable, naming the part that is outside this subset or that no element answers to
Source:  FHIRPath 2.0 as FHIR R4 3.1.1.4.1 uses it

A path is JSON member names joined by dots, ending in ":Type":
  name[]          a list                    name[0]              its first entry
  name[]{k=v}     entries whose k is v      subject{is Patient}  references to a Patient
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from ehr.fhir.structure import shape

SERVED_TYPES: Final[dict[str, frozenset[str]]] = {
    "token": frozenset(
        {"CodeableConcept", "Coding", "Identifier", "ContactPoint", "boolean", "Deceased"}
        | {"code", "string", "id", "uri", "canonical", "oid", "uuid"}
    ),
    "reference": frozenset(["Reference", "canonical", "uri", "Resource"]),
    "uri": frozenset(["uri", "url", "canonical", "oid", "uuid"]),
    "string": frozenset(["string", "markdown", "HumanName", "Address"]),
    "date": frozenset(["date", "dateTime", "instant", "Period", "Timing"]),
    "number": frozenset(["integer", "positiveInt", "unsignedInt", "decimal"]),
    "quantity": frozenset(
        {"Quantity", "SimpleQuantity", "MoneyQuantity", "Age", "Duration", "Count", "Distance", "Money", "Range"}
    ),
}
"""Which element types each kind of parameter searches (R4 3.1.1.4.4 to .12); a choice's other types have no meaning."""

_STEP: Final = re.compile(
    r"\s*\.?\s*(?:(?P<function>as|ofType|where|exists|first|extension)\((?P<argument>(?:[^()]|\(\))*)\)"
    r"|(?P<name>%?\w+)(?P<first>\[0\])?(?!\w|\())"
)
_EQUAL: Final = re.compile(r"\s*(\w+)\s*=\s*'([^'{}]*)'\s*")
_RESOLVED: Final = re.compile(r"\s*resolve\(\)\s+is\s+(?:FHIR\.)?(\w+)\s*")
_TEXT: Final = re.compile(r"\s*'([^'{}]*)'\s*")


class Unreadable(ValueError):
    """A part of an expression that cannot be indexed."""


@dataclass(frozen=True)
class Element:
    """One element: its types, and whether it repeats."""

    types: tuple[str, ...]
    many: bool
    choice: bool = False
    same_as: str | None = None
    value_set: str | None = None


Elements = Callable[[str], Element | None]
"""The element at a path ("Observation.component.code", "Extension.value"); None where there is none."""


@dataclass(frozen=True)
class Resolved:
    """A path so far: JSON steps, the element type reached, and where its children are defined."""

    steps: tuple[str, ...]
    type: str
    where: str
    value_set: str | None = None
    filter: str = ""
    choices: tuple[tuple[str, str], ...] = field(default=())

    def text(self) -> str:
        return ".".join(self.steps) + self.filter + ":" + self.type


class Resolver:
    def __init__(self, element_at: Elements) -> None:
        self._element_at = element_at

    def resolve(self, type_name: str, expression: str) -> list[Resolved]:
        """Every JSON path an expression reads, seen from a type (or a type's element, "Observation.component")."""
        start = Resolved((), type_name, type_name)
        return [path for part in alternatives(expression) for path in self.walk(start, part)]

    def leaves(self, type_name: str, expression: str, kind: str) -> list[Resolved]:
        """The resolved paths whose type this kind of parameter searches; a choice becomes one path a type."""
        return self.served(self.resolve(type_name, expression), kind)

    def served(self, paths: list[Resolved], kind: str) -> list[Resolved]:
        expanded = [leaf for path in paths for leaf in (self._expand(path) if path.choices else [path])]
        return list(dict.fromkeys(leaf for leaf in expanded if leaf.type in SERVED_TYPES[kind]))

    def walk(self, start: Resolved, part: str) -> list[Resolved]:
        """One alternative of an expression, from a place."""
        part, cast = part.strip(), None
        if found := re.fullmatch(r"(.+)\s+as\s+(\w+)", part):
            part, cast = found[1].strip(), found[2]
        paths, position = [start], 0
        if part.startswith("("):
            close = _closing(part)
            inner = part[1:close]
            paths, position = [path for one in alternatives(inner) for path in self.walk(start, one)], close + 1
        while position < len(part):
            step = _STEP.match(part, position)
            if step is None or step.end() == position:
                raise Unreadable(f"cannot index {part[position:]!r} of {part!r}")
            position = step.end()
            paths = [after for path in paths for after in self._step(path, step)]
        return [after for path in paths for after in (self._cast(path, cast) if cast else [path])]

    def _step(self, path: Resolved, step: re.Match[str]) -> list[Resolved]:
        match step["function"]:
            case "as" | "ofType":
                return self._cast(path, step["argument"].strip())
            case "where":
                return [self._filtered(path, step["argument"])]
            case "extension":
                if (found := _TEXT.fullmatch(step["argument"])) is None:
                    raise Unreadable(f"cannot index extension({step['argument']})")
                return [_equal(after, "url", found[1]) for after in self._named(path, "extension", first=False)]
            case "first":
                return [_first(path)]
            case "exists":
                raise Unreadable("exists() is not an element")
        return self._named(path, step["name"], first=bool(step["first"]))

    def _filtered(self, path: Resolved, argument: str) -> Resolved:
        if found := _EQUAL.fullmatch(argument):
            return _equal(path, found[1], found[2])
        if found := _RESOLVED.fullmatch(argument):
            return replace(path, filter=f"{{is {found[1]}}}")
        raise Unreadable(f"cannot index where({argument})")

    def _named(self, path: Resolved, name: str, *, first: bool) -> list[Resolved]:
        if not path.steps and name in {path.where.split(".")[0], "Resource", "DomainResource"} and name[0].isupper():
            return [path]
        if path.choices:
            return [after for choice in self._expand(path) for after in self._named(choice, name, first=first)]
        return self._child(path, name, "[0]" if first else "[]")

    def _child(self, path: Resolved, name: str, brackets: str) -> list[Resolved]:
        where = path.where + "." + name
        element = self._element_at(where)
        if element is None:
            where = path.type + "." + name
            element = self._element_at(where)
        if element is None:
            raise Unreadable(f"no element {name} in {path.where} ({path.type})")
        if element.same_as:
            where = element.same_as
            target = self._element_at(where)
            assert target is not None, "the definitions name an element they have"
            element = replace(target, many=element.many)
        suffix = brackets if element.many else ""
        if element.choice:
            made = tuple((code, name + code[0].upper() + code[1:] + suffix) for code in element.types)
            return [Resolved(path.steps, "*", where, element.value_set, choices=made)]
        kind = element.types[0] if element.types else path.type
        return [Resolved((*path.steps, name + suffix), kind, where, element.value_set)]

    def _expand(self, path: Resolved) -> list[Resolved]:
        return [
            replace(path, steps=(*path.steps, name), type=code, where=path.where, choices=())
            for code, name in path.choices
        ]

    def _cast(self, path: Resolved, code: str) -> list[Resolved]:
        code = code.removeprefix("FHIR.")
        if not path.choices:
            return [path] if path.type == code else []
        wanted = code[0].lower() + code[1:] if code == "DateTime" else code
        return [choice for choice in self._expand(path) if choice.type == wanted]


def _equal(path: Resolved, key: str, value: str) -> Resolved:
    last = path.steps[-1] if path.steps else ""
    if not last or path.choices or last.endswith("}"):
        raise Unreadable(f"cannot index a second filter, {key}='{value}'")
    return replace(path, steps=(*path.steps[:-1], f"{last}{{{key}={value}}}"))


def _first(path: Resolved) -> Resolved:
    if not path.steps or path.choices or not path.steps[-1].endswith("[]"):
        raise Unreadable("first() is indexed behind an element that repeats")
    return replace(path, steps=(*path.steps[:-1], path.steps[-1].removesuffix("[]") + "[0]"))


def _closing(part: str) -> int:
    depth = 0
    for position, character in enumerate(part):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position
    raise Unreadable(f"a parenthesis of {part!r} is not closed")


def alternatives(expression: str) -> list[str]:
    """What | joins, outside parentheses and texts."""
    parts, depth, start, quoted = [], 0, 0, False
    for position, character in enumerate(expression):
        quoted ^= character == "'"
        if quoted:
            continue
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            parts.append(expression[start:position])
            start = position + 1
    return [part.strip() for part in (*parts, expression[start:])]


def of_structure(path: str) -> Element | None:
    """An element as our compiled structure has it: for expressions that are read at run time."""
    where, _, name = path.rpartition(".")
    try:
        owner = shape(where)
    except KeyError:
        return None
    for member in owner.members.values():
        element = member.element
        if element.name == name:
            return Element(element.types, element.max is None, element.is_choice, None, element.value_set)
    return None
