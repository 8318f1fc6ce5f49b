"""One part of an NDJSON file → stored versions, in one transaction; lines that cannot be stored → the ledger.

In:      a Part; the record
Out:     Outcome; lines = blank + stored + updated + unchanged + superseded + refused, always
Order:   new resources of a part are written sorted by type, patient and date, so that a person's record lies together
Once:    the part is counted as done in the transaction that stores it
Fresh    ids nobody has yet go by binary COPY; ids that exist go through the store's own update, as next versions
Race:    another writer of the same id meanwhile makes the COPY fail, and the transaction begins anew
Visible  with the commit, versions and index together
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from ehr.access.policy import Caller
from ehr.bulk import rows
from ehr.bulk.dangling import Target, left_over
from ehr.bulk.declined import Declined, Trial
from ehr.bulk.files import Part, lines
from ehr.bulk.order import Order
from ehr.bulk.prepare import YIELD_LINES, Preparer, Ready, Refusal
from ehr.bulk.read import read
from ehr.bulk.refused import keep_refused
from ehr.bulk.winner import Key, decided, keep, ranks, winners
from ehr.database.connection import Connection
from ehr.database.partitions import GIN_LARGE_ROWS, GIN_PENDING_IMPORT
from ehr.errors import Conflicted, Refused
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS
from ehr.store import dictionaries
from ehr.store.arrays import texts
from ehr.store.faults import TAKEN, IndexChanged, Raced
from ehr.store.locks import Holding, hold
from ehr.store.resources import Write, Written
from ehr.store.version import Version
from ehr.store.writes import SUMMARY_TOPIC

if TYPE_CHECKING:
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

CITY: Final = Order()

_EXISTING: Final = """
select n.id, r.xid::text from unnest($2::text::text[]) as n (id)
cross join lateral (select xid from resource r where r.type_id = $1 and r.id = n.id) as r
"""
_WAS_DELETED: Final = """
select n.id, null from unnest($2::text::text[]) as n (id)
where exists (select 1 from resource_history h where h.type_id = $1 and h.id = n.id)
"""
_RIDS: Final = "select string_agg(nextval('resource_rid')::text, ' ') from generate_series(1, $1)"
_INDEX_VERSION: Final = "select index_version from installation"
"""Asked when the table is locked by our COPY: docs/adr/0093 says why then."""
_SESSION: Final = f"""
set local statement_timeout = 0;
select set_config('gin_pending_list_limit', '{GIN_PENDING_IMPORT}', true) where {GIN_LARGE_ROWS} < (
    select sum(c.reltuples) from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'resource'::regclass
)
"""  # noqa: S608 - constants of ours
_XID: Final = "select pg_current_xact_id()::text"


@dataclass(slots=True)
class Tally:
    """What became of the lines of one part. xid: the transaction that stored them (ehr.bulk.winner)."""

    lines: int = 0
    blank: int = 0
    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    refused: int = 0
    length: int = 0
    xid: str = ""

    def balances(self) -> bool:
        accepted = self.stored + self.updated + self.unchanged
        return self.lines == self.blank + accepted + self.superseded + self.refused

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Prepared:
    """A part after the costly half: nothing is written yet. ready: one line for each id."""

    part: Part
    preparer: Preparer
    ready: list[Ready]
    superseded: list[Refusal]
    refused: list[Refusal]
    lines: int
    blank: int

    def refuse(self, refusals: Iterable[Refusal]) -> None:
        """Take lines from those that are ready."""
        told = {one.line: one for one in refusals}
        if told:
            self.ready = [one for one in self.ready if one.line not in told]
            self.refused = sorted([*self.refused, *told.values()], key=lambda one: one.line)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a part, and what is told of its lines. references: those that lead out of it, to be looked at."""

    tally: Tally
    refused: Sequence[Refusal]
    superseded: Sequence[Refusal]
    references: Mapping[Target, int]


Finish = Callable[[Connection, Outcome], Awaitable[None]]
"""Is called at the end of the transaction, so that a part is stored and counted as done, or neither."""

Settled = Callable[[Iterable[Ready]], Iterable[Refusal]]
"""Which lines of a part that was checked before are refused."""


class _WasDeleted(Raced):
    """Ids we took for new have a history; they go through the store's update."""

    def __init__(self, keys: Iterable[Key]) -> None:
        super().__init__("ids were used before")
        self.keys = frozenset(keys)


async def ingest(
    record: "Record",
    part: Part,
    *,
    job_id: str,
    order: Order = CITY,
    number: int = 0,
    finish: Finish | None = None,
    settled: Settled | None = None,
) -> Outcome:
    """Store one part, the job's number-th; returns after the commit."""
    with _no_collection():
        return await _ingest(record, part, _Task(job_id, order, number, finish, settled))


@dataclass(frozen=True, slots=True)
class _Task:
    job_id: str
    order: Order
    number: int
    finish: Finish | None
    settled: Settled | None


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


def caller_of(order: Order) -> Caller:
    """In whose name an import acts."""
    return Caller.system("bulk import", facility_id=order.facility_id)


async def _ingest(record: "Record", part: Part, task: _Task) -> Outcome:
    caller = caller_of(task.order)
    prepared = await _made_ready(record, caller, part, task)
    await dictionaries.provide(record, _without_dictionary(record, prepared.ready))
    known: frozenset[Key] = frozenset()
    tries = False

    async def work(uow: "UnitOfWork") -> Outcome:
        nonlocal known, prepared
        if prepared.preparer.extractor.version != record.extractor.version:
            prepared = await _made_ready(record, caller, part, task)
        try:
            return await _store(uow, prepared, task, known, Trial(uow.connection) if tries else None)
        except _WasDeleted as found:
            known |= found.keys
            raise

    while True:
        try:
            return await record.run(caller, work)
        except Declined as found:
            prepared.refuse(found.refusals)
            tries = False
        except (Refused, Conflicted):
            if tries:
                raise
            tries = True


async def _made_ready(record: "Record", caller: Caller, part: Part, task: _Task) -> Prepared:
    """Prepared, held to the profiles that lines claim, one line for each id, in the order of writing."""
    prepared = await prepare_part(record, part, job_id=task.job_id, keep_meta=task.order.keep_meta)
    if task.settled is None:
        await check_claims(record, caller, prepared)
    else:
        prepared.refuse(task.settled(prepared.ready))
    prepared.ready, prepared.superseded = winners(prepared.ready, task.number)
    prepared.ready.sort(key=lambda one: (one.type_id, one.rows.shard, -(one.rows.date_lo_us or 0)))
    return prepared


async def prepare_part(record: "Record", part: Part, *, job_id: str, keep_meta: bool = False) -> Prepared:
    """Read, check and index every line."""
    preparer = Preparer(record.extractor, name=part.name, job_id=job_id, followed=record.followed, keep_meta=keep_meta)
    prepared = Prepared(part, preparer, [], [], [], lines=0, blank=0)
    for line in lines(part):
        prepared.lines += 1
        if prepared.lines % YIELD_LINES == 0:
            await asyncio.sleep(0)
        if line.content is not None and not line.content.strip():
            prepared.blank += 1
            continue
        made = preparer.prepare(line)
        if isinstance(made, Ready):
            prepared.ready.append(made)
        else:
            prepared.refused.append(made)
    return prepared


async def check_claims(record: "Record", caller: Caller, prepared: Prepared) -> list[Refusal]:
    """Refuse lines that do not conform to the profile they claim, as every other door does; they are returned."""
    claiming = [one for one in prepared.ready if one.claims]
    if not claiming or record.settings.profile_claims == "trusted":
        return []
    async with record.reading(caller) as uow:
        broken = [
            Refusal(one.line, one.content, tuple(found))
            for one in claiming
            if (found := await record.profiles.broken_claims(uow, one.tree or read(one.content)))
        ]
    prepared.refuse(broken)
    return broken


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


async def _store(
    uow: "UnitOfWork", prepared: Prepared, task: _Task, known: frozenset[Key], trial: Trial | None
) -> Outcome:
    connection = uow.connection
    await connection.execute(_SESSION)
    existing = await _met(connection, _EXISTING, prepared.ready)
    there = existing.keys() | known
    fresh = [one for one in prepared.ready if one.key not in there] if there else prepared.ready
    met = [one for one in prepared.ready if one.key in there] if there else []
    lost: list[Refusal] = []
    holding = await hold(connection, (one.key for one in met))
    if existing:  # asked again now that the rows are ours: another part of this job may have written them meanwhile
        existing = await _met(connection, _EXISTING, met)
        ranked = await ranks(connection, task.job_id, existing, prepared.preparer)
        met, lost = decided(met, ranked, task.number)
    await _follow(uow, fresh, await _insert(uow, fresh, prepared.preparer), trial)
    tally = Tally(prepared.lines, prepared.blank, stored=len(fresh), length=prepared.part.length)
    unchanged = await _update(uow, sorted(met, key=lambda one: one.line), holding, trial)
    tally.updated, tally.unchanged = len(met) - len(unchanged), len(unchanged)
    await keep_refused(uow, prepared.part.name, prepared.refused)
    references = left_over([*fresh, *met]) if task.order.references != "ignore" else {}
    outcome = Outcome(tally, prepared.refused, [*prepared.superseded, *lost], references)
    tally.refused, tally.superseded = len(outcome.refused), len(outcome.superseded)
    assert tally.balances(), "every line is accounted for"
    if task.finish is not None:
        await keep(connection, task.job_id, unchanged, task.number)
        tally.xid = await connection.fetchval(_XID)
        await task.finish(connection, outcome)
    return outcome


async def _met(connection: Connection, sql: str, asked: Iterable[Ready]) -> dict[Key, str]:
    """Which of these resources a statement finds by type and id, and what it says of each."""
    ids: dict[str, list[str]] = {}
    for one in asked:
        ids.setdefault(one.type_name, []).append(one.id)
    found: dict[Key, str] = {}
    for type_name, wanted in ids.items():
        known = await connection.fetch(sql, TYPE_IDS[type_name], texts(wanted))
        found.update(((type_name, row[0]), row[1]) for row in known)
    return found


async def _insert(uow: "UnitOfWork", fresh: Sequence[Ready], preparer: Preparer) -> list[int]:
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
    except TAKEN as error:
        raise Raced("a resource of the part was created by another writer at the same moment") from error
    if await connection.fetchval(_INDEX_VERSION) != preparer.extractor.version:
        raise IndexChanged("the search parameters changed meanwhile")
    if terms := uow.record.extractor.new_terms(preparer.extractor):
        await uow.keep(terms)
    if used := await _met(connection, _WAS_DELETED, fresh):
        raise _WasDeleted(used)
    return rids


async def _follow(uow: "UnitOfWork", fresh: Sequence[Ready], rids: Sequence[int], trial: Trial | None) -> None:
    """What every other write does too: followers, one audit row a patient, and summaries that fall due."""
    for follower in uow.record.followers:
        own = [(one, rid) for one, rid in zip(fresh, rids, strict=True) if one.type_name in follower.types]
        many = [(_version(one, rid, uow), one.followed()) for one, rid in own]
        if many and trial is None:
            await follower.written_first(uow, many)
        elif trial is not None:
            for (one, _), written in zip(own, many, strict=True):
                async with trial.of(one):
                    await follower.written_first(uow, [written])
    if fresh:
        shards = {one.rows.shard for one in fresh if one.type_name in PATIENT_TYPES}
        await uow.audit.execute("import", shards=shards, detail={"resources": len(fresh)})
        await uow.outbox.add(SUMMARY_TOPIC, {one.rows.patient for one in fresh if one.rows.patient})


def _version(one: Ready, rid: int, uow: "UnitOfWork") -> Version:
    updated, source = one.updated or uow.now, uow.caller.facility_id
    return Version(one.type_name, one.id, one.version, updated, "P", None, rid, one.rows.shard, source)


async def _update(uow: "UnitOfWork", met: Sequence[Ready], holding: Holding, trial: Trial | None) -> list[Ready]:
    """Ids that exist: their next versions, where something changed; the lines that changed nothing."""
    written: list[Written] = []
    if trial is None and met:
        written = await uow.resources.apply([_write(one) for one in met], holding=holding)
    elif trial is not None:
        for one in met:
            async with trial.of(one):
                written += await uow.resources.apply([_write(one)], holding=holding)
        trial.end()
    return [one for one, made in zip(met, written, strict=True) if not made.changed]


def _write(one: Ready) -> Write:
    return Write("U", one.type_name, one.id, one.content, one.tree or read(one.content), at=f"line {one.line}")


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
