"""One part of an NDJSON file → stored versions, in one transaction; lines that cannot be stored → the ledger.

In:      a Part; the record
Out:     Tally: lines = blank + stored + updated + unchanged + refused, always
Order:   new resources of a part are written sorted by type, patient and date, so that a person's record lies together
Once:    a part may run again at any time: what is stored already and equal is left as it is
Fresh    ids nobody has yet go by binary COPY; ids that exist go through the store's own update, as next versions
Race:    another writer of the same id meanwhile makes the COPY fail, and the transaction begins anew
Visible  with the commit, versions and index together
"""

import asyncio
import gc
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import orjson
import zstandard

from ehr.access.policy import Caller
from ehr.bulk import rows
from ehr.bulk.files import Part, lines
from ehr.bulk.prepare import Preparer, Ready, Refusal
from ehr.bulk.read import read
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS
from ehr.store import dictionaries
from ehr.store.arrays import texts
from ehr.store.faults import Raced
from ehr.store.resources import Write
from ehr.store.version import Version
from ehr.store.writes import SUMMARY_TOPIC

if TYPE_CHECKING:
    from ehr.store.connection import Connection
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

YIELD_LINES: Final = 200
"""The event loop gets its turn after so many lines: the lease is renewed there."""

_EXISTING: Final = """
select n.id from unnest($2::text::text[]) as n (id)
where exists (select 1 from resource r where r.type_id = $1 and r.id = n.id)
"""
_WAS_DELETED: Final = """
select n.id from unnest($2::text::text[]) as n (id)
where exists (select 1 from resource_history h where h.type_id = $1 and h.id = n.id)
"""
_RIDS: Final = "select string_agg(nextval('resource_rid')::text, ' ') from generate_series(1, $1)"
_NO_LIMIT: Final = "set local statement_timeout = 0"
_REFUSE: Final = """
insert into intake_message
    (facility_id, channel, kind, control_id, sha256, received, state, finished, attempts, issues, body)
select $1, 'ndjson', 'line', n.control_id, n.sha256, $2, 'refused', $2, 1, n.issues::text::jsonb, n.body
from unnest($3::text[], $4::bytea[], $5::text[], $6::bytea[]) as n (control_id, sha256, issues, body)
on conflict (facility_id, control_id, sha256) do nothing
"""


@dataclass(slots=True)
class Tally:
    """What became of the lines of one part."""

    lines: int = 0
    blank: int = 0
    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    length: int = 0

    def balances(self) -> bool:
        return self.lines == self.blank + self.stored + self.updated + self.unchanged + self.refused

    def as_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A part after the costly half: nothing is written yet."""

    part: Part
    ready: Sequence[Ready]
    refused: Sequence[Refusal]
    blank: int


class _WasDeleted(Raced):
    """Ids we took for new have a history; they go through the store's update."""

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        super().__init__("ids were used before")
        self.keys = frozenset(keys)


async def ingest(record: "Record", part: Part, *, job_id: str, facility_id: int = 0) -> tuple[Tally, Sequence[Refusal]]:
    """Store one part; returns after the commit."""
    with _no_collection():
        return await _ingest(record, part, job_id=job_id, facility_id=facility_id)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing of a part becomes garbage in cycles, and looking for it takes half the time of an import."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def _ingest(record: "Record", part: Part, *, job_id: str, facility_id: int) -> tuple[Tally, Sequence[Refusal]]:
    prepared = await prepare_part(record, part, job_id=job_id)
    await dictionaries.provide(record, _without_dictionary(record, prepared.ready))
    caller = Caller.system("bulk import", facility_id=facility_id)
    known: frozenset[tuple[str, str]] = frozenset()

    async def work(uow: "UnitOfWork") -> Tally:
        nonlocal known
        try:
            return await _store(uow, prepared, known)
        except _WasDeleted as found:
            known |= found.keys
            raise

    tally = await record.run(caller, work)
    assert tally.balances(), "every line is accounted for"
    return tally, prepared.refused


async def prepare_part(record: "Record", part: Part, *, job_id: str) -> Prepared:
    """Read, check and index every line."""
    ready: list[Ready] = []
    refused: list[Refusal] = []
    blank = 0
    preparer = Preparer(record.extractor, name=part.name, job_id=job_id, followed=record.followed)
    for count, line in enumerate(lines(part), start=1):
        if count % YIELD_LINES == 0:
            await asyncio.sleep(0)
        if line.content is not None and not line.content.strip():
            blank += 1
            continue
        made = preparer.prepare(line)
        if isinstance(made, Ready):
            ready.append(made)
        else:
            refused.append(made)
    ready.sort(key=lambda one: (one.type_id, one.rows.shard, -(one.rows.date_lo_us or 0)))
    return Prepared(part, ready, refused, blank)


def _without_dictionary(record: "Record", ready: Iterable[Ready]) -> dict[str, list[bytes]]:
    """Bodies of the types that have no dictionary yet, and here so many resources that one can be made."""
    found: dict[str, list[Ready]] = {}
    for one in ready:
        if not record.bodies.has_dictionary(TYPE_IDS[one.type_name]):
            found.setdefault(one.type_name, []).append(one)
    versions = rows.FirstVersions(record.clock.now())
    return {
        type_name: [versions.body(one) for one in dictionaries.spread(many)]
        for type_name, many in found.items()
        if len(many) >= dictionaries.SAMPLES_MIN
    }


async def _store(uow: "UnitOfWork", prepared: Prepared, known: frozenset[tuple[str, str]]) -> Tally:
    await uow.connection.execute(_NO_LIMIT)
    existing = known | await _met(uow.connection, _EXISTING, prepared.ready)
    fresh: dict[tuple[str, str], Ready] = {}
    later: list[Ready] = []
    for one in prepared.ready:
        key = (one.type_name, one.id)
        if key in existing or key in fresh:
            later.append(one)
        else:
            fresh[key] = one
    new = list(fresh.values())
    await _follow(uow, new, await _insert(uow, new))
    updated, unchanged = await _update(uow, sorted(later, key=lambda one: one.line))
    await _refuse(uow, prepared)
    tally = Tally(blank=prepared.blank, stored=len(fresh), updated=updated, unchanged=unchanged)
    tally.refused, tally.length = len(prepared.refused), prepared.part.length
    tally.lines = len(prepared.ready) + tally.refused + tally.blank
    return tally


async def _met(connection: "Connection", sql: str, asked: Iterable[Ready]) -> frozenset[tuple[str, str]]:
    """Which of these resources a statement finds by type and id."""
    ids: dict[str, list[str]] = {}
    for one in asked:
        ids.setdefault(one.type_name, []).append(one.id)
    found: set[tuple[str, str]] = set()
    for type_name, wanted in ids.items():
        found.update((type_name, row[0]) for row in await connection.fetch(sql, TYPE_IDS[type_name], texts(wanted)))
    return frozenset(found)


async def _insert(uow: "UnitOfWork", fresh: Sequence[Ready]) -> list[int]:
    """COPY the new resources, their index rows and their places in the feed; returns their rids."""
    if not fresh:
        return []
    connection = uow.connection
    rids = list(map(int, (await connection.fetchval(_RIDS, len(fresh))).split()))
    encoder = rows.Encoder(uow.record.bodies, uow.now, uow.caller.facility_id)
    for rid, one in zip(rids, fresh, strict=True):
        encoder.add(rid, one)
    try:
        for table, columns, content in encoder.tables():
            await connection.copy_to_table(table, source=_whole(content), columns=columns, format="binary")
    except asyncpg.UniqueViolationError as error:
        raise Raced("a resource of the part was created by another writer at the same moment") from error
    if terms := {term for one in fresh for term in one.rows.terms}:
        await uow.keep(terms)
    if used := await _met(connection, _WAS_DELETED, fresh):
        raise _WasDeleted(used)
    return rids


async def _follow(uow: "UnitOfWork", fresh: Sequence[Ready], rids: Sequence[int]) -> None:
    """What every other write does too: followers, one audit row a patient, and summaries that fall due."""
    source = uow.caller.facility_id
    for follower in uow.record.followers:
        many = [
            (Version(one.type_name, one.id, 1, uow.now, "C", None, rid, one.rows.shard, source), one.followed())
            for rid, one in zip(rids, fresh, strict=True)
            if one.type_name in follower.types
        ]
        if many:
            await follower.written_first(uow, many)
    if fresh:
        shards = {one.rows.shard for one in fresh if one.type_name in PATIENT_TYPES}
        await uow.audit.execute("import", shards=shards, detail={"resources": len(fresh)})
        await uow.outbox.add(SUMMARY_TOPIC, {one.patient for one in fresh if one.patient is not None})


async def _update(uow: "UnitOfWork", later: Sequence[Ready]) -> tuple[int, int]:
    """Ids that exist, in the order of their lines; of one id one version after the other."""
    updated = unchanged = 0
    waiting = list(later)
    while waiting:
        now: dict[tuple[str, str], Ready] = {}
        rest: list[Ready] = []
        for one in waiting:
            key = (one.type_name, one.id)
            if key in now:
                rest.append(one)
            else:
                now[key] = one
        asked = [
            Write("U", one.type_name, one.id, one.content, one.tree or read(one.content), at=f"line {one.line}")
            for one in now.values()
        ]
        for written in await uow.resources.apply(asked):
            updated += written.changed
            unchanged += not written.changed
        waiting = rest
    return updated, unchanged


async def _refuse(uow: "UnitOfWork", prepared: Prepared) -> None:
    """Keep refused lines where operators see what facilities send and what was wrong with it."""
    if not prepared.refused:
        return
    contents = [one.content or b"" for one in prepared.refused]
    await uow.connection.execute(
        _REFUSE,
        uow.caller.facility_id,
        uow.now,
        [f"{prepared.part.name}:{one.line}" for one in prepared.refused],
        [hashlib.sha256(content).digest() for content in contents],
        [orjson.dumps([asdict(issue) for issue in one.issues]).decode() for one in prepared.refused],
        [zstandard.compress(content, 1) for content in contents],
    )


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
