"""Bodies of a type → a dictionary that shrinks its later bodies, as a row of zstd_dictionary.

In:      bodies of resources as they are stored; 300 at least, a thousand are enough
Out:     numbered rows, never changed and never deleted; the codec of this process knows them at once, others when
         they open, or meet the first body that was written with one (ehr.store.body)
Order:   a dictionary is committed before anything is written with it; who trains holds a lock, so a type that several
         processes import at once gets one dictionary
Apart:   training runs in a process of its own: the library has crashed on unlucky samples, and must not take a
         worker with it
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import asyncpg
import structlog

from ehr import limits
from ehr.access.policy import Caller
from ehr.database.connection import Connection
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.store import dictionary_training
from ehr.store.body import BodyCodec

if TYPE_CHECKING:
    from ehr.database.engine import Database
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

SAMPLES_MIN: Final = 300
SAMPLES_MAX: Final = 1_000
HELD_OUT: Final = 5
"""Of existing bodies every fifth is not trained on, but tells what the dictionary is worth."""

WORTH: Final = 0.95
"""A later dictionary of a type must leave so much of the bytes, or less: each stays for ever."""

FIRST_NUMBER: Final = 32_768
"""Lower numbers are kept by the zstd project for a public register."""

FETCH_S: Final = 10.0

_ALL: Final = "SELECT type_id, bytes FROM zstd_dictionary ORDER BY id"
_NEWEST: Final = "SELECT bytes FROM zstd_dictionary WHERE type_id = $1 ORDER BY id DESC LIMIT 1"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('zstd_dictionary'))"
_NUMBER: Final = "SELECT coalesce(max(id) + 1, $1) FROM zstd_dictionary"
_KEEP: Final = "INSERT INTO zstd_dictionary (id, type_id, bytes) VALUES ($1, $2, $3)"
_FEW: Final = "SELECT body FROM resource WHERE type_id = $1 LIMIT $2"
_SPREAD: Final = """
WITH ends AS (SELECT min(rid) AS low, max(rid) AS high FROM resource WHERE type_id = $1),
     points AS (SELECT low + floor(random() * (high - low + 1))::bigint AS rid FROM ends, generate_series(1, $2 * 2))
SELECT DISTINCT ON (r.rid) r.body FROM points p CROSS JOIN LATERAL (
    SELECT rid, body FROM resource WHERE type_id = $1 AND rid >= p.rid ORDER BY rid LIMIT 1
) r LIMIT $2
"""

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trained:
    """What retrain found: bytes of the held-out bodies as they are compressed now, and with a new dictionary."""

    type_name: str
    samples: int
    before: int
    after: int
    kept: bool


async def load_bodies(database: "Database") -> BodyCodec:
    """The body codec with every dictionary of the database, and a way to the later ones."""
    async with database.acquire() as connection:
        known = await _all(connection)
    return BodyCodec(known, fetch=lambda: _fetch(database.url))


async def provide(record: "Record", samples: Mapping[str, Sequence[bytes]]) -> None:
    """A first dictionary for each of these types, made from samples, unless another process has made one by now."""
    for type_name, bodies in samples.items():
        type_id = TYPE_IDS[type_name]
        assert len(bodies) >= SAMPLES_MIN, "the library needs some hundred samples"
        async with record.unit_of_work(Caller.system("dictionary")) as uow:
            await uow.connection.execute(_LOCK)
            content: bytes | None = await uow.connection.fetchval(_NEWEST, type_id)
            if content is None:
                content = await _make(uow, type_id, bodies)
        if content is not None:
            record.bodies.learn([(type_id, content)])


async def retrain(record: "Record") -> list[Trained]:
    """A dictionary for every type that has enough resources and would shrink by it, one transaction each."""
    made = []
    async with record.database.acquire() as connection:
        record.bodies.learn(await _all(connection))
    for type_id in sorted(TYPE_NAMES):
        async with record.unit_of_work(Caller.system("dictionary")) as uow:
            await uow.connection.execute(_LOCK)
            bodies = await _bodies(uow, type_id)
            if len(bodies) < SAMPLES_MIN:
                continue
            found, content = await _better(uow, type_id, bodies)
        if content is not None:
            record.bodies.learn([(type_id, content)])
        if found is not None:
            made.append(found)
    return made


async def _better(uow: "UnitOfWork", type_id: int, bodies: Sequence[bytes]) -> tuple[Trained | None, bytes | None]:
    held_out = bodies[::HELD_OUT]
    learnt = [body for n, body in enumerate(bodies) if n % HELD_OUT]
    number = await _number(uow)
    content = await _train(number, learnt)
    if content is None:
        return None, None
    now, then = uow.record.bodies, BodyCodec([(type_id, content)])
    before = sum(len(now.compress(type_id, body)) for body in held_out)
    after = sum(len(then.compress(type_id, body)) for body in held_out)
    kept = after <= before * WORTH
    if kept:
        await uow.connection.execute(_KEEP, number, type_id, content)
    return Trained(TYPE_NAMES[type_id], len(learnt), before, after, kept), content if kept else None


async def _make(uow: "UnitOfWork", type_id: int, samples: Sequence[bytes]) -> bytes | None:
    number = await _number(uow)
    content = await _train(number, samples)
    if content is not None:
        await uow.connection.execute(_KEEP, number, type_id, content)
    return content


async def _number(uow: "UnitOfWork") -> int:
    number: int = await uow.connection.fetchval(_NUMBER, FIRST_NUMBER)
    return number


async def _bodies(uow: "UnitOfWork", type_id: int) -> list[bytes]:
    """Up to SAMPLES_MAX bodies from all times."""
    rows = await uow.connection.fetch(_FEW, type_id, SAMPLES_MAX)
    if len(rows) == SAMPLES_MAX:
        rows = await uow.connection.fetch(_SPREAD, type_id, SAMPLES_MAX)
    return [uow.record.bodies.decompress(row["body"]) for row in rows]


async def _train(number: int, samples: Sequence[bytes]) -> bytes | None:
    """None where the samples make no dictionary; the log says why."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        dictionary_training.__name__,
        str(number),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    content, _ = await child.communicate(dictionary_training.packed(samples))
    if child.returncode or not content:
        log.warning("no dictionary could be trained", count=len(samples), status=child.returncode)
        return None
    return content


def spread(many: Sequence[T]) -> Sequence[T]:
    """At most SAMPLES_MAX of many, from beginning to end."""
    return many[:: -(-len(many) // SAMPLES_MAX)]


async def _all(connection: Connection) -> list[tuple[int, bytes]]:
    return [(row["type_id"], row["bytes"]) for row in await connection.fetch(_ALL)]


def _fetch(url: str) -> list[tuple[int, bytes]]:
    """Every dictionary, for a caller that cannot wait asynchronously: it stands still for some milliseconds, once
    for each dictionary another process made."""

    async def fetched() -> list[tuple[int, bytes]]:
        connection = await asyncpg.connect(url, timeout=FETCH_S, command_timeout=limits.statement_s)
        try:
            return await _all(connection)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1, "dictionaries") as thread:
        return thread.submit(asyncio.run, fetched()).result()
