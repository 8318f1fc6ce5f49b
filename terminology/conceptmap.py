"""The concept maps that are loaded.

In:      a canonical url, or the systems whose codes are mapped; the codes asked for
Out:     ConceptMap with the entries of these codes alone: a national map has ten thousand
Keeps:   without a version the one loaded last
Source:  FHIR R4 4.10 ConceptMap
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from terminology.connection import Connection
from terminology.resources import Attribute, ConceptMap, Group, Mapped, Unmapped

_NEWEST: Final = """
select distinct on (url) id, url, version, title, source, target, groups::text as groups from concept_map {where}
order by url, loaded desc, id desc"""
_BY_URL: Final = _NEWEST.format(where="where url = $1 and ($2 = '' or version = $2)")
_EACH: Final = _NEWEST.format(where="")
_ENTRIES: Final = """
select group_place, source_code, target_code, equivalence, source_display, target_display,
  depends_on::text as depends_on, product::text as product
from concept_map_entry where concept_map_id = $1 and {column} = any($2::text[]) order by place"""
_FORWARDS: Final = _ENTRIES.format(column="source_code")
_BACKWARDS: Final = _ENTRIES.format(column="target_code")


@dataclass(frozen=True, slots=True)
class Looking:
    """For what: codes on one side of the maps."""

    codes: Sequence[str]
    reverse: bool = False


async def loaded(connection: Connection, canonical: str, looking: Looking) -> ConceptMap | None:
    url, _, version = canonical.partition("|")
    row = await connection.fetchrow(_BY_URL, url, version)
    return None if row is None else await _with_entries(connection, row, _groups(row), looking)


async def loaded_of(connection: Connection, systems: frozenset[str], looking: Looking) -> list[ConceptMap]:
    """Every map from one of the systems; backwards, to one of them."""
    found = []
    for row in await connection.fetch(_EACH):
        groups = _groups(row)
        if systems & {group.target if looking.reverse else group.source for group in groups}:
            found.append(await _with_entries(connection, row, groups, looking))
    return found


def _groups(row: Mapping[str, Any]) -> tuple[Group, ...]:
    return tuple(
        Group(**{**one, "unmapped": Unmapped(**one["unmapped"]) if one.get("unmapped") else None})
        for one in orjson.loads(row["groups"])
    )


async def _with_entries(
    connection: Connection, row: Mapping[str, Any], groups: tuple[Group, ...], looking: Looking
) -> ConceptMap:
    rows = await connection.fetch(_BACKWARDS if looking.reverse else _FORWARDS, row["id"], list(looking.codes))
    return ConceptMap(
        url=row["url"],
        version=row["version"],
        title=row["title"],
        source=row["source"],
        target=row["target"],
        groups=groups,
        entries=tuple(map(_entry, rows)),
    )


def _entry(row: Mapping[str, Any]) -> Mapped:
    return Mapped(
        group=row["group_place"],
        source_code=row["source_code"],
        target_code=row["target_code"],
        equivalence=row["equivalence"],
        source_display=row["source_display"],
        target_display=row["target_display"],
        depends_on=_attributes(row["depends_on"]),
        product=_attributes(row["product"]),
    )


def _attributes(listed: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(**one) for one in orjson.loads(listed))
