"""A value set → the codes in it.

In:      ValueSet as read; who knows other value sets and code systems (Known)
Out:     {(system, code): display}, in the order of its definition
Errors:  Unreadable  needs a code system or value set that is not here, or a filter that is not served
Source:  FHIR R4 4.9.5 value set expansion, 4.9.8 filters
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from terminology.codesystem import code_system
from terminology.connection import Connection
from terminology.errors import Unreadable
from terminology.filters import passes
from terminology.resources import CodeSystem, Include, ValueSet
from terminology.valueset import expansion

_AT: Final = "ValueSet.compose"

Codes = Mapping[tuple[str, str], str]
"""(system, code) → display, "" where it has none."""


class Known(Protocol):
    async def system(self, url: str, version: str | None) -> CodeSystem | None:
        """A code system with its concepts; None where it is not here."""

    async def codes(self, value_set: str) -> Codes | None:
        """expand of a value set by its address; None where it is not here."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Known of what is loaded, and of nothing else."""

    connection: Connection

    async def system(self, url: str, version: str | None) -> CodeSystem | None:
        return await code_system(self.connection, url, version)

    async def codes(self, value_set: str) -> Codes | None:
        return await expansion(self.connection, value_set)


async def expand(known: Known, value_set: ValueSet) -> Codes:
    if value_set.expansion is not None:
        return {(system, code): display for system, code, display in value_set.expansion}
    codes: dict[tuple[str, str], str] = {}
    for include in value_set.include:
        for key, display in (await _included(known, include, inactive=value_set.inactive)).items():
            codes.setdefault(key, display)
    for exclude in value_set.exclude:
        for key in await _included(known, exclude, inactive=True):
            codes.pop(key, None)
    return codes


async def _included(known: Known, include: Include, *, inactive: bool) -> Codes:
    """Codes of the system that pass the filters, cut down to those in every value set that is named too."""
    parts: list[Codes] = []
    if include.system is not None:
        parts.append(await _of_system(known, include.system, include, inactive=inactive))
    for url in include.value_sets:
        codes = await known.codes(url)
        if codes is None:
            raise Unreadable(f"needs the value set {url}, which is not known here", at=_AT)
        parts.append(codes)
    if not parts:
        raise Unreadable("an include needs a system or a value set", at=_AT)
    first, *others = parts
    return {key: display for key, display in first.items() if all(key in other for other in others)}


async def _of_system(known: Known, url: str, include: Include, *, inactive: bool) -> Codes:
    if include.codes is not None:
        return await _enumerated(known, url, include, include.codes, inactive=inactive)
    system = await known.system(url, include.version)
    if system is None:
        named = f"{url}|{include.version}" if include.version else url
        raise Unreadable(f"needs the code system {named}, which is not known here", at=_AT)
    if not system.is_whole:
        raise Unreadable(f"needs all of the code system {url}, and a {system.content} of it is here", at=_AT)
    asked = [passes(one, system) for one in include.filters]
    kept = [one for one in system.concepts.values() if (inactive or one.active) and all(ask(one) for ask in asked)]
    return {(url, one.code): one.display for one in kept}


async def _enumerated(
    known: Known, url: str, include: Include, codes: tuple[tuple[str, str], ...], *, inactive: bool
) -> Codes:
    """As they are listed, whether the code system is here or not; those it says are inactive may be left out."""
    system = None if inactive else await known.system(url, include.version)
    gone = set() if system is None else {one.code for one in system.concepts.values() if not one.active}
    return {(url, code): display for code, display in codes if code not in gone}
