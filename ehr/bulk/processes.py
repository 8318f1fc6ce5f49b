"""One job's chunks → symmetric processes of a command, until the job is over.

In:      a job on the queue; how to open a record, and what its handlers are, for each process anew
Out:     the job's progress, told while it goes on
Why:     processes that each claim, work and finish share nothing but the database, and any of them may die
Garbage: is collected between chunks, because within one nothing becomes garbage
"""

import asyncio
import gc
import multiprocessing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ehr.jobs.queue import Chunk, Progress, Queue
from ehr.jobs.work import Handler, work

if TYPE_CHECKING:
    from ehr.store.record import Record

POLL_S: Final = 0.2
POLL_MAX_S: Final = 5.0

OpenRecord = Callable[[], Awaitable["Record"]]
HandlersOf = Callable[["Record"], Mapping[str, Handler]]


async def run_job(
    record: "Record",
    job_id: str,
    opener: OpenRecord,
    handlers_of: HandlersOf,
    *,
    processes: int,
    seen: Callable[[Progress], None],
    sums: Sequence[str] = (),
) -> Progress:
    """Run the job's chunks in this process, or in `processes` others where there are enough of them.

    seen is told how far it is, with these sums of the chunks' results.
    """
    queue, handlers = Queue(record.database), handlers_of(record)
    standing = await _standing(queue, job_id, sums)
    children: list[multiprocessing.process.BaseProcess] = []
    if processes > 1 and standing.total - standing.done > processes:
        context = multiprocessing.get_context("spawn")
        arguments = (opener, handlers_of, job_id)
        children = [context.Process(target=_child, args=arguments, daemon=True) for _ in range(processes)]
        for child in children:
            child.start()
    try:
        while not standing.over:
            if any(child.is_alive() for child in children):
                await asyncio.sleep(_poll_s(standing))
            elif not await work(queue, handlers, record.clock, job_id=job_id, turn_s=_poll_s(standing)):
                await asyncio.sleep(POLL_S)
            standing = await _standing(queue, job_id, sums)
            seen(standing)
    finally:
        for child in children:
            child.terminate()
            child.join()
    return standing


def _poll_s(standing: Progress) -> float:
    """Summing up the results of many chunks costs more than their number changes at once."""
    return min(POLL_MAX_S, POLL_S * (1 + standing.total / 500))


async def _standing(queue: Queue, job_id: str, sums: Sequence[str] = ()) -> Progress:
    progress = await queue.progress(job_id, sums)
    assert progress is not None, "the job was enqueued"
    return progress


def _child(opener: OpenRecord, handlers_of: HandlersOf, job_id: str) -> None:
    gc.freeze()
    gc.disable()
    asyncio.run(_claim_until_over(opener, handlers_of, job_id))


async def _claim_until_over(opener: OpenRecord, handlers_of: HandlersOf, job_id: str) -> None:
    record = await opener()
    queue = Queue(record.database)
    handlers = {kind: _collected(handler) for kind, handler in handlers_of(record).items()}
    try:
        while True:
            await work(queue, handlers, record.clock, job_id=job_id)
            if (await _standing(queue, job_id)).over:
                return
            await asyncio.sleep(POLL_S)
    finally:
        await record.close()


def _collected(handler: Handler) -> Handler:
    async def run(chunk: Chunk) -> Mapping[str, Any]:
        result = await handler(chunk)
        gc.collect()
        return result

    return run
