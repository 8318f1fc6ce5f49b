"""A code → whether it is in a value set, without expanding the set.

In:      ValueSet as read; who knows other value sets and code systems (Known)
Out:     True, False, or None where what is known does not tell: a filter over a code system that is not here
Why:     a value set may name all of LOINC or a branch of SNOMED CT. Its expansion needs the whole system; that a code
         is of another system can be said without
Keeps:   a whole system that is not here takes every code that says it is of that system
Source:  FHIR R4 valueset.html#compositions, 4.9.18.2 $validate-code
"""

from typing import Protocol

from terminology.errors import Unreadable
from terminology.filters import passes
from terminology.resources import CodeSystem, Include, ValueSet


class Known(Protocol):
    async def system(self, url: str, version: str | None) -> CodeSystem | None:
        """A code system with its concepts; None where it is not here."""

    async def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        """is_member of a value set by its address."""


async def is_member(known: Known, value_set: ValueSet, system: str | None, code: str) -> bool | None:
    """system None: a code element, whose system the value set tells."""
    if value_set.expansion is not None:
        return any(code == one and system in (None, of) for of, one, _ in value_set.expansion)
    found = await _in_any(known, value_set.include, system, code, inactive=value_set.inactive)
    if found is False:
        return False
    excluded = await _in_any(known, value_set.exclude, system, code, inactive=True)
    if excluded:
        return False
    return None if excluded is None else found


async def _in_any(
    known: Known, parts: tuple[Include, ...], system: str | None, code: str, *, inactive: bool
) -> bool | None:
    answers = [await _in(known, part, system, code, inactive=inactive) for part in parts]
    return True if True in answers else None if None in answers else False


async def _in(known: Known, part: Include, system: str | None, code: str, *, inactive: bool) -> bool | None:
    """In its system's part, and in every value set that is named too."""
    answers = [await known.member(name, part.system or system, code) for name in part.value_sets]
    if part.system is not None:
        answers.append(await _of_system(known, part, system, code, inactive=inactive))
    return False if False in answers else None if None in answers else True


async def _of_system(known: Known, part: Include, system: str | None, code: str, *, inactive: bool) -> bool | None:
    assert part.system is not None, "the caller looked"
    if system not in (None, part.system):
        return False
    if part.codes is not None:
        return any(code == one for one, _ in part.codes) and (inactive or await _is_active(known, part, code))
    published = await known.system(part.system, part.version)
    if published is None:
        return None if part.filters or system is None else True
    concept = published.concepts.get(code)
    if concept is None:
        return False if published.is_whole else None
    try:
        passed = (inactive or concept.active) and all(passes(one, published)(concept) for one in part.filters)
    except Unreadable:  # a filter that is not served tells nothing
        return None
    return passed or (False if published.is_whole else None)


async def _is_active(known: Known, part: Include, code: str) -> bool:
    """What is not known here is taken as it is listed."""
    assert part.system is not None, "the caller looked"
    published = await known.system(part.system, part.version)
    concept = None if published is None else published.concepts.get(code)
    return concept is None or concept.active
