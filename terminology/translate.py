"""A code → what a concept map makes of it.

In:      ConceptMap, whole or with the entries of the code; the code; what is asked of it (Wanted)
Out:     Translation: matches in the order of the map; the properties that would have told more; maps to ask instead
Keeps:   a mapping that depends on another element is a match only where that element has the code it names
Why:     backwards, `equivalence` says how the code found stands to the one asked for: wider becomes narrower
Source:  FHIR R4 4.10 ConceptMap, conceptmap-operation-translate.html, valueset-concept-map-equivalence.html
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from terminology.resources import Attribute, ConceptMap, Group, Mapped

NO_MATCH: Final = frozenset({"unmatched", "disjoint"})
"""Equivalences that say there is no translation."""

_INVERSE: Final = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}


@dataclass(frozen=True, slots=True)
class Coded:
    system: str
    code: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """known: element, system and code of each dependency that is given."""

    target_system: str | None = None
    reverse: bool = False
    known: frozenset[tuple[str, str | None, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Match:
    """code "": the map says that there is none."""

    equivalence: str
    system: str
    version: str
    code: str
    display: str
    product: tuple[Attribute, ...] = ()


@dataclass(slots=True)
class Translation:
    matches: list[Match] = field(default_factory=list)
    lacking: set[str] = field(default_factory=set)
    further: list[str] = field(default_factory=list)


def translation(concept_map: ConceptMap, coded: Coded, wanted: Wanted) -> Translation:
    made = Translation()
    for place, published in enumerate(concept_map.groups):
        group = _backwards(published) if wanted.reverse else published
        if not _is_of(group, coded) or wanted.target_system not in {None, group.target}:
            continue
        entries = [
            _backwards_entry(one) if wanted.reverse else one for one in concept_map.entries if one.group == place
        ]
        listed = [one for one in entries if one.source_code == coded.code]
        made.matches += _matches(made, group, listed, wanted)
        if not listed:
            _take_unmapped(made, group, coded)
    return made


def applies(concept_map: ConceptMap, source: str | None, target: str | None, *, reverse: bool = False) -> bool:
    """Whether it maps between these value sets; None: any."""
    ends = (concept_map.target, concept_map.source) if reverse else (concept_map.source, concept_map.target)
    return all(asked is None or _same(asked, one) for asked, one in zip((source, target), ends, strict=True))


def _same(asked: str, canonical: str) -> bool:
    (url, _, version), (named, _, named_version) = asked.partition("|"), canonical.partition("|")
    return url == named and "" in {version, named_version} | ({""} if version == named_version else set())


def _is_of(group: Group, coded: Coded) -> bool:
    if group.source not in {"", coded.system}:
        return False
    return not coded.version or group.source_version in {"", coded.version}


def _backwards(group: Group) -> Group:
    """What is unmapped has no way back."""
    return Group(group.target, group.source, group.target_version, group.source_version)


def _backwards_entry(one: Mapped) -> Mapped:
    return replace(
        one,
        source_code=one.target_code,
        target_code=one.source_code,
        source_display=one.target_display,
        target_display=one.source_display,
        equivalence=_INVERSE.get(one.equivalence, one.equivalence),
        depends_on=one.product,
        product=one.depends_on,
    )


def _matches(made: Translation, group: Group, listed: list[Mapped], wanted: Wanted) -> Iterator[Match]:
    for one in listed:
        unmet = [known for known in one.depends_on if not _is_met(known, wanted)]
        if unmet:
            said = {element for element, _, _ in wanted.known}
            made.lacking |= {known.property for known in unmet} - said
            continue
        yield Match(
            one.equivalence, group.target, group.target_version, one.target_code, one.target_display, one.product
        )


def _is_met(needed: Attribute, wanted: Wanted) -> bool:
    return any(
        (element, code) == (needed.property, needed.value) and (needed.system is None or system == needed.system)
        for element, system, code in wanted.known
    )


def _take_unmapped(made: Translation, group: Group, coded: Coded) -> None:
    """How near they are is not said: relatedto."""
    unmapped = group.unmapped
    if unmapped is None:
        return
    if unmapped.mode == "other-map":
        made.further.append(unmapped.url)
        return
    code, display = (coded.code, "") if unmapped.mode == "provided" else (unmapped.code, unmapped.display)
    made.matches.append(Match("relatedto", group.target, group.target_version, code, display))
