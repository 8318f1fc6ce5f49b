"""A value set → the codes in it.

In:      ValueSet as read; a connection, to ask for loaded code systems and value sets
Out:     {(system, code): display}
Errors:  Unreadable  needs a code system or value set that is not loaded, or a filter that is not served
Source:  FHIR R4 4.9.5 value set expansion, 4.9.8 filters
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from terminology.connection import Connection
from terminology.errors import Unreadable
from terminology.resources import Filter, Include, ValueSet

Codes = dict[tuple[str, str], str]

CONCEPTS: Final = """
select code, parent, display, selectable, properties::text as properties from concept where code_system_id = (
  select id from code_system where url = $1 and ($2::text is null or version = $2) order by loaded desc, id desc limit 1
)"""
VALUE_SET_CODES = """
select system, code, display from value_set_code where value_set_id = (
  select id from value_set where url = $1 order by loaded desc, id desc limit 1
)"""


async def expand(connection: Connection, value_set: ValueSet) -> Codes:
    if value_set.expansion is not None:
        return {(system, code): display for system, code, display in value_set.expansion}
    codes: Codes = {}
    for include in value_set.include:
        codes |= await _included(connection, include)
    for exclude in value_set.exclude:
        for key in await _included(connection, exclude):
            codes.pop(key, None)
    return codes


async def _included(connection: Connection, include: Include) -> Codes:
    """Codes of the system that pass the filters, cut down to those in every value set that is named too."""
    parts: list[Codes] = []
    if include.system is not None:
        parts.append(await _of_system(connection, include.system, include))
    for url in include.value_sets:
        rows = await connection.fetch(VALUE_SET_CODES, url)
        if not rows:
            raise Unreadable(f"needs the value set {url}, which is not loaded", at="ValueSet.compose")
        parts.append({(row["system"], row["code"]): row["display"] for row in rows})
    if not parts:
        raise Unreadable("an include needs a system or a value set", at="ValueSet.compose")
    first, *others = parts
    return {key: display for key, display in first.items() if all(key in other for other in others)}


async def _of_system(connection: Connection, system: str, include: Include) -> Codes:
    if include.codes is not None and not include.filters:
        return {(system, code): display for code, display in include.codes}
    concepts = await concepts_of(connection, system, include.version)
    if not concepts:
        raise Unreadable(f"needs the code system {system}, which is not loaded", at="ValueSet.compose")
    kept = {code for code, row in concepts.items() if row["selectable"]}
    for one in include.filters:
        kept &= passing(one, concepts)
    return {(system, code): concepts[code]["display"] for code in concepts if code in kept}


async def concepts_of(connection: Connection, system: str, version: str | None) -> dict[str, Any]:
    """Code → row of a loaded code system; none where it is not loaded."""
    rows = await connection.fetch(CONCEPTS, system, version)
    return {row["code"]: {**row, "properties": orjson.loads(row["properties"])} for row in rows}


def passing(one: Filter, concepts: Mapping[str, Any]) -> set[str]:
    """The codes that a filter lets through."""
    if one.property == "concept" and one.op in ("is-a", "descendent-of"):
        below = {code for code in concepts if one.value in _ancestors(code, concepts)}
        return below | ({one.value} if one.op == "is-a" else set())
    if one.op in ("=", "in"):
        wanted = {text.strip() for text in one.value.split(",")} if one.op == "in" else {one.value}
        return {code for code, row in concepts.items() if _property(row, one.property) in wanted}
    raise Unreadable(f"the filter {one.property} {one.op} is not served", at="ValueSet.compose.include.filter")


def _property(row: Any, name: str) -> str | None:
    value = row["properties"].get(name) if name != "parent" else row["parent"]
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def _ancestors(code: str, concepts: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    above = concepts[code]["parent"]
    while above and above not in found:
        found.add(above)
        above = concepts[above]["parent"] if above in concepts else None
    return found
