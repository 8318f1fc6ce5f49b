"""The versions of a snapshot, streamed: of a span of rows, or of some patients' compartments.

In:      a unit of work; Extent
Out:     rows (type_id, shard, id, frame), or shards and frames alone, in pieces, each given to `take` before the next
         is read; deletions
Access:  the caller's condition is in every statement; types that are not granted are refused before
State    current versions below the snapshot's xid, and, of resources that the feed names above it, the newest version
         in the history below it. Each is one statement, so a resource that changes meanwhile is in one of the two
Memory:  one piece of the stream and the longest row
Cost:    one walk of the span; one look-up for each resource that changed since the snapshot
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ehr.database.copy_out import Frames, Row, Rows
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.store.access_sql import arguments, require, seen
from ehr.store.snapshot import EXPORTING, Snapshot

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

RID_MAX: Final = 2**63 - 1

_STREAMING: Final = f"SET LOCAL statement_timeout = 0; SET LOCAL application_name = '{EXPORTING}'"

_ROWS: Final = "SELECT v.type_id, v.shard, v.id, v.body"
_FRAMES: Final = "SELECT v.shard, v.body"
_CURRENT: Final = f"""
FROM resource v
WHERE v.type_id = ANY($3::smallint[]) AND v.rid > $5::bigint AND v.rid <= $6::bigint AND v.xid < $4::xid8
  AND {seen("v")}"""
_SUPERSEDED: Final = f"""
FROM (
    SELECT DISTINCT c.type_id, c.rid FROM change c
    WHERE c.type_id = ANY($3::smallint[]) AND c.xid >= $4::xid8 AND c.rid > $5::bigint AND c.rid <= $6::bigint
) c CROSS JOIN LATERAL (
    SELECT h.* FROM resource_history h
    WHERE h.type_id = c.type_id AND h.rid = c.rid AND h.xid < $4::xid8 ORDER BY h.version DESC LIMIT 1
) v WHERE v.op <> 'D' AND {seen("v")}"""  # noqa: S608 - constants of ours
_DELETED: Final = f"""
SELECT v.type_id, v.shard, v.id FROM resource_history v
WHERE v.op = 'D' AND v.type_id = ANY($3::smallint[]) AND v.rid > $5::bigint AND v.rid <= $6::bigint
  AND v.xid < $4::xid8 AND {seen("v")}
  AND NOT EXISTS (SELECT 1 FROM resource r WHERE r.type_id = v.type_id AND r.rid = v.rid AND r.xid < $4::xid8)
  AND NOT EXISTS (SELECT 1 FROM resource_history h WHERE h.type_id = v.type_id AND h.rid = v.rid
                    AND h.version > v.version AND h.xid < $4::xid8)"""  # noqa: S608 - constants of ours
_PAGE: Final = f"""
SELECT v.rid, v.shard, v.body FROM resource v
WHERE v.type_id = $3 AND v.rid > $4 AND {seen("v")}
  AND ($5::bigint[] IS NULL OR v.shard = ANY($5)) AND ($6::timestamptz IS NULL OR v.updated >= $6)
ORDER BY v.rid LIMIT $7
"""  # noqa: S608 - constants of ours
_FED: Final = """(v.type_id, v.rid) IN (
    SELECT c.type_id, c.rid FROM change c WHERE c.type_id = ANY($3::smallint[]) AND c.xid >= {0}::xid8)"""


@dataclass(frozen=True, slots=True)
class Since:
    """Changed at or after a moment; or, where the moment is that of an earlier snapshot, not in that one."""

    time: datetime
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Extent:
    """Which part of a snapshot.

    rids      after the first, up to the second
    shards    compartments; None: all
    matching  of resources of the filtered types only these rows
    only      these rows and no others
    """

    type_names: Sequence[str]
    rids: tuple[int, int] = (0, RID_MAX)
    shards: Sequence[int] | None = None
    since: Since | None = None
    until: datetime | None = None
    filtered: Sequence[str] = ()
    matching: Sequence[int] = ()
    only: Sequence[int] | None = None


async def begin(uow: "UnitOfWork") -> None:
    """Let this transaction read for as long as it takes; it is known as one that writes nothing the feed tells."""
    await uow.connection.execute(_STREAMING)


async def stream(uow: "UnitOfWork", snapshot: Snapshot, extent: Extent, take: Callable[[list[Row]], None]) -> None:
    """Give every version of the extent to `take`, in no particular order."""
    rows = Rows()
    await _copy(uow, snapshot, extent, _ROWS, lambda content: take(rows.feed(content)))
    assert rows.ended(), "a COPY that did not fail has its trailer"


async def stream_frames(
    uow: "UnitOfWork", snapshot: Snapshot, extent: Extent, take: Callable[[list[int], list[bytes]], None]
) -> None:
    """The same, without type and id: only shards and frames."""
    frames = Frames()
    await _copy(uow, snapshot, extent, _FRAMES, lambda content: take(*frames.feed(content)))
    assert frames.ended(), "a COPY that did not fail has its trailer"


async def _copy(
    uow: "UnitOfWork", snapshot: Snapshot, extent: Extent, select: str, take: Callable[[bytes], None]
) -> None:
    for name in extent.type_names:
        require(uow.access, name, "r")
    values, conditions = _conditions(uow, snapshot, extent)

    async def piece(content: bytes) -> None:
        try:
            take(content)
        except BaseException:  # asyncpg would wait for the answer to a cancel that the end of the COPY has overtaken
            asyncio.get_running_loop().call_soon(uow.connection.terminate)
            raise

    text = f"{select}{_CURRENT}{conditions}\nUNION ALL\n{select}{_SUPERSEDED}{conditions}"
    await uow.connection.copy_from_query(text, *values, output=piece, format="binary")


async def deleted(uow: "UnitOfWork", snapshot: Snapshot, extent: Extent) -> list[tuple[str, int, str]]:
    """(type, shard, id) of what was deleted since, and is not there in the snapshot."""
    assert extent.since is not None, "deletions are told since a moment"
    for name in extent.type_names:
        require(uow.access, name, "r")
    values, conditions = _conditions(uow, snapshot, extent)
    rows = await uow.connection.fetch(f"{_DELETED}{conditions}", *values)
    return [(TYPE_NAMES[row["type_id"]], row["shard"], row["id"]) for row in rows]


def _conditions(uow: "UnitOfWork", snapshot: Snapshot, extent: Extent) -> tuple[list[Any], str]:
    """Values of $1 …, and conditions on a row v; every value is a parameter."""
    type_ids = [TYPE_IDS[name] for name in extent.type_names]
    values: list[Any] = [*arguments(uow.access), type_ids, snapshot.xid, *extent.rids]
    made: list[str] = []

    def add(condition: str, *given: Any) -> None:
        slots = [f"${len(values) + number}" for number in range(1, len(given) + 1)]
        made.append(condition.format(*slots))
        values.extend(given)

    if extent.shards is not None:
        add("v.shard = ANY({0}::bigint[])", list(extent.shards))
    if extent.only is not None:
        add("v.rid = ANY({0}::bigint[])", list(extent.only))
    if extent.since is not None and extent.since.xid is not None:
        add(f"v.xid >= {{0}}::xid8 AND {_FED}", extent.since.xid)
    elif extent.since is not None:
        add("v.updated >= {0}::timestamptz", extent.since.time)
    if extent.until is not None:
        add("v.updated <= {0}::timestamptz", extent.until)
    if extent.filtered:
        filtered = [TYPE_IDS[name] for name in extent.filtered]
        add("(v.type_id <> ALL({0}::smallint[]) OR v.rid = ANY({1}::bigint[]))", filtered, list(extent.matching))
    return values, "".join(f"\n  AND {one}" for one in made)


async def page(
    uow: "UnitOfWork",
    type_name: str,
    *,
    after: int,
    shards: Sequence[int] | None,
    since: datetime | None,
    count: int,
) -> list[tuple[int, int, bytes]]:
    """(rid, shard, body) of the next current resources of a type, in the order of their creation."""
    require(uow.access, type_name, "r")
    wanted = None if shards is None else list(shards)
    values = (*arguments(uow.access), TYPE_IDS[type_name], after, wanted, since, count)
    rows = await uow.connection.fetch(_PAGE, *values)
    return [(row["rid"], row["shard"], uow.record.bodies.decompress(row["body"])) for row in rows]
