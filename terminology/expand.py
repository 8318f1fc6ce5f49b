"""A value set → the codes in it.

In:      ValueSet as read; who knows other value sets and the concepts of code systems (Known)
Out:     {(system, code): display}
Errors:  Unreadable  needs a code system or value set that is not here, or a filter that is not served
Source:  FHIR R4 4.9.5 value set expansion, 4.9.8 filters
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from terminology.connection import Connection
from terminology.errors import Unreadable
from terminology.resources import Filter, Include, ValueSet
from terminology.valueset import expansion

Codes = Mapping[tuple[str, str], str]
"""(system, code) → display, "" where it has none."""

Concepts = Mapping[str, Mapping[str, Any]]
"""Code → display, parent, selectable, properties."""

CONCEPTS: Final = """
select code, parent, display, selectable, properties::text as properties from concept where code_system_id = (
  select id from code_system where url = $1 and ($2::text is null or version = $2) order by loaded desc, id desc limit 1
)"""


class Known(Protocol):
    async def concepts(self, system: str, version: str | None) -> Concepts | None:
        """The concepts of a code system; None where it is not here."""

    async def codes(self, value_set: str) -> Codes | None:
        """expand of a value set by its address; None where it is not here."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Known of what is loaded, and of nothing else."""

    connection: Connection

    async def concepts(self, system: str, version: str | None) -> Concepts | None:
        return await concepts_of(self.connection, system, version) or None

    async def codes(self, value_set: str) -> Codes | None:
        return await expansion(self.connection, value_set)


async def expand(known: Known, value_set: ValueSet) -> Codes:
    if value_set.expansion is not None:
        return {(system, code): display for system, code, display in value_set.expansion}
    codes: dict[tuple[str, str], str] = {}
    for include in value_set.include:
        codes |= await _included(known, include)
    for exclude in value_set.exclude:
        for key in await _included(known, exclude):
            codes.pop(key, None)
    return codes


async def _included(known: Known, include: Include) -> Codes:
    """Codes of the system that pass the filters, cut down to those in every value set that is named too."""
    parts: list[Codes] = []
    if include.system is not None:
        parts.append(await _of_system(known, include.system, include))
    for url in include.value_sets:
        codes = await known.codes(url)
        if codes is None:
            raise Unreadable(f"needs the value set {url}, which is not known here", at="ValueSet.compose")
        parts.append(codes)
    if not parts:
        raise Unreadable("an include needs a system or a value set", at="ValueSet.compose")
    first, *others = parts
    return {key: display for key, display in first.items() if all(key in other for other in others)}


async def _of_system(known: Known, system: str, include: Include) -> Codes:
    if include.codes is not None and not include.filters:
        return {(system, code): display for code, display in include.codes}
    concepts = await known.concepts(system, include.version)
    if concepts is None:
        raise Unreadable(f"needs the code system {system}, which is not known here", at="ValueSet.compose")
    kept = {code for code, row in concepts.items() if row["selectable"]}
    for one in include.filters:
        kept &= passing(one, concepts)
    return {(system, code): concepts[code]["display"] for code in concepts if code in kept}


async def concepts_of(connection: Connection, system: str, version: str | None) -> dict[str, Any]:
    """Code → row of a loaded code system; none where it is not loaded."""
    rows = await connection.fetch(CONCEPTS, system, version)
    return {row["code"]: {**row, "properties": orjson.loads(row["properties"])} for row in rows}


def passing(one: Filter, concepts: Concepts) -> set[str]:
    """The codes that a filter lets through."""
    if one.property == "concept" and one.op in ("is-a", "descendent-of"):
        below = {code for code in concepts if one.value in ancestors(code, concepts)}
        return below | ({one.value} if one.op == "is-a" else set())
    if one.op in ("=", "in"):
        wanted = {text.strip() for text in one.value.split(",")} if one.op == "in" else {one.value}
        return {code for code, row in concepts.items() if _property(row, one.property) in wanted}
    raise Unreadable(f"the filter {one.property} {one.op} is not served", at="ValueSet.compose.include.filter")


def _property(row: Any, name: str) -> str | None:
    value = row["properties"].get(name) if name != "parent" else row["parent"]
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def ancestors(code: str, concepts: Concepts) -> set[str]:
    """Every code above one; a cycle in a published hierarchy ends where it began."""
    found: set[str] = set()
    above = concepts[code]["parent"]
    while above and above not in found:
        found.add(above)
        above = concepts[above]["parent"] if above in concepts else None
    return found
