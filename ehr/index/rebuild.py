"""Bodies of current resources → the whole index anew, page by page, while others write.

When:    the table of search parameters, the folding or the hashing changed; or the index is in doubt
In:      a type, the rid after which to go on (a checkpoint), a number of resources
Out:     Rebuilt: where it stands, how many were read, and how many rows of resource differed
Order:   by (type, rid); each page is one transaction that locks its rows, so a writer waits for a page at most, and
         what a writer has just written is read as it wrote it
Why not a drop: searches go on meanwhile and find what has not changed
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from ehr.fhir.r4 import TYPE_IDS
from ehr.index import term, write
from ehr.index.extract import Extractor, IndexRows

if TYPE_CHECKING:
    from ehr.index.write import Connection

PAGE_COUNT: Final = 500

_READ: Final = """
select rid, id, shard, tokens, date_lo_us, date_hi_us, body from resource
where type_id = $1 and rid > $2 order by rid limit $3 for update
"""
_CLEAR: Final = """
with s as (delete from string_index where rid = any($1::bigint[])),
     d as (delete from date_index where rid = any($1::bigint[]))
delete from quantity_index where rid = any($1::bigint[])
"""
_UPDATE: Final = """
update resource set shard = $3, tokens = $4, date_lo_us = $5, date_hi_us = $6 where type_id = $1 and rid = $2
"""


class Bodies(Protocol):
    """The part of ehr.store.body.BodyCodec that reading needs."""

    def decompress(self, frame: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """rid: go on after it; read 0: the type is done."""

    rid: int
    read: int
    changed: int


async def rebuild_type(
    connection: "Connection", extractor: Extractor, bodies: Bodies, type_name: str, *, after_rid: int = 0
) -> Rebuilt:
    """Every resource of a type, from a checkpoint on; commits each page."""
    total = Rebuilt(after_rid, 0, 0)
    while True:
        page = await rebuild_page(connection, extractor, bodies, type_name, after_rid=total.rid)
        if not page.read:
            return total
        total = Rebuilt(page.rid, total.read + page.read, total.changed + page.changed)


async def rebuild_page(
    connection: "Connection",
    extractor: Extractor,
    bodies: Bodies,
    type_name: str,
    *,
    after_rid: int,
    count: int = PAGE_COUNT,
) -> Rebuilt:
    """One page in one transaction: the unit of work of a job."""
    type_id = TYPE_IDS[type_name]
    async with connection.transaction():
        found = await connection.fetch(_READ, type_id, after_rid, count)
        if not found:
            return Rebuilt(after_rid, 0, 0)
        made = [(row, _rows(extractor, bodies, type_name, row)) for row in found]
        await connection.execute(_CLEAR, [row["rid"] for row in found])
        await write.insert_many(connection, [(row["rid"], rows) for row, rows in made])
        changes = [
            (type_id, row["rid"], rows.shard, rows.tokens, rows.date_lo_us, rows.date_hi_us)
            for row, rows in made
            if _differs(row, rows)
        ]
        await connection.executemany(_UPDATE, changes)
        fresh = {one for _, rows in made for one in rows.terms}
        if fresh:
            await term.keep(connection, fresh)
    extractor.keep(fresh)
    return Rebuilt(found[-1]["rid"], len(found), len(changes))


def _rows(extractor: Extractor, bodies: Bodies, type_name: str, row: Any) -> IndexRows:
    return extractor.extract(orjson.loads(bodies.decompress(row["body"])), type_name, row["id"])


def _differs(row: Any, rows: IndexRows) -> bool:
    """Tokens are a set with its first element fixed; their order says nothing else."""
    stored: Sequence[int] = row["tokens"]
    return (
        stored[:1] != rows.tokens[:1]
        or set(stored) != set(rows.tokens)
        or (row["shard"], row["date_lo_us"], row["date_hi_us"]) != (rows.shard, rows.date_lo_us, rows.date_hi_us)
    )
