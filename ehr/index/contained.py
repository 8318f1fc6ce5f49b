"""Rows of the table contained: numbered by what contains them, and written when that is.

rid      FIRST + the container's rid * PLACES + the place among its contained ones: no number of a resource, so that
         the side tables hold both, in the order of the containers; and the container is known by it
In:      a connection inside the transaction that has written the container
Cost:    nothing where a resource has no contained ones and had none; else two statements and a COPY a side table
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.index import write
from ehr.index.extract import Contained

if TYPE_CHECKING:
    from ehr.database.connection import Connection

PLACES: Final = 1 << 20
"""More than a body within limits.body_bytes_max has room for."""
FIRST: Final = 1 << 62
MEMBER: Final = b'"contained"'
"""A body without it has no contained resources; one with it probably has."""

_CLEAR: Final = f"""
with gone as (
    delete from contained c using unnest($1::bigint[]) as n (rid)
    where c.rid >= {FIRST} + n.rid * {PLACES} and c.rid < {FIRST} + (n.rid + 1) * {PLACES} returning c.rid
), s as (delete from string_index i using gone where i.rid = gone.rid
), d as (delete from date_index i using gone where i.rid = gone.rid
)
delete from quantity_index i using gone where i.rid = gone.rid
"""  # noqa: S608 - constants of ours
_CONTAINERS: Final = """
select distinct container_type from contained
where type_id = any($1::smallint[]) and rid >= $2 and ($3::bigint is null or rid < $3)
"""
_INSERT: Final = """
insert into contained (rid, type_id, shard, container_type, id, updated, date_lo_us, date_hi_us, tokens)
select n.rid, n.type_id, r.shard, r.type_id, n.id, r.updated, n.lo, n.hi, n.tokens::bigint[]
from unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::bigint[], $7::bigint[],
            $8::text[]) as n (container_type, container, rid, type_id, id, lo, hi, tokens)
join resource r on r.type_id = n.container_type and r.rid = n.container
"""


@dataclass(frozen=True, slots=True)
class Container:
    """A resource as it stands now, and what it contains."""

    type_name: str
    rid: int
    contained: Sequence[Contained]


def rid_of(container: int, place: int) -> int:
    return FIRST + container * PLACES + place


def container_of(rid: int) -> int:
    """Its own number of a resource that nothing contains."""
    return rid if rid < FIRST else (rid - FIRST) // PLACES


async def container_types(
    connection: "Connection", type_names: Iterable[str], *, after: int, until: int | None
) -> list[str]:
    """Types of the resources after one number up to another that contain some of these types."""
    last = None if until is None else rid_of(until + 1, 0)
    rows = await connection.fetch(_CONTAINERS, [TYPE_IDS[name] for name in type_names], rid_of(after + 1, 0), last)
    return sorted(TYPE_NAMES[row["container_type"]] for row in rows)


async def clear(connection: "Connection", containers: Sequence[int]) -> None:
    """Take away what these resources contained."""
    if containers:
        await connection.execute(_CLEAR, list(containers))


async def insert(connection: "Connection", containers: Iterable[Container]) -> None:
    """Write what these resources contain; nothing of it is there."""
    many = [(one, inside, rid_of(one.rid, inside.place)) for one in containers for inside in one.contained]
    if not many:
        return
    rows = [
        (
            TYPE_IDS[one.type_name],
            one.rid,
            rid,
            TYPE_IDS[inside.type_name],
            inside.id,
            inside.rows.date_lo_us,
            inside.rows.date_hi_us,
            "{" + ",".join(map(str, inside.rows.tokens)) + "}",
        )
        for one, inside, rid in many
    ]
    await connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))
    await write.insert(connection, [(rid, inside.rows) for _, inside, rid in many])
