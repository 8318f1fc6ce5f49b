"""Staged writes → rows: everything a set of writes leaves behind, in a handful of statements whatever their number.

In:      Staged: creates, updates and deletes of distinct resources, locked and checked by ehr.store.resources
Out:     rows of resource, resource_history, the side indexes, change, audit and outbox
Errors:  Raced   another transaction created the same (type, id) meanwhile; the transaction must begin anew
Order:   history gets the old version before the current row changes; a deleted resource leaves a tombstone and
         loses its claims
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson

from ehr.access.policy import Caller
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS
from ehr.index import write as index
from ehr.index.extract import IndexRows
from ehr.store.body import BodyCodec
from ehr.store.connection import Connection
from ehr.store.faults import Raced
from ehr.store.version import Op, Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

SUMMARY_TOPIC: Final = "summary"
"""Outbox topic; the key is the id of the source Patient whose record changed."""


@dataclass(slots=True)
class Staged:
    """One write that will happen. rid 0: a number is taken at the flush."""

    type_name: str
    id: str
    op: Op
    version: int
    updated: datetime
    shard: int
    source: int
    body: bytes | None = None
    tree: dict[str, Any] | None = None
    rows: IndexRows | None = None
    rid: int = 0
    replaces: bool = False
    revives: bool = False
    chosen_id: bool = False
    patients: tuple[str, ...] = ()

    @property
    def type_id(self) -> int:
        return TYPE_IDS[self.type_name]

    def done(self) -> Version:
        return Version(
            self.type_name, self.id, self.version, self.updated, self.op, self.body, self.rid, self.shard, self.source
        )


_RIDS: Final = "SELECT nextval('resource_rid') FROM generate_series(1, $1)"
_INSERT: Final = """
INSERT INTO resource (type_id, rid, shard, id, version, updated, source, date_lo_us, date_hi_us, tokens, body)
SELECT n.type_id, n.rid, n.shard, n.id, n.version, n.updated, n.source, n.lo, n.hi, n.tokens::bigint[], n.body
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::text[], $5::int[], $6::timestamptz[], $7::int[],
            $8::bigint[], $9::bigint[], $10::text[], $11::bytea[])
     AS n(type_id, rid, shard, id, version, updated, source, lo, hi, tokens, body)
"""
_OVERTAKEN: Final = """
SELECT 1 FROM unnest($1::smallint[], $2::text[], $3::int[]) AS n(type_id, id, version)
JOIN resource_history h ON h.type_id = n.type_id AND h.id = n.id AND h.version >= n.version LIMIT 1
"""
_MADE_BY: Final = """CASE WHEN r.version = 1 OR EXISTS (
    SELECT 1 FROM resource_history h
    WHERE h.type_id = r.type_id AND h.rid = r.rid AND h.version = r.version - 1 AND h.op = 'D') THEN 'C' ELSE 'U' END"""
"""op of a current row, which does not carry it: created when it is the first version or follows a tombstone."""

_UPDATE: Final = f"""
WITH moved AS (
    INSERT INTO resource_history (type_id, rid, version, id, shard, updated, xid, source, op, body)
    SELECT r.type_id, r.rid, r.version, r.id, r.shard, r.updated, r.xid, r.source, {_MADE_BY}, r.body
    FROM resource r WHERE r.type_id = $1 AND r.rid = ANY($2::bigint[])
)
UPDATE resource r SET shard = n.shard, version = n.version, updated = n.updated, xid = pg_current_xact_id(),
    date_lo_us = n.lo, date_hi_us = n.hi, tokens = n.tokens::bigint[], body = n.body
FROM unnest($2::bigint[], $3::bigint[], $4::int[], $5::timestamptz[], $6::bigint[], $7::bigint[], $8::text[],
            $9::bytea[]) AS n(rid, shard, version, updated, lo, hi, tokens, body)
WHERE r.type_id = $1 AND r.rid = n.rid
"""  # noqa: S608 - a constant of ours
_DELETE: Final = f"""
WITH gone AS (
    DELETE FROM resource r WHERE r.type_id = $1 AND r.rid = ANY($2::bigint[]) RETURNING *
), moved AS (
    INSERT INTO resource_history (type_id, rid, version, id, shard, updated, xid, source, op, body)
    SELECT r.type_id, r.rid, r.version, r.id, r.shard, r.updated, r.xid, r.source, {_MADE_BY}, r.body FROM gone r
), released AS (
    DELETE FROM claim c USING gone r WHERE c.type_id = r.type_id AND c.id = r.id
)
INSERT INTO resource_history (type_id, rid, version, id, shard, updated, xid, source, op, body)
SELECT r.type_id, r.rid, r.version + 1, r.id, r.shard, n.updated, pg_current_xact_id(), r.source, 'D', NULL
FROM gone r JOIN unnest($2::bigint[], $3::timestamptz[]) AS n(rid, updated) USING (rid)
"""  # noqa: S608 - a constant of ours
_FORGET: Final = """
WITH s AS (DELETE FROM string_index WHERE rid = ANY($1::bigint[])), d AS (DELETE FROM date_index WHERE rid = ANY($1))
DELETE FROM quantity_index WHERE rid = ANY($1)
"""
_LOG: Final = """
WITH fed AS (
    INSERT INTO change (type_id, rid, id, version, op, shard, source, updated)
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::bigint[], $7::int[],
                         $8::timestamptz[])
), due AS (
    INSERT INTO outbox (topic, key) SELECT $9, k FROM unnest($10::text[]) AS k
)
INSERT INTO audit (actor_kind, actor, facility_id, action, type_id, resource_id, shard, person_id, purpose)
SELECT $11, $12, $13, n.op, n.type_id, n.id, n.shard,
       (SELECT l.person_id FROM person_link l WHERE l.shard = n.shard), $14
FROM unnest($1::smallint[], $3::text[], $5::text[], $6::bigint[]) AS n(type_id, id, op, shard)
"""


async def flush(uow: "UnitOfWork", caller: Caller, staged: Sequence[Staged]) -> list[Version]:
    """Write everything that is staged, in the order given to followers."""
    assert not uow.reading, "a unit of work opened for reading does not write"
    assert len({(s.type_id, s.id) for s in staged}) == len(staged), "one write per resource and flush"
    connection = uow.connection
    await _delete(connection, [s for s in staged if s.op == "D"])
    await _insert(connection, uow.record.bodies, [s for s in staged if s.op != "D" and not s.replaces])
    await _replace(connection, uow.record.bodies, [s for s in staged if s.op != "D" and s.replaces])
    await _log(uow, caller, staged)
    return [s.done() for s in staged]


async def _insert(connection: Connection, bodies: BodyCodec, created: list[Staged]) -> None:
    if not created:
        return
    unnumbered = [s for s in created if not s.rid]
    if unnumbered:
        for row, s in zip(await connection.fetch(_RIDS, len(unnumbered)), unnumbered, strict=True):
            s.rid = row[0]
    rows = [_index_rows(s) for s in created]
    try:
        await connection.execute(
            _INSERT,
            [s.type_id for s in created],
            [s.rid for s in created],
            [s.shard for s in created],
            [s.id for s in created],
            [s.version for s in created],
            [s.updated for s in created],
            [s.source for s in created],
            [r.date_lo_us for r in rows],
            [r.date_hi_us for r in rows],
            [_array(r.tokens) for r in rows],
            [_frame(bodies, s) for s in created],
        )
    except asyncpg.UniqueViolationError as error:
        raise Raced("the resource was created by another writer at the same moment") from error
    chosen = [s for s in created if s.chosen_id]
    if chosen and await connection.fetchval(
        _OVERTAKEN, [s.type_id for s in chosen], [s.id for s in chosen], [s.version for s in chosen]
    ):
        raise Raced("the resource was created and deleted by another writer at the same moment")
    await index.insert_many(connection, [(s.rid, r) for s, r in zip(created, rows, strict=True)])


async def _replace(connection: Connection, bodies: BodyCodec, updated: list[Staged]) -> None:
    for type_name, group in _by_type(updated):
        rows = [_index_rows(s) for s in group]
        changed = await connection.execute(
            _UPDATE,
            TYPE_IDS[type_name],
            [s.rid for s in group],
            [s.shard for s in group],
            [s.version for s in group],
            [s.updated for s in group],
            [r.date_lo_us for r in rows],
            [r.date_hi_us for r in rows],
            [_array(r.tokens) for r in rows],
            [_frame(bodies, s) for s in group],
        )
        assert changed == f"UPDATE {len(group)}", "every row was locked before it was replaced"
        await connection.execute(_FORGET, [s.rid for s in group])
        await index.insert_many(connection, [(s.rid, r) for s, r in zip(group, rows, strict=True)])


async def _delete(connection: Connection, deleted: list[Staged]) -> None:
    for type_name, group in _by_type(deleted):
        changed = await connection.execute(
            _DELETE, TYPE_IDS[type_name], [s.rid for s in group], [s.updated for s in group]
        )
        assert changed == f"INSERT 0 {len(group)}", "every row was locked before it was deleted"
        await connection.execute(_FORGET, [s.rid for s in group])


async def _log(uow: "UnitOfWork", caller: Caller, staged: Sequence[Staged]) -> None:
    patients = (patient for s in staged if s.type_name in PATIENT_TYPES for patient in s.patients)
    await uow.connection.execute(
        _LOG,
        [s.type_id for s in staged],
        [s.rid for s in staged],
        [s.id for s in staged],
        [s.version for s in staged],
        [s.op for s in staged],
        [s.shard for s in staged],
        [s.source for s in staged],
        [s.updated for s in staged],
        SUMMARY_TOPIC,
        uow.outbox.fresh(SUMMARY_TOPIC, patients),
        caller.kind,
        caller.id,
        caller.facility_id,
        caller.purpose,
    )


_AUDIT_UNCHANGED: Final = """
INSERT INTO audit (actor_kind, actor, facility_id, action, type_id, resource_id, shard, person_id, purpose, detail)
SELECT $1, $2, $3, 'U', n.type_id, n.id, n.shard, (SELECT l.person_id FROM person_link l WHERE l.shard = n.shard),
       $4, $5::text::jsonb
FROM unnest($6::smallint[], $7::text[], $8::bigint[]) AS n(type_id, id, shard)
"""
_UNCHANGED: Final = orjson.dumps({"unchanged": True}).decode()


async def note_unchanged(uow: "UnitOfWork", caller: Caller, versions: Sequence[Version]) -> None:
    """An update that changed nothing is still an access."""
    assert not uow.reading, "a unit of work opened for reading does not write"
    await uow.connection.execute(
        _AUDIT_UNCHANGED,
        caller.kind,
        caller.id,
        caller.facility_id,
        caller.purpose,
        _UNCHANGED,
        [TYPE_IDS[v.type_name] for v in versions],
        [v.id for v in versions],
        [v.shard for v in versions],
    )


def _by_type(staged: Iterable[Staged]) -> Iterable[tuple[str, list[Staged]]]:
    for type_name, group in groupby(sorted(staged, key=_order), key=lambda s: s.type_name):
        yield type_name, list(group)


def _order(staged: Staged) -> tuple[str, str]:
    return staged.type_name, staged.id


def _index_rows(staged: Staged) -> IndexRows:
    assert staged.rows is not None, "a version that is not a deletion has index rows"
    return staged.rows


def _frame(bodies: BodyCodec, staged: Staged) -> bytes:
    assert staged.body is not None, "a version that is not a deletion has a body"
    return bodies.compress(staged.type_id, staged.body)


def _array(tokens: Sequence[int]) -> str:
    """bigint[] as text: unnest would flatten an array of arrays."""
    return "{" + ",".join(map(str, tokens)) + "}"
