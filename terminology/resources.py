"""What a file holds, in rows that can be stored: the shapes between the readers and the store.

Source:  FHIR R4 4.8 CodeSystem, 4.9 ValueSet, 4.10 ConceptMap
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Concept:
    """designations: language → text, the language of the code system left out."""

    code: str
    display: str
    parent: str | None = None
    selectable: bool = True
    properties: Mapping[str, object] = field(default_factory=dict)
    designations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CodeSystem:
    url: str
    version: str
    title: str
    language: str
    concepts: tuple[Concept, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of an include: concept is-a X, concept descendent-of X, property = X, property in X,Y."""

    property: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Include:
    """One include or exclude. codes None: all of the system that pass the filters."""

    system: str | None
    version: str | None
    codes: tuple[tuple[str, str], ...] | None
    filters: tuple[Filter, ...]
    value_sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ValueSet:
    """expansion: (system, code, display) where the file has one; else include and exclude say how to make it."""

    url: str
    version: str
    title: str
    expansion: tuple[tuple[str, str, str], ...] | None
    include: tuple[Include, ...]
    exclude: tuple[Include, ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    source_system: str
    source_code: str
    target_system: str
    target_code: str
    equivalence: str


@dataclass(frozen=True, slots=True)
class ConceptMap:
    url: str
    version: str
    title: str
    entries: tuple[Mapped, ...]


Loadable = CodeSystem | ValueSet | ConceptMap
