"""Bodies of current resources → the index as it should be, page by page, while others write.

When:    the parameters, the folding or the hashing changed; or the index is in doubt
In:      a connection inside a transaction; a type, the rid after which to go on (a checkpoint)
Out:     Rebuilt: where it stands, how many were read, how many rows of resource differed, and the version of the
         table of parameters that stood meanwhile: with another one than the extractor's the page must be undone;
         terms that the caller has to keep in the same transaction (ehr.index.term)
Locks:   only rows that differ; one that a writer has replaced since it was read is left to that writer, who indexed it
Why not a drop: searches go on meanwhile and find what has not changed
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from ehr.fhir.r4 import TYPE_IDS
from ehr.index import write
from ehr.index.contained import Container, clear, container_of, insert, rid_of
from ehr.index.extract import Extractor, IndexRows
from ehr.index.term import Term

if TYPE_CHECKING:
    from ehr.database.connection import Connection

PAGE_COUNT: Final = 500

_WRITING: Final = "lock table resource in row exclusive mode"
"""From here on a backfill waits for this transaction (ehr.store.backfill)."""
_READ: Final = """
select rid, version, id, shard, tokens, date_lo_us, date_hi_us, body from resource
where type_id = $1 and rid > $2 and ($3::bigint is null or rid <= $3) order by rid limit $4
"""
_SIDE: Final = {
    "string_index": "select rid, shard, param_id, value from string_index where rid = any($1::bigint[])",
    "date_index": "select rid, shard, param_id, lo_us, hi_us from date_index where rid = any($1::bigint[])",
    "quantity_index": """
        select rid, shard, param_id, value, code, system from quantity_index where rid = any($1::bigint[])
    """,
}
_HOLD: Final = """
select r.rid from resource r join unnest($2::bigint[], $3::int[]) as n (rid, version) using (rid, version)
where r.type_id = $1 order by r.rid for update of r
"""
_CLEAR: Final = """
with n as (select * from unnest($1::bigint[], $2::int[]) as n (rid, param_id)),
     s as (delete from string_index i using n where i.rid = n.rid and i.param_id = n.param_id),
     d as (delete from date_index i using n where i.rid = n.rid and i.param_id = n.param_id)
delete from quantity_index i using n where i.rid = n.rid and i.param_id = n.param_id
"""
_CONTAINED: Final = """
select c.rid, c.type_id, c.shard, c.tokens, c.date_lo_us, c.date_hi_us
from unnest($1::bigint[], $2::bigint[]) as n (low, high) join contained c on c.rid >= n.low and c.rid < n.high
"""
_UPDATE: Final = """
update resource set shard = $3, tokens = $4, date_lo_us = $5, date_hi_us = $6 where type_id = $1 and rid = $2
"""
_VERSION: Final = "select index_version from installation"

Side = dict[tuple[int, int], set[tuple[Any, ...]]]
"""(rid, parameter) → its rows in the side tables, each with its shard."""


class Bodies(Protocol):
    """The part of ehr.store.body.BodyCodec that reading needs."""

    def decompress(self, frame: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """rid: go on after it; read 0: the type is done."""

    rid: int
    read: int
    changed: int
    version: int
    terms: Collection[Term] = ()


async def rebuild_page(
    connection: "Connection",
    extractor: Extractor,
    bodies: Bodies,
    type_name: str,
    *,
    after_rid: int,
    until_rid: int | None = None,
) -> Rebuilt:
    """One page; until_rid: none beyond it."""
    type_id = TYPE_IDS[type_name]
    await connection.execute(_WRITING)
    found = await connection.fetch(_READ, type_id, after_rid, until_rid, PAGE_COUNT)
    changed, terms = 0, set[Term]()
    if found:
        wanted = {row["rid"]: _rows(extractor, bodies, type_name, row) for row in found}
        terms = {one for made in wanted.values() for one in made.terms}
        there = await _side_of(connection, list(wanted))
        side = _differing(there, _side(wanted.items()))
        rows = {row["rid"]: row for row in found if _differs(row, wanted[row["rid"]])}
        contained = await _contained_differing(connection, wanted)
        if touched := rows.keys() | contained | {rid for rid, _ in side}:
            held = await _hold(connection, type_id, [row for row in found if row["rid"] in touched])
            await _replace_side(connection, [key for key in side if key[0] in held], wanted)
            stale = [(rid, wanted[rid]) for rid in sorted(rows.keys() & held)]
            changes = [(type_id, rid, made.shard, made.tokens, made.date_lo_us, made.date_hi_us) for rid, made in stale]
            await connection.executemany(_UPDATE, changes)
            again = [Container(type_name, rid, wanted[rid].contained) for rid in sorted(contained & held)]
            await clear(connection, [one.rid for one in again])
            await insert(connection, again)
            changed = len((rows.keys() | contained) & held)
    version = await connection.fetchval(_VERSION)
    return Rebuilt(found[-1]["rid"] if found else after_rid, len(found), changed, version, terms)


async def _contained_differing(connection: "Connection", wanted: Mapping[int, IndexRows]) -> set[int]:
    """Resources whose contained ones are not in the index as they should be."""
    spans = [rid_of(rid, 0) for rid in wanted], [rid_of(rid + 1, 0) for rid in wanted]
    there = {row["rid"]: row for row in await connection.fetch(_CONTAINED, *spans)}
    made = {rid_of(rid, one.place): one for rid, rows in wanted.items() for one in rows.contained}
    if not there and not made:
        return set()
    side = _differing(await _side_of(connection, list(there)), _side((rid, one.rows) for rid, one in made.items()))
    wrong = {rid for rid, _ in side} | (there.keys() ^ made.keys())
    for rid in there.keys() & made.keys():
        if there[rid]["type_id"] != TYPE_IDS[made[rid].type_name] or _differs(there[rid], made[rid].rows):
            wrong.add(rid)
    return {container_of(rid) for rid in wrong}


async def _side_of(connection: "Connection", rids: Sequence[int]) -> Side:
    found: Side = {}
    for sql in _SIDE.values():
        for rid, shard, param_id, *values in await connection.fetch(sql, rids):
            found.setdefault((rid, param_id), set()).add((shard, *values))
    return found


def _side(many: Iterable[tuple[int, IndexRows]]) -> Side:
    made: Side = {}
    for rid, rows in many:
        every: Iterable[tuple[Any, ...]] = (*rows.strings, *rows.dates, *rows.quantities)
        for param_id, *values in every:
            made.setdefault((rid, param_id), set()).add((rows.shard, *values))
    return made


def _differing(there: Side, wanted: Side) -> list[tuple[int, int]]:
    return [key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key)]


async def _hold(connection: "Connection", type_id: int, rows: Sequence[Any]) -> set[int]:
    """Lock what still stands at the version it was read at."""
    rids, versions = [row["rid"] for row in rows], [row["version"] for row in rows]
    return {row["rid"] for row in await connection.fetch(_HOLD, type_id, rids, versions)}


async def _replace_side(
    connection: "Connection", keys: Sequence[tuple[int, int]], wanted: Mapping[int, IndexRows]
) -> None:
    if not keys:
        return
    await connection.execute(_CLEAR, [rid for rid, _ in keys], [param_id for _, param_id in keys])
    ids: dict[int, set[int]] = {}
    for rid, param_id in keys:
        ids.setdefault(rid, set()).add(param_id)
    await write.insert(connection, [(rid, wanted[rid].side_of(these)) for rid, these in ids.items()])


def _rows(extractor: Extractor, bodies: Bodies, type_name: str, row: Any) -> IndexRows:
    return extractor.extract(orjson.loads(bodies.decompress(row["body"])), type_name, row["id"])


def _differs(row: Any, rows: IndexRows) -> bool:
    """Tokens are a set, but for those that have their place; their order says nothing else."""
    stored: Sequence[int] = row["tokens"]
    return (
        stored[: rows.placed] != rows.tokens[: rows.placed]
        or set(stored) != set(rows.tokens)
        or (row["shard"], row["date_lo_us"], row["date_hi_us"]) != (rows.shard, rows.date_lo_us, rows.date_hi_us)
    )
