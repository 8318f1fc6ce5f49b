"""What a file holds, in rows that can be stored: the shapes between the readers and the store.

Source:  FHIR R4 4.8 CodeSystem, 4.9 ValueSet, 4.10 ConceptMap
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Value = Mapping[str, Any]
"""One value of a property, as FHIR has it: {"valueCode": "deep"}."""


@dataclass(frozen=True, slots=True)
class Designation:
    """language "": the publisher does not say; use: a Coding."""

    value: str
    language: str = ""
    use: Mapping[str, Any] | None = None


def in_language(designations: Sequence[Designation], language: str) -> str | None:
    """The first in the language, else the first in one of its kind: "vi" for "vi-VN"."""
    for same in (str.lower, _primary):
        named = [one.value for one in designations if same(one.language) == same(language)]
        if named:
            return named[0]
    return None


def _primary(language: str) -> str:
    return language.partition("-")[0].lower()


@dataclass(frozen=True, slots=True)
class Concept:
    """selectable false: a heading (abstract); active false: no longer to be used. Designations beside the display."""

    code: str
    display: str
    definition: str = ""
    parents: tuple[str, ...] = ()
    selectable: bool = True
    active: bool = True
    properties: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    designations: tuple[Designation, ...] = ()


NO_KINDS: Final = ("part-of", "grouped-by")
"""Meanings of a hierarchy in which what is below a code need not be what the code says."""


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """concepts: by code, in the published order. value_set: canonical url of the one that holds all of them.

    meaning  of its hierarchy: is-a, part-of, grouped-by, classified-with; "": it does not say
    """

    url: str
    version: str
    title: str
    language: str
    concepts: Mapping[str, Concept] = field(default_factory=dict)
    content: str = "complete"
    case_sensitive: bool = True
    value_set: str = ""
    meaning: str = ""

    @property
    def subsumes(self) -> bool:
        """What is below a code is of its kind. A hierarchy of classes is taken for that, and one that does not say."""
        return self.meaning not in NO_KINDS

    @property
    def is_whole(self) -> bool:
        """A code that is not among the concepts is none of this system."""
        return self.content == "complete"

    def find(self, code: str) -> Concept | None:
        found = self.concepts.get(code)
        if found is None and not self.case_sensitive:
            folded = code.casefold()
            found = next((one for one in self.concepts.values() if one.code.casefold() == folded), None)
        return found

    def name(self, concept: Concept, language: str | None) -> str:
        """The display in a language ("vi-VN" is "vi"), else as it is published."""
        return self.name_in(concept, language) or concept.display if language else concept.display

    def name_in(self, concept: Concept, language: str) -> str | None:
        """None where it has no name in the language."""
        return in_language([Designation(concept.display, self.language), *concept.designations], language)


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of an include: concept is-a X, property = X, property in X,Y."""

    property: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Include:
    """One include or exclude. codes None: all of the system that pass the filters; else these, which take none.

    designations  what the value set itself calls its codes, beside their displays
    """

    system: str | None
    version: str | None
    codes: tuple[tuple[str, str], ...] | None
    filters: tuple[Filter, ...]
    value_sets: tuple[str, ...]
    designations: Mapping[str, tuple[Designation, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValueSet:
    """expansion: (system, code, display) where the file has one; else include and exclude say how to make it.

    inactive  codes that are no longer to be used are in it
    """

    url: str
    version: str
    title: str
    expansion: tuple[tuple[str, str, str], ...] | None
    include: tuple[Include, ...]
    exclude: tuple[Include, ...]
    inactive: bool = True

    @property
    def designations(self) -> dict[tuple[str, str], tuple[Designation, ...]]:
        """(system, code) → what the value set itself calls it."""
        return {(one.system or "", code): said for one in self.include for code, said in one.designations.items()}


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
