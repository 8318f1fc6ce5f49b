"""Staged writes → rows: everything a set of writes leaves behind, in one statement whatever their number.

In:      Staged: creates, updates and deletes of distinct resources, locked and checked by ehr.store.resources;
         Noted: accesses that wrote nothing
Out:     rows of resource, resource_history, the side indexes, audit and outbox; a number for what is new
Errors:  IndexChanged   the index rows were made by another table of parameters than there is now
         Raced   another transaction created the same (type, id) meanwhile; the transaction must begin anew
Order:   history gets the old version before the current row changes; a deleted resource leaves a tombstone and
         loses its claims
Cost:    one statement for creates, a wider one where something is replaced; two more where something is deleted; one
         more where a text or an outline is met that this process has not met before; some for contained resources, if
         there are any
         (measured: 50 µs of the server for each resource of a large set, 0.3 ms for a single one)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr.access.policy import Caller
from ehr.aside import Turns
from ehr.database.connection import Connection
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS
from ehr.index import contained
from ehr.index.extract import IndexRows
from ehr.store.arrays import numbers, texts
from ehr.store.faults import TAKEN, IndexChanged, Raced
from ehr.store.version import Before, Op, Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

SUMMARY_TOPIC: Final = "summary"
"""Outbox topic; the key is the id of the source Patient whose record changed."""


@dataclass(slots=True)
class Staged:
    """One write that will happen. rid 0: a number is taken at the flush; contained: what it replaces may have some."""

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
    patients: tuple[str, ...] = ()
    before: Before | None = None
    contained: bool = False

    def done(self) -> Version:
        return Version(
            self.type_name, self.id, self.version, self.updated, self.op, self.body, self.rid, self.shard, self.source
        )


@dataclass(frozen=True, slots=True)
class Noted:
    """An access that wrote nothing and is audited all the same: U with unchanged, or the R of a condition's match."""

    action: str
    type_name: str
    id: str
    shard: int
    unchanged: bool = False


ALONE_MAX: Final = 100
"""Ids of one flush that are locked: the server's table of locks is shared, and has room for some thousands."""
_STAGED: Final = """
WITH s AS MATERIALIZED (
    SELECT n.n, n.type_id, CASE WHEN n.rid = 0 THEN nextval('resource_rid') ELSE n.rid END AS rid, n.id, n.version,
           n.op, n.shard, n.source, n.updated, CASE WHEN n.op <> 'D' THEN nextval('change_seq') END AS seq
    FROM unnest($1::text::smallint[], $2::text::bigint[], $3::text::text[], $4::text::int[], $5::text::text[],
                $6::text::bigint[], $7::text::int[], $8::text::timestamptz[])
         WITH ORDINALITY AS n(type_id, rid, id, version, op, shard, source, updated, n)
    WHERE (SELECT count(pg_advisory_xact_lock(k)) FROM unnest($37::text::bigint[]) AS k) >= 0
), made AS (
    INSERT INTO resource
        (type_id, rid, shard, id, version, updated, seq, source, op, date_lo_us, date_hi_us, tokens, body)
    SELECT s.type_id, s.rid, s.shard, s.id, s.version, s.updated, s.seq, s.source, s.op, b.lo, b.hi,
           b.tokens::bigint[], b.body
    FROM unnest($9::text::int[], $10::text::bigint[], $11::text::bigint[], $12::text::text[], $13::bytea[])
         AS b(n, lo, hi, tokens, body)
    JOIN s USING (n) WHERE s.op IN ('C', 'P')
)"""
"""Writers of one id wait for its lock, and the second finds what the first committed. Were they to meet in the index of
ids, they could wait for one another: it looks for others after the entry is made (docs/adr/0116)."""
_VERSION: Final = "(SELECT index_version FROM installation) AS index_version"
"""Read by the statement that locks the table it writes: docs/adr/0093 needs both in one."""

_KEPT: Final = "type_id, rid, version, id, shard, updated, xid, seq, source, op, body"
"""Of a version that is no longer the current one."""
_REPLACED: Final = f"""
, moved AS (
    INSERT INTO resource_history ({_KEPT})
    SELECT r.type_id, r.rid, r.version, r.id, r.shard, r.updated, r.xid, r.seq, r.source, r.op, r.body
    FROM s JOIN resource r ON r.type_id = s.type_id AND r.rid = s.rid WHERE s.op = 'U'
), replaced AS (
    UPDATE resource r SET shard = n.shard, version = n.version, updated = n.updated, xid = pg_current_xact_id(),
        seq = n.seq, op = 'U', date_lo_us = n.lo, date_hi_us = n.hi, tokens = n.tokens::bigint[], body = n.body
    FROM (
        SELECT s.*, b.lo, b.hi, b.tokens, b.body
        FROM unnest($9::text::int[], $10::text::bigint[], $11::text::bigint[], $12::text::text[], $13::bytea[])
             AS b(n, lo, hi, tokens, body)
        JOIN s USING (n) WHERE s.op = 'U'
    ) n
    WHERE r.type_id = n.type_id AND r.rid = n.rid RETURNING r.rid
), no_strings AS (DELETE FROM string_index i USING s WHERE s.op = 'U' AND i.rid = s.rid
), no_dates AS (DELETE FROM date_index i USING s WHERE s.op = 'U' AND i.rid = s.rid
), no_quantities AS (DELETE FROM quantity_index i USING s WHERE s.op = 'U' AND i.rid = s.rid
)"""  # noqa: S608 - a constant of ours
_LEFT: Final = """
, strings AS (
    INSERT INTO string_index (param_id, value, rid, shard) SELECT i.param_id, i.value, s.rid, s.shard
    FROM unnest($14::text::int[], $15::text::int[], $16::text::text[]) AS i(n, param_id, value) JOIN s USING (n)
), dates AS (
    INSERT INTO date_index (param_id, lo_us, hi_us, rid, shard) SELECT i.param_id, i.lo, i.hi, s.rid, s.shard
    FROM unnest($17::text::int[], $18::text::int[], $19::text::bigint[], $20::text::bigint[])
         AS i(n, param_id, lo, hi) JOIN s USING (n)
), quantities AS (
    INSERT INTO quantity_index (param_id, value, code, system, rid, shard)
    SELECT i.param_id, i.value, i.code, i.system, s.rid, s.shard
    FROM unnest($21::text::int[], $22::text::int[], $23::text::float8[], $24::text::bigint[], $25::text::bigint[])
         AS i(n, param_id, value, code, system) JOIN s USING (n)
), due AS (
    INSERT INTO outbox (topic, key) SELECT $26, k FROM unnest($27::text::text[]) AS k
), noted AS (
    INSERT INTO audit (actor_kind, actor, facility_id, action, type_id, resource_id, shard, person_id, purpose, detail)
    SELECT $28, $29, $30, n.action, n.type_id, n.id, n.shard,
           (SELECT l.person_id FROM person_link l WHERE l.shard = n.shard), $31, n.detail::jsonb
    FROM (
        SELECT CASE s.op WHEN 'P' THEN 'C' ELSE s.op END AS action, s.type_id, s.id, s.shard, NULL AS detail FROM s
        UNION ALL
        SELECT * FROM unnest($32::text[], $33::smallint[], $34::text[], $35::bigint[], $36::text[])
    ) n
)
"""
_CREATE: Final = f"{_STAGED}{_LEFT}SELECT s.n, s.rid, 0 AS replaced, {_VERSION} FROM s"  # noqa: S608 - constants of ours
"""n counts from 1."""
_WRITE: Final = f"""{_STAGED}{_REPLACED}{_LEFT}
SELECT s.n, s.rid, (SELECT count(*) FROM replaced) AS replaced, {_VERSION} FROM s
"""  # noqa: S608 - constants of ours
_OVERTAKEN: Final = """
SELECT 1 FROM unnest($1::smallint[], $2::text[], $3::int[]) AS n(type_id, id, version)
JOIN resource_history h ON h.type_id = n.type_id AND h.id = n.id AND h.version >= n.version LIMIT 1
"""
_DELETE: Final = f"""
WITH gone AS (
    DELETE FROM resource r WHERE r.type_id = $1 AND r.rid = ANY($2::text::bigint[]) RETURNING *
), moved AS (
    INSERT INTO resource_history ({_KEPT})
    SELECT r.type_id, r.rid, r.version, r.id, r.shard, r.updated, r.xid, r.seq, r.source, r.op, r.body FROM gone r
), released AS (
    DELETE FROM claim c USING gone r WHERE c.type_id = r.type_id AND c.id = r.id
), no_strings AS (DELETE FROM string_index i USING gone r WHERE i.rid = r.rid
), no_dates AS (DELETE FROM date_index i USING gone r WHERE i.rid = r.rid
), no_quantities AS (DELETE FROM quantity_index i USING gone r WHERE i.rid = r.rid
)
INSERT INTO resource_history ({_KEPT})
SELECT r.type_id, r.rid, r.version + 1, r.id, r.shard, n.updated, pg_current_xact_id(), nextval('change_seq'), r.source,
       'D', NULL
FROM gone r JOIN unnest($2::text::bigint[], $3::text::timestamptz[]) AS n(rid, updated) USING (rid)
"""  # noqa: S608 - a constant of ours


async def flush(
    uow: "UnitOfWork", caller: Caller, staged: Sequence[Staged], noted: Sequence[Noted] = ()
) -> list[Version]:
    """Write everything that is staged, in the order given to followers."""
    assert not uow.reading, "a unit of work opened for reading does not write"
    assert len({(s.type_name, s.id) for s in staged}) == len(staged), "one write per resource and flush"
    if not staged:
        await _note(uow, caller, noted)
        return []
    deleted = [s for s in staged if s.op == "D"]
    if deleted:
        await _delete(uow.connection, deleted)
        uow.claims.forget()
    replaced = sum(s.op == "U" for s in staged)
    arguments = await _arguments(uow, caller, staged, noted)
    try:
        rows = await uow.connection.fetch(_WRITE if replaced else _CREATE, *arguments)
    except TAKEN as error:
        raise Raced("the resource was created by another writer at the same moment") from error
    fresh = {one for s in staged if s.rows is not None for one in s.rows.terms}
    if fresh:
        await uow.keep(fresh)
    for n, rid, done, _ in rows:
        staged[n - 1].rid = rid
        assert done == replaced, "every row was locked before it was replaced"
    await _contain(uow.connection, staged)
    index_version = rows[0]["index_version"]
    if not uow.declares and any(s.rows is not None and s.rows.version != index_version for s in staged):
        raise IndexChanged("the search parameters changed meanwhile; send the same request again")
    chosen = [s for s in staged if s.op == "P"]
    if chosen and await uow.connection.fetchval(
        _OVERTAKEN, [TYPE_IDS[s.type_name] for s in chosen], [s.id for s in chosen], [s.version for s in chosen]
    ):
        raise Raced("the resource was created and deleted by another writer at the same moment")
    return [s.done() for s in staged]


async def _contain(connection: Connection, staged: Sequence[Staged]) -> None:
    """What the resources contain, in the place of what they contained."""
    await contained.clear(connection, [s.rid for s in staged if s.contained])
    containing = [s for s in staged if s.rows is not None and s.rows.contained]
    await contained.insert(
        connection, [contained.Container(s.type_name, s.rid, s.rows.contained) for s in containing if s.rows]
    )


async def _delete(connection: Connection, deleted: list[Staged]) -> None:
    for type_name, group in _by_type(deleted):
        rids, moments = numbers([s.rid for s in group]), texts([s.updated.isoformat() for s in group])
        changed = await connection.execute(_DELETE, TYPE_IDS[type_name], rids, moments)
        assert changed == f"INSERT 0 {len(group)}", "every row was locked before it was deleted"


async def _arguments(
    uow: "UnitOfWork", caller: Caller, staged: Sequence[Staged], noted: Sequence[Noted]
) -> tuple[object, ...]:
    """$1 … $37 of _CREATE and _WRITE."""
    return (
        numbers([TYPE_IDS[s.type_name] for s in staged]),
        numbers([s.rid for s in staged]),
        texts([s.id for s in staged]),
        numbers([s.version for s in staged]),
        texts([s.op for s in staged]),
        numbers([s.shard for s in staged]),
        numbers([s.source for s in staged]),
        texts([s.updated.isoformat() for s in staged]),
        *await _contents(uow, staged),
        SUMMARY_TOPIC,
        texts(
            uow.outbox.fresh(
                SUMMARY_TOPIC, (patient for s in staged if s.type_name in PATIENT_TYPES for patient in s.patients)
            )
        ),
        caller.kind,
        caller.id,
        caller.facility_id,
        caller.purpose,
        *_columns_of(noted),
        numbers(_alone(staged)),
    )


def _alone(staged: Sequence[Staged]) -> list[int]:
    """What is locked of ids that others may write, too: the hashes that name them, in one order for all writers."""
    return sorted([s.rows.tokens[0] for s in staged if s.op != "C" and s.rows is not None])[:ALONE_MAX]


async def _contents(uow: "UnitOfWork", staged: Sequence[Staged]) -> Iterable[object]:
    """Columns of what a version holds, then of its side rows, each with its place in staged, from 1.

    What is deleted has no row and no index any more.
    """
    compress, turns = uow.record.bodies.compress, Turns()
    places: list[int] = []
    lows: list[int | None] = []
    highs: list[int | None] = []
    tokens: list[str] = []
    frames: list[bytes] = []
    strings: list[tuple[int, int, str]] = []
    dates: list[tuple[int, ...]] = []
    quantities: list[tuple[float, ...]] = []
    for n, s in enumerate(staged, start=1):
        rows, body = s.rows, s.body
        if rows is None or body is None:
            assert s.op == "D", "a version that is not a deletion has a body and index rows"
            continue
        places.append(n)
        lows.append(rows.date_lo_us)
        highs.append(rows.date_hi_us)
        tokens.append(numbers(rows.tokens))
        frames.append(compress(TYPE_IDS[s.type_name], body))
        strings += [(n, *row) for row in rows.strings]
        dates += [(n, *row) for row in rows.dates]
        quantities += [(n, *row) for row in rows.quantities]
        await turns.take()
    return (
        numbers(places),
        numbers(lows),
        numbers(highs),
        texts(tokens),
        frames,
        numbers([row[0] for row in strings]),
        numbers([row[1] for row in strings]),
        texts([row[2] for row in strings]),
        *(numbers([row[column] for row in dates]) for column in range(4)),
        *(numbers([row[column] for row in quantities]) for column in range(5)),
    )


def _columns_of(noted: Sequence[Noted]) -> Iterable[list[Any]]:
    return (
        [n.action for n in noted],
        [TYPE_IDS[n.type_name] for n in noted],
        [n.id for n in noted],
        [n.shard for n in noted],
        [_UNCHANGED if n.unchanged else None for n in noted],
    )


_NOTE: Final = """
INSERT INTO audit (actor_kind, actor, facility_id, action, type_id, resource_id, shard, person_id, purpose, detail)
SELECT $1, $2, $3, n.action, n.type_id, n.id, n.shard, (SELECT l.person_id FROM person_link l WHERE l.shard = n.shard),
       $4, n.detail::jsonb
FROM unnest($5::text[], $6::smallint[], $7::text[], $8::bigint[], $9::text[]) AS n(action, type_id, id, shard, detail)
"""
_UNCHANGED: Final = orjson.dumps({"unchanged": True}).decode()


async def _note(uow: "UnitOfWork", caller: Caller, noted: Sequence[Noted]) -> None:
    """An update that changed nothing is still an access."""
    if noted:
        await uow.connection.execute(
            _NOTE,
            caller.kind,
            caller.id,
            caller.facility_id,
            caller.purpose,
            *_columns_of(noted),
        )


def _by_type(staged: Iterable[Staged]) -> Iterable[tuple[str, list[Staged]]]:
    for type_name, group in groupby(sorted(staged, key=_order), key=lambda s: s.type_name):
        yield type_name, list(group)


def _order(staged: Staged) -> tuple[str, str]:
    return staged.type_name, staged.id
