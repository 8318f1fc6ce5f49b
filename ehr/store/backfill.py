"""The job that brings the index to what search_parameter says, a range of rows a chunk, while others write.

In:      a chunk of the jobs table: types, and rids after and up to which; what contains resources of these types too
Out:     rows indexed by every parameter that is declared, and by none that is retired; the chunk struck from pending
Before:  every transaction that wrote rows when the chunk began has ended. Those that began later read the raised
         index_version in the statement that writes, so none of them writes rows of the table before (docs/adr/0093)
Again:   a chunk may run any number of times: a row that stands as it should is left alone
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ehr.access.policy import Caller
from ehr.index import contained, formats, rebuild
from ehr.jobs.queue import Chunk, Progress, Queue
from ehr.jobs.work import Handler, work
from ehr.store import declarations
from ehr.store.faults import IndexChanged

if TYPE_CHECKING:
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

LOOK_S: Final = 0.05
_WRITERS: Final = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation = 'resource'::regclass AND mode = 'RowExclusiveLock' AND granted
"""
_ALONE: Final = "SELECT 1 FROM installation FOR UPDATE"
_UNDER_WAY: Final = """
SELECT 1 FROM job WHERE kind = 'index' AND state IN ('queued', 'running') AND (params ->> 'format')::int >= $1 LIMIT 1
"""
_CALLER: Final = Caller.system("index")


def handler(record: "Record") -> Handler:
    """What a worker does with one chunk."""

    async def run(chunk: Chunk) -> Mapping[str, Any]:
        await writers_ended(record)
        await record.learn_parameters()
        read = changed = 0
        start, until = chunk.params["after"], chunk.params["until"]
        types = chunk.job_params["types"]
        async with record.database.acquire() as connection:
            containers = await contained.container_types(connection, types, after=start, until=until)
        for type_name in dict.fromkeys([*types, *containers]):
            after = start
            while (page := await _page(record, type_name, after, until)).read:
                after, read, changed = page.rid, read + page.read, changed + page.changed
        async with record.database.acquire() as connection:
            await declarations.chunk_done(connection, chunk.job_id, chunk.number)
        return {"read": read, "changed": changed}

    return run


async def writers_ended(record: "Record") -> None:
    """Wait for the transactions that write resources now; who begins meanwhile is not waited for."""
    async with record.database.acquire() as connection:
        writing = {row[0] for row in await connection.fetch(_WRITERS)}
        while writing:
            await asyncio.sleep(LOOK_S)
            writing &= {row[0] for row in await connection.fetch(_WRITERS)}


async def _page(record: "Record", type_name: str, after: int, until: int | None) -> rebuild.Rebuilt:
    async def rebuilt(uow: "UnitOfWork") -> rebuild.Rebuilt:
        extractor = record.extractor
        await uow.plan("once")
        page = await rebuild.rebuild_page(
            uow.connection, extractor, record.bodies, type_name, after_rid=after, until_rid=until
        )
        if page.version != extractor.version:
            raise IndexChanged("the search parameters changed meanwhile")
        if page.terms:
            await uow.keep(page.terms)
        return page

    return await record.run(_CALLER, rebuilt)


async def bring_up(record: "Record") -> str | None:
    """Where rows of an earlier format may be there: keep that they are not, or let a job go through them; its id.

    Not where such a job is under way. One that failed is begun anew by the next process that starts to work.
    """
    if record.installation.index_format >= formats.FORMAT:
        return None

    async def brought(uow: "UnitOfWork") -> str | None:
        await uow.connection.execute(_ALONE)
        standing = await formats.standing(uow.connection)
        if standing < formats.FORMAT:
            under_way = await uow.connection.fetchval(_UNDER_WAY, formats.FORMAT)
            return None if under_way else await declarations.rebuild_all(uow.connection)
        await formats.raised(uow.connection, standing)
        return None

    return await record.run(_CALLER, brought)


async def rebuild_all(record: "Record") -> Progress:
    """Every row of every type, here and now; also what an earlier job could not finish."""

    async def enqueued(uow: "UnitOfWork") -> str:
        return await declarations.rebuild_all(uow.connection)

    queue = Queue(record.database)
    job_id = await record.run(_CALLER, enqueued)
    while True:
        await work(queue, {declarations.JOB: handler(record)}, record.clock, job_id=job_id)
        progress = await queue.progress(job_id)
        assert progress is not None, "the job was enqueued"
        if progress.over:
            if progress.state == "done":
                await bring_up(record)
            return progress
        await asyncio.sleep(LOOK_S)
