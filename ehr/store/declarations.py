"""SearchParameters of this installation: rows of search_parameter, kept in the transaction that writes the resource.

Written  a follower of the store: compares what the resource declares with what is declared, retires what is gone, adds
         what is new, raises installation.index_version, and enqueues the job that brings the index there
         (ehr.store.backfill), all in the transaction of the write
Read     load(): what a process must index new rows by, what it may search by, and what is not ready yet
Changed  a parameter whose definition changes gets a new id: hashes of the old one then answer nothing
Errors   Invalid  another SearchParameter declares this code for the same resources;  TooMuch  over limits
Why      docs/adr/0093
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr import limits
from ehr.database.connection import Connection
from ehr.errors import Invalid, Issue, TooMuch
from ehr.fhir import parameters
from ehr.fhir.declared import TYPE, Declared, declared
from ehr.fhir.parameters import COMMON, Parameters, parameter_of
from ehr.fhir.r4 import TYPE_IDS
from ehr.index import formats
from ehr.jobs import queue
from ehr.store.version import Before, Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

JOB: Final = "index"
"""Kind of the job that brings the index to what search_parameter says."""

RIDS_MIN: Final = 20_000
CHUNKS_MAX: Final = 500
"""A chunk is a range of rid: small enough to be done again, few enough to be listed."""

SLOT_MAX: Final = 255
"""Slots of references are given downwards from here: R4's own grow from 1 (ehr.index.hashing)."""

_LOAD: Final = """
SELECT i.index_version, p.id, p.base, p.code, p.definition::text AS definition, p.slot, p.state,
       cardinality(p.pending) AS pending
FROM installation i LEFT JOIN search_parameter p ON p.state IN ('backfilling', 'serving')
ORDER BY p.id
"""
_LOCK: Final = "SELECT index_version FROM installation FOR UPDATE"
_RAISE: Final = "UPDATE installation SET index_version = index_version + 1 RETURNING index_version"
_STANDING: Final = """
SELECT id, base, code, resource_id, definition::text AS definition, slot FROM search_parameter
WHERE state IN ('backfilling', 'serving')
"""
_SLOTS: Final = "SELECT slot FROM search_parameter WHERE state <> 'retired' AND base = ANY($1::text[])"
_ADD: Final = """
INSERT INTO search_parameter (base, code, resource_id, definition, slot, job_id, pending)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7)
"""
_RETIRE: Final = """
UPDATE search_parameter SET state = 'retiring', job_id = $2, pending = $3 WHERE id = ANY($1::int[])
"""
_DONE: Final = """
UPDATE search_parameter SET pending = array_remove(pending, $2),
    state = CASE WHEN array_remove(pending, $2) <> '{}' THEN state
            WHEN state = 'backfilling' THEN 'serving' WHEN state = 'retiring' THEN 'retired' ELSE state END
WHERE job_id = $1
"""
_ADOPT: Final = """
UPDATE search_parameter SET job_id = $1, pending = $2 WHERE state IN ('backfilling', 'retiring')
"""
_LAST_RID: Final = "SELECT last_value FROM resource_rid"
_STILL: Final = """
SELECT count(*) FROM search_parameter WHERE id = ANY($1::int[]) AND state = 'serving'
"""

Served = tuple[tuple[int, int], ...]
"""(id, pending chunks) of each: what tells one answer of load() from another of the same version."""


@dataclass(frozen=True, slots=True)
class Known:
    """What this installation has added, as of one moment.

    indexed     what rows written now must be indexed by
    parameters  what may be asked for now
    """

    version: int
    indexed: Parameters
    parameters: Parameters
    served: Served


async def load(connection: Connection) -> Known:
    rows = await connection.fetch(_LOAD)
    added = [row for row in rows if row["id"] is not None]
    made = {row["id"]: _parameter(row) for row in added}
    serving = [made[row["id"]] for row in added if row["state"] == "serving"]
    waiting = {
        (
            row["base"],
            row["code"],
        ): f"is being made ready: {row['pending']} parts of the store are not indexed by it yet"
        for row in added
        if row["state"] == "backfilling"
    }
    served = tuple((row["id"], row["pending"]) for row in added)
    return Known(rows[0]["index_version"], Parameters(made.values()), Parameters(serving, waiting), served)


async def still_served(connection: Connection, ids: Iterable[int]) -> bool:
    """Whether a page that was read before this is whole: none of the parameters it was found by is being retired."""
    asked = list(ids)
    return bool(await connection.fetchval(_STILL, asked) == len(asked))


def _parameter(row: Any) -> parameters.Parameter:
    entry = {**orjson.loads(row["definition"]), "id": row["id"], "type": row["base"], "code": row["code"]}
    return parameter_of(entry | {"slot": row["slot"]})


class ParameterKeeper:
    """The follower that keeps search_parameter."""

    types: Final = frozenset({TYPE})

    async def written(
        self,
        uow: "UnitOfWork",
        version: Version,
        tree: Mapping[str, Any] | None,
        before: Before | None = None,  # noqa: ARG002 - what stands is asked of the table
    ) -> None:
        await _keep(uow, version.id, declared(tree) if tree is not None else ())

    async def written_first(self, uow: "UnitOfWork", many: Sequence[tuple[Version, Mapping[str, Any]]]) -> None:
        for version, tree in many:
            await self.written(uow, version, tree)


async def _keep(uow: "UnitOfWork", resource_id: str, wanted: Sequence[Declared]) -> None:
    connection = uow.connection
    await connection.execute(_LOCK)  # SearchParameters are written one after the other
    standing = await connection.fetch(_STANDING)
    own = {(row["base"], row["code"]): row for row in standing if row["resource_id"] == resource_id}
    kept = {
        (one.type_name, one.code)
        for one in wanted
        if (row := own.get((one.type_name, one.code))) and orjson.loads(row["definition"]) == one.definition
    }
    fresh = [one for one in wanted if (one.type_name, one.code) not in kept]
    gone = [row for key, row in own.items() if key not in kept]
    if not fresh and not gone:
        return
    _refuse_taken(fresh, [row for row in standing if row["resource_id"] != resource_id])
    if len(standing) - len(gone) + len(fresh) > limits.search_parameters_added_max:
        raise TooMuch(f"more than {limits.search_parameters_added_max} added search parameters", at=f"{TYPE}.base")
    version = await connection.fetchval(_RAISE)
    uow.declares = True
    bases = [one.type_name for one in fresh] + [row["base"] for row in gone]
    job_id, chunks = await enqueue(connection, bases, version)
    await connection.execute(_RETIRE, [row["id"] for row in gone], job_id, chunks)
    for one in fresh:
        definition = orjson.dumps(dict(one.definition)).decode()
        slot = await _slot(connection, one)
        await connection.execute(_ADD, one.type_name, one.code, resource_id, definition, slot, job_id, chunks)


def _refuse_taken(fresh: Sequence[Declared], others: Sequence[Any]) -> None:
    for one in fresh:
        for row in others:
            if row["code"] == one.code and (row["base"] == one.type_name or COMMON in (row["base"], one.type_name)):
                text = f"{TYPE}/{row['resource_id']} declares {one.code} for {row['base']} already; retire it first"
                raise Invalid("the code is taken", issues=[Issue("duplicate", text, f"{TYPE}.code")])


async def _slot(connection: Connection, one: Declared) -> int:
    """A free number for a reference of the type: two parameters that shared one would only look further for _has."""
    if one.definition["kind"] != "reference":
        return 0
    taken = {row["slot"] for row in await connection.fetch(_SLOTS, [one.type_name, COMMON])}
    return next(slot for slot in range(SLOT_MAX, 0, -1) if slot not in taken)


async def enqueue(connection: Connection, bases: Iterable[str], version: int) -> tuple[str, list[int]]:
    """A job that brings the index of these types to a version; its id and the numbers of its chunks."""
    named = set(bases)
    types = sorted(TYPE_IDS if COMMON in named else named)
    last = await connection.fetchval(_LAST_RID)
    width = max(RIDS_MIN, last // CHUNKS_MAX + 1)
    starts = range(0, last + 1, width)
    chunks = [{"after": start, "until": start + width if start != starts[-1] else None} for start in starts]
    params = {"types": types, "version": version, "format": formats.FORMAT if COMMON in named else 0}
    job_id = await queue.add(connection, JOB, params, chunks, owner="system")
    return job_id, list(range(len(chunks)))


async def rebuild_all(connection: Connection) -> str:
    """A job over every type, which also finishes what an earlier one has left; inside the caller's transaction."""
    version = await connection.fetchval(_LOCK)
    job_id, chunks = await enqueue(connection, [COMMON], version)
    await connection.execute(_ADOPT, job_id, chunks)
    return job_id


async def chunk_done(connection: Connection, job_id: str, number: int) -> None:
    """A range of rows stands as the table says; with the last one the parameter is served, or gone."""
    await connection.execute(_DONE, job_id, number)
