"""A code → whether it is in a value set, without expanding the set.

In:      ValueSet as read; who knows other value sets and the concepts of code systems (Known)
Out:     True, False, or None where what is known does not tell: a filter over a code system that is not here
Why:     a value set may name all of LOINC or a branch of SNOMED CT. Its expansion needs the whole system; that a code
         is of another system can be said without
Keeps:   a whole system that is not here takes every code that says it is of that system
Source:  FHIR R4 valueset.html#compositions, 4.9.18.2 $validate-code
"""

from typing import Protocol

from terminology.errors import Unreadable
from terminology.expand import Concepts, passing
from terminology.resources import Include, ValueSet


class Known(Protocol):
    async def concepts(self, system: str, version: str | None) -> Concepts | None:
        """The concepts of a code system; None where it is not here."""

    async def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        """is_member of a value set by its address."""


async def is_member(known: Known, value_set: ValueSet, system: str | None, code: str) -> bool | None:
    """system None: a code element, whose system the value set tells."""
    if value_set.expansion is not None:
        return any(code == one and system in (None, of) for of, one, _ in value_set.expansion)
    found = await _in_any(known, value_set.include, system, code)
    if found is False:
        return False
    excluded = await _in_any(known, value_set.exclude, system, code)
    if excluded:
        return False
    return None if excluded is None else found


async def _in_any(known: Known, parts: tuple[Include, ...], system: str | None, code: str) -> bool | None:
    answers = [await _in(known, part, system, code) for part in parts]
    return True if True in answers else None if None in answers else False


async def _in(known: Known, part: Include, system: str | None, code: str) -> bool | None:
    """In its system's part, and in every value set that is named too."""
    answers = [await known.member(name, part.system or system, code) for name in part.value_sets]
    if part.system is not None:
        answers.append(await _of_system(known, part, system, code))
    return False if False in answers else None if None in answers else True


async def _of_system(known: Known, part: Include, system: str | None, code: str) -> bool | None:
    assert part.system is not None, "the caller looked"
    if system not in (None, part.system):
        return False
    if part.codes is not None:
        return any(code == one for one, _ in part.codes)
    concepts = await known.concepts(part.system, part.version)
    if concepts is None:
        return None if part.filters or system is None else True
    if code not in concepts:
        return False
    try:
        return all(code in passing(one, concepts) for one in part.filters)
    except Unreadable:  # a filter that is not served tells nothing
        return None
