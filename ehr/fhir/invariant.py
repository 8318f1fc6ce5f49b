"""What an invariant is, and the small words invariants are written in.

Source:  FHIR R4 4.0.1, ElementDefinition.constraint
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    """One constraint: its key in the specification, what it asks for, and whether an object keeps it."""

    key: str
    text: str
    holds: Callable[[Node], bool]


def has(node: Node, *names: str) -> bool:
    """All these elements are there; a primitive with an extension only counts, as in FHIRPath exists()."""
    return all(name in node or f"_{name}" in node for name in names)


def implies(node: Node, name: str, needed: str) -> bool:
    return not has(node, name) or has(node, needed)


def choice(node: Node, name: str) -> str | None:
    """JSON name of the variant of name[x] that is there."""
    length = len(name)
    for member in node:
        bare = member.removeprefix("_")
        if bare.startswith(name) and bare[length : length + 1].isupper():
            return bare
    return None


def coding_of(concept: Any) -> list[Node]:
    return list(concept.get("coding", [])) if isinstance(concept, Mapping) else []
