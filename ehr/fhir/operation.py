"""An OperationDefinition → what a request of this operation may say, as the server holds it to.

In:      tree of an OperationDefinition
Out:     Operation: code, levels, types, whether it changes anything, its in-parameters
Source:  FHIR R4 operationdefinition.html, operations.html#executing (GET: affectsState false, simple parameters only)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import PRIMITIVES

Level = Literal["system", "type", "instance"]

TOKENS: Final = frozenset({"Coding", "CodeableConcept"})
"""Types that a query says as a token, system|code; the other complex types need a Parameters resource."""

_NORMATIVE: Final = {
    "url": "http://hl7.org/fhir/StructureDefinition/structuredefinition-standards-status",
    "valueCode": "normative",
}

_CONTENTS: Final = frozenset({"Resource", "DomainResource", *TYPE_IDS})
"""Types of a parameter that a body of its own can be."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One in-parameter. max None: any number. type "": it has parts and no value."""

    name: str
    min: int
    max: int | None
    type: str
    parts: tuple["Parameter", ...] = ()

    @property
    def in_query(self) -> bool:
        return self.type in PRIMITIVES or self.type in TOKENS


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as its definition has it. types: ("Resource",) is all of them."""

    id: str
    url: str
    code: str
    types: frozenset[str]
    levels: frozenset[Level]
    affects_state: bool
    parameters: tuple[Parameter, ...]
    normative: bool

    def serves(self, type_name: str) -> bool:
        return type_name in self.types or "Resource" in self.types

    @property
    def methods(self) -> tuple[str, ...]:
        """GET only where it is safe and the query can hold all that must be said."""
        simple = all(one.in_query for one in self.parameters if one.min)
        return ("POST",) if self.affects_state or not simple else ("GET", "POST")

    @property
    def content(self) -> Parameter | None:
        """The one parameter that is a resource: it may be the body itself (operations.html#executing)."""
        found = [one for one in self.parameters if one.type in _CONTENTS]
        return found[0] if len(found) == 1 else None


def operation_of(definition: Mapping[str, Any]) -> Operation:
    """Read a definition that the gate has let in."""
    levels: Sequence[Level] = ("system", "type", "instance")
    return Operation(
        id=definition["id"],
        url=definition["url"],
        code=definition["code"],
        types=frozenset(definition.get("resource", ())),
        levels=frozenset(level for level in levels if definition[level]),
        affects_state=definition.get("affectsState", False),
        parameters=_parameters(definition.get("parameter", ())),
        normative=any(one == _NORMATIVE for one in definition.get("extension", ())),
    )


def _parameters(listed: Sequence[Mapping[str, Any]]) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            name=one["name"],
            min=one["min"],
            max=None if one["max"] == "*" else int(one["max"]),
            type=one.get("type", ""),
            parts=_parameters(one.get("part", ())),
        )
        for one in listed
        if one["use"] == "in"
    )
