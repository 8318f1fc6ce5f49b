"""What one evaluation knows and may spend.

In:      the resource an expression is evaluated for, and what the caller lets it ask
Out:     Environment (given by the caller), Context (one for each evaluation)
Errors:  TooMuch  more steps than ehr.limits.fhirpath_steps_max
Source:  FHIRPath 2.0.0 section 9 environment variables; FHIR R4 2.9.1
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ehr import limits
from ehr.clock import SystemClock
from ehr.errors import TooMuch
from ehr.fhir.fhirpath.items import Item

Function = Callable[[Sequence[Item], Sequence[Sequence[Item]]], Sequence[Item]]
"""A function of the caller's own: its input, and each of its arguments."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What an expression may ask of the world outside the resource; whatever is None is refused when it is asked for.

    variables    name → value or list of values: %name; Items are taken as they are
    resolve      reference text → tree of the resource, or None
    member_of    plain value of a code, Coding or CodeableConcept; its type; canonical of the value set → whether it is
                 in it; None where nobody knows
    conforms_to  tree of a resource, canonical of the profile → whether it conforms
    subsumes     Coding or CodeableConcept, another → whether the first subsumes the second
    functions    name → a function FHIRPath does not have (getResourceKey); compile must be told of the names
    is_strict    a member that its type does not have is an error, not empty
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    resolve: Callable[[str], Mapping[str, Any] | None] | None = None
    member_of: Callable[[Any, str, str], bool | None] | None = None
    conforms_to: Callable[[Mapping[str, Any], str], bool] | None = None
    subsumes: Callable[[Any, Any], bool | None] | None = None
    functions: Mapping[str, Function] = field(default_factory=dict)
    is_strict: bool = False


NOTHING: Final = Environment()


class Context:
    """One evaluation: its environment, the innermost $this, $index and $total, and the steps it has left."""

    __slots__ = ("environment", "index", "kept", "left", "now", "resource", "root", "start", "this", "total")

    def __init__(self, start: Item, resource: Item, root: Item, environment: Environment) -> None:
        self.environment = environment
        self.start = start
        self.resource = resource
        self.root = root
        self.this: list[Item] = [start]
        self.index: list[Item] = []
        self.total: list[Item] = []
        self.left = limits.fhirpath_steps_max
        self.now: datetime | None = None
        self.kept: dict[object, list[Item]] = {}
        """What parts of the expression gave that are the same all through one evaluation."""

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooMuch(f"FHIRPath: the expression takes more than {limits.fhirpath_steps_max} steps")

    def moment(self) -> datetime:
        """now(): the same all through one evaluation."""
        if self.now is None:
            self.now = SystemClock().now()
        return self.now


Items = list[Item]
Code = Callable[[Context, Items], Items]
"""A compiled expression: its context and its input → its output."""


def made_text(text: str) -> str:
    """A text a function made, when it is not too long: doubling one 40 times would take a terabyte."""
    if len(text) > limits.fhirpath_text_characters_max:
        raise TooMuch(f"FHIRPath: a text of over {limits.fhirpath_text_characters_max} characters")
    return text
