"""Versions, newest first: of one resource, of a type, of one patient's compartment, of everything the caller may see.

In:      what is asked; access of the caller
Out:     HistoryPage with the place of the next page; deletions have no body
Order:   of one resource by version; of many by their place in the change feed, which commits decide, not clocks
Errors:  NotFound   a resource that never was, or that the caller may not know
         NotSupported   a cursor that is not ours
Audit:   one row per patient whose versions are on the page
Source:  FHIR R4 3.1.0.13 history
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.database.connection import Row
from ehr.errors import NotFound, NotSupported
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.store.access_sql import arguments, require, seen
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

_CURSOR: Final = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Asked:
    """since: versions written at or after it. at: versions that were current at some moment of it."""

    type_name: str | None = None
    id: str | None = None
    since: datetime | None = None
    at: tuple[datetime, datetime] | None = None
    count: int | None = None
    cursor: str | None = None
    patient_id: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """total is known for one resource without _since and _at only. next_cursor None: the last page."""

    entries: list[Version]
    next_cursor: str | None
    total: int | None


_OF_ONE: Final = f"""
WITH v AS (
    SELECT r.type_id, r.id, r.rid, r.version, r.updated, r.shard, r.source, r.op, r.body FROM resource r
    WHERE r.type_id = $3 AND r.id = $4 AND {seen("r")}
    UNION ALL
    SELECT h.type_id, h.id, h.rid, h.version, h.updated, h.shard, h.source, h.op, h.body FROM resource_history h
    WHERE h.type_id = $3 AND h.id = $4 AND {seen("h")}
), timed AS (
    SELECT v.*, lead(v.updated) OVER (ORDER BY v.version) AS until, count(*) OVER () AS total FROM v
)
SELECT v.type_id, v.id, v.rid, v.version, v.updated, v.shard, v.source, v.op, v.body, v.total,
       0::bigint AS xid, v.version::bigint AS seq
FROM timed v
WHERE v.version < $5
  AND ($6::timestamptz IS NULL OR v.updated >= $6)
  AND ($7::timestamptz IS NULL OR (v.updated <= $8 AND (v.until IS NULL OR v.until > $7)))
ORDER BY v.version DESC LIMIT $9
"""  # noqa: S608 - constants of ours
_EXISTS: Final = f"""
SELECT EXISTS (SELECT 1 FROM resource r WHERE r.type_id = $3 AND r.id = $4 AND {seen("r")})
    OR EXISTS (SELECT 1 FROM resource_history h WHERE h.type_id = $3 AND h.id = $4 AND {seen("h")})
"""  # noqa: S608 - constants of ours
_OF_MANY: Final = f"""
WITH c AS (
    SELECT c.* FROM change c
    WHERE (c.xid, c.seq) < ($3::xid8, $4::bigint) AND c.type_id = ANY($5::smallint[]) AND {seen("c")}
      AND ($6::bigint IS NULL OR c.shard = $6)
      AND ($7::timestamptz IS NULL OR c.updated >= $7)
      AND ($8::timestamptz IS NULL OR (c.updated <= $9 AND NOT EXISTS (
            SELECT 1 FROM resource r WHERE r.type_id = c.type_id AND r.rid = c.rid
              AND r.version = c.version + 1 AND r.updated <= $8)
        AND NOT EXISTS (SELECT 1 FROM resource_history h WHERE h.type_id = c.type_id AND h.rid = c.rid
              AND h.version = c.version + 1 AND h.updated <= $8)))
    ORDER BY c.xid DESC, c.seq DESC LIMIT $10
)
SELECT c.type_id, c.id, c.rid, c.version, c.updated, c.shard, c.source, c.op, coalesce(r.body, h.body) AS body,
       NULL::bigint AS total, c.xid, c.seq
FROM c
LEFT JOIN resource r ON r.type_id = c.type_id AND r.rid = c.rid AND r.version = c.version
LEFT JOIN resource_history h ON h.type_id = c.type_id AND h.rid = c.rid AND h.version = c.version
ORDER BY c.xid DESC, c.seq DESC
"""  # noqa: S608 - constants of ours


async def page(uow: "UnitOfWork", caller: Caller, asked: Asked) -> HistoryPage:
    """One page of history, and its audit rows."""
    count = min(limits.page_count_default if asked.count is None else asked.count, limits.history_count_max)
    if count < 0:
        raise NotSupported("_count is not negative", at="_count")
    if asked.id is not None:
        rows = await _of_one(uow, caller, asked, count)
    else:
        rows = await _of_many(uow, caller, asked, count)
    shown = rows[:count]
    entries = [_version(uow, row) for row in shown]
    await _note(uow, asked, entries)
    more = len(rows) > count and bool(shown)
    next_cursor = f"{shown[-1]['xid']}.{shown[-1]['seq']}" if more else None
    total = rows[0]["total"] if rows and not asked.since and not asked.at else None
    return HistoryPage(entries, next_cursor, total)


async def _of_one(uow: "UnitOfWork", caller: Caller, asked: Asked, count: int) -> Sequence[Row]:
    assert asked.type_name, "one resource has a type"
    access = caller.access
    require(access, asked.type_name, "r")
    place = (*arguments(access), TYPE_IDS[asked.type_name], asked.id)
    _, before = _place(asked.cursor)
    lo, hi = asked.at or (None, None)
    rows = await uow.connection.fetch(_OF_ONE, *place, min(before, 2**31 - 1), asked.since, lo, hi, count + 1)
    if not rows and not await uow.connection.fetchval(_EXISTS, *place):
        raise NotFound(f"there is no {asked.type_name} with this id", at=None)
    return rows


async def _of_many(uow: "UnitOfWork", caller: Caller, asked: Asked, count: int) -> Sequence[Row]:
    access = caller.access
    if asked.type_name:
        require(access, asked.type_name, "r")
        names = [asked.type_name]
    else:
        names = [name for name in TYPE_IDS if access.grants.allow(name, "r")]
        if not names:
            require(access, "Resource", "r")
    shard = uow.record.hasher.shard("Patient", asked.patient_id) if asked.patient_id else None
    if shard is not None:
        names = [name for name in names if name in PATIENT_TYPES]
    xid, seq = _place(asked.cursor)
    lo, hi = asked.at or (None, None)
    type_ids = [TYPE_IDS[name] for name in names]
    return await uow.connection.fetch(
        _OF_MANY, *arguments(access), xid, seq, type_ids, shard, asked.since, lo, hi, count + 1
    )


def _place(cursor: str | None) -> tuple[int, int]:
    """Where the page begins: before this place. Access does not rest on it, so it needs no signature."""
    if cursor is None:
        return 2**63 - 1, 2**63 - 1
    found = _CURSOR.fullmatch(cursor)
    if found is None or max(int(found[1]), int(found[2])) >= 2**63:
        raise NotSupported("this is not a page of this history; begin at the first one", at="_page")
    return int(found[1]), int(found[2])


def _version(uow: "UnitOfWork", row: Row) -> Version:
    body = uow.record.bodies.decompress(row["body"]) if row["op"] != "D" else None
    return Version(
        TYPE_NAMES[row["type_id"]],
        row["id"],
        row["version"],
        row["updated"],
        row["op"],
        body,
        row["rid"],
        row["shard"],
        row["source"],
    )


async def _note(uow: "UnitOfWork", asked: Asked, entries: Sequence[Version]) -> None:
    shards = {entry.shard for entry in entries if entry.type_name in PATIENT_TYPES}
    if shards:
        detail: dict[str, Any] = {"interaction": "history", "versions": len(entries)}
        await uow.audit.read(asked.type_name, shards, id=asked.id, detail=detail)
