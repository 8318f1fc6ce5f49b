"""One JSON object → the invariants of its type that it breaks.

In:      type or backbone path, object whose structure has been found right
Out:     keys, texts and places of the broken ones
Why:     every constraint of severity error is evaluated as its definition writes it; ehr.fhir.invariant_shortcuts
         answers most without FHIRPath, and one is written in Python because long Bundles ask it of every entry
Keeps:   an invariant that gives nothing, or cannot be evaluated on what is there, is broken: it has to be true
Source:  r4/invariants.json, compiled from the R4 4.0.1 StructureDefinitions, ElementDefinition.constraint
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson

from ehr.fhir import fhirpath, references
from ehr.fhir.fhirpath import Environment, Expression, ExpressionError, Item
from ehr.fhir.fhirpath.items import members
from ehr.fhir.fhirpath.parser import parse
from ehr.fhir.invariant_paths import Shortcut
from ehr.fhir.invariant_shortcuts import shortcut_at
from ehr.fhir.r4 import TYPE_IDS

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    """One constraint of a type.

    key         in the specification
    text        what it asks for
    at          names from the object to the elements it is of; () where it is of the object itself
    """

    key: str
    text: str
    at: tuple[str, ...]
    expression: Expression
    quick: Shortcut = field(repr=False)

    def broken_at(self, tree: Tree, kind: str) -> list[str]:
        """Paths below the object, "" for itself."""
        if self.quick(tree, tree) is True:
            return []
        items = [Item(tree, kind)]
        for name in self.at:
            items = [below for item in items for below in members(item, name) or ()]
        return [_below(item) for item in items if not self._evaluates(item, tree if kind in TYPE_IDS else None)]

    def _evaluates(self, item: Item, resource: Tree | None) -> bool:
        try:
            return self.expression.holds(item, resource=resource, environment=_ENVIRONMENT)
        except ExpressionError:
            return False


def _below(item: Item) -> str:
    """.participant[0], as seen from the object."""
    if item.parent is None:
        return ""
    step = item.element if item.index is None else f"{item.element}[{item.index}]"
    return f"{_below(item.parent)}.{step}"


def _named(reference: str) -> Tree | None:
    """Of what a reference names, only its type is known here."""
    type_name = references.parse(reference).type
    return {"resourceType": type_name} if type_name else None


_ENVIRONMENT: Final = Environment(resolve=_named)


@cache
def invariants(kind: str) -> tuple[Invariant, ...]:
    """Every constraint of severity error of a type or backbone that no other rule of the gate holds."""
    return tuple(_invariant(entry, kind) for entry in _table().get(kind, ()))


def _invariant(entry: Mapping[str, str], kind: str) -> Invariant:
    text = entry["expression"]
    expression = fhirpath.compile(text)
    at = tuple(entry["at"].split(".")) if "at" in entry else ()
    quick = _WRITTEN.get(entry["key"]) or shortcut_at(at, parse(text), kind)
    return Invariant(entry["key"], entry["text"], at, expression, quick)


@cache
def _table() -> Mapping[str, list[Mapping[str, str]]]:
    table: Mapping[str, list[Mapping[str, str]]] = orjson.loads(
        (files("ehr.fhir.r4") / "invariants.json").read_bytes()
    )["invariants"]
    return table


def broken(kind: str, tree: Tree) -> list[tuple[Invariant, str]]:
    """The invariants of a type that an object of right structure breaks, each with the path below the object."""
    return [(invariant, at) for invariant in invariants(kind) for at in invariant.broken_at(tree, kind)]


def hold(kind: str, tree: Tree) -> bool:
    for invariant in invariants(kind):  # asked of every resource: a generator would take longer than the usual answer
        if invariant.quick(tree, tree) is not True and invariant.broken_at(tree, kind):
            return False
    return True


def _urls_differ(bundle: Tree, _root: Tree) -> bool:
    """bdl-7: no fullUrl twice with the same version, but in a history."""
    if bundle.get("type") == "history":
        return True
    seen: set[str] = set()
    for entry in bundle.get("entry", ()):
        if "fullUrl" in entry:
            key = str(entry["fullUrl"]) + str(entry.get("resource", {}).get("meta", {}).get("versionId", ""))
            if key in seen:
                return False
            seen.add(key)
    return True


_WRITTEN: Final[Mapping[str, Callable[[Tree, Tree], Any]]] = {"bdl-7": _urls_differ}
