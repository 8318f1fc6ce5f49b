"""What a profile says of one element: the words that profiles are compiled into.

Keeps:   a Rule holds only what a profile adds to R4 itself, because the gate checks R4 before any profile is asked
Source:  FHIR R4 elementdefinition.html, profiling.html#slicing
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Strength = Literal["required", "extensible", "preferred", "example"]
Rules = Literal["open", "closed", "openAtEnd"]


class Unusable(Exception):
    """A StructureDefinition that cannot be compiled; the text says why, and holds nothing of a patient."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class TypeRule:
    """One type an element may have.

    profiles     one of them must hold
    targets      of what a Reference names, one of them
    aggregation  how a Reference may lie to what it names: contained, bundled, referenced
    versioning   whether a Reference names a version: either, independent, specific
    """

    code: str
    profiles: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    aggregation: tuple[str, ...] = ()
    versioning: str = "either"


@dataclass(frozen=True, slots=True)
class Binding:
    value_set: str
    strength: Strength
    max_value_set: str | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """One FHIRPath rule. text: what its author says of it."""

    key: str
    severity: Literal["error", "warning"]
    text: str
    expression: str


@dataclass(frozen=True, slots=True)
class Discriminator:
    type: Literal["value", "exists", "pattern", "type", "profile"]
    path: str


@dataclass(frozen=True, slots=True)
class Slicing:
    discriminators: tuple[Discriminator, ...]
    rules: Rules = "open"
    ordered: bool = False


@dataclass(slots=True)
class Rule:
    """Built once by ehr.fhir.profiles.read, never changed afterwards.

    name      element name ("value[x]"), or the name of a slice
    max       None: no bound but R4's
    types     empty: R4's own
    content   the rule of the element that a contentReference names: what is inside, not how many
    """

    name: str
    min: int = 0
    max: int | None = None
    types: tuple[TypeRule, ...] = ()
    fixed: Any = None
    pattern: Any = None
    min_value: Any = None
    max_value: Any = None
    max_length: int | None = None
    binding: Binding | None = None
    constraints: tuple[Constraint, ...] = ()
    slicing: Slicing | None = None
    slices: dict[str, "Rule"] = field(default_factory=dict)
    children: dict[str, "Rule"] = field(default_factory=dict)
    content: "Rule | None" = None

    @property
    def is_empty(self) -> bool:
        return self == Rule(self.name)


@dataclass(frozen=True, slots=True)
class Context:
    """Where an extension may stand."""

    type: Literal["fhirpath", "element", "extension"]
    expression: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A StructureDefinition, compiled. root: the rule of the resource or datatype itself."""

    url: str
    version: str
    type: str
    root: Rule
    contexts: tuple[Context, ...] = ()
    context_invariants: tuple[str, ...] = ()
    is_modifier: bool = False

    @property
    def canonical(self) -> str:
        return f"{self.url}|{self.version}" if self.version else self.url
