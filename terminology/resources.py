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
class Attribute:
    """What a mapping depends on, or yields beside its target: an element, and the code it has. system None: a text."""

    property: str
    system: str | None
    value: str
    display: str = ""


@dataclass(frozen=True, slots=True)
class Unmapped:
    """What becomes of a code its group does not list. mode: provided, fixed or other-map, whose canonical url is."""

    mode: str
    code: str = ""
    display: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """source "": codes of any system; target "": the group has no matches. Versions "" where it names none."""

    source: str
    target: str
    source_version: str = ""
    target_version: str = ""
    unmapped: Unmapped | None = None


@dataclass(frozen=True, slots=True)
class Mapped:
    """One target of one code. group: place in ConceptMap.groups; target_code "": the map says there is no match."""

    group: int
    source_code: str
    target_code: str
    equivalence: str
    source_display: str = ""
    target_display: str = ""
    depends_on: tuple[Attribute, ...] = ()
    product: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True)
class ConceptMap:
    """source, target: canonical urls of the value sets it maps between; "" where it names none."""

    url: str
    version: str
    title: str
    source: str
    target: str
    groups: tuple[Group, ...]
    entries: tuple[Mapped, ...]


Loadable = CodeSystem | ValueSet | ConceptMap
