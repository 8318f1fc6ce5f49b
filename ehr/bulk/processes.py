"""One job's chunks → symmetric processes of a command, until the job is over.

In:      a job on the queue; how to open a record, and what its handlers are, for each process anew
Out:     the job's progress, told while it goes on
Why:     processes that each claim, work and finish share nothing but the database, and any of them may die
Away:    a database that is restarted is waited for, as long as a worker may be silent; then Unavailable
Garbage: is collected between chunks, because within one nothing becomes garbage
"""

import asyncio
import gc
import multiprocessing
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ehr import limits
from ehr.clock import Clock
from ehr.errors import Unavailable
from ehr.jobs.queue import Chunk, Progress, Queue
from ehr.jobs.work import Handler, work
from ehr.store import faults

if TYPE_CHECKING:
    from ehr.store.record import Record

T = TypeVar("T")

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
    queue, handlers, patience = Queue(record.database), handlers_of(record), Patience(record.clock)
    standing = await _standing(queue, job_id, sums)
    children: list[multiprocessing.process.BaseProcess] = []
    if processes > 1 and standing.total - standing.done > processes:
        context = multiprocessing.get_context("spawn")
        arguments = (opener, handlers_of, job_id)
        children = [context.Process(target=_child, args=arguments, daemon=True) for _ in range(processes)]
        with _uninterrupted():
            for child in children:
                child.start()
    try:
        while not standing.over:
            if any(child.is_alive() for child in children):
                await asyncio.sleep(_poll_s(standing))
            else:
                turn = partial(work, queue, handlers, record.clock, job_id=job_id, turn_s=_poll_s(standing))
                if not await patience(turn):
                    await asyncio.sleep(POLL_S)
            standing = await patience(lambda: _standing(queue, job_id, sums))
            seen(standing)
    finally:
        for child in children:
            child.terminate()
            child.join()
    return standing


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started within does not hear Ctrl-C: a terminal tells every process, and the command ends the others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
    queue, patience = Queue(record.database), Patience(record.clock)
    handlers = {kind: _collected(handler) for kind, handler in handlers_of(record).items()}
    try:
        while _is_wanted():
            await patience(lambda: work(queue, handlers, record.clock, job_id=job_id))
            if (await patience(lambda: _standing(queue, job_id))).over:
                return
            await asyncio.sleep(POLL_S)
    finally:
        await record.close()


def _is_wanted() -> bool:
    """Whether the command that began this process lives."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


class Patience:
    """Does something again while the database is away. What it held is another's when its lease is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def __call__(self, act: Callable[[], Awaitable[T]]) -> T:
        ends_s = self._clock.monotonic_s() + limits.job_lease_s
        while True:
            try:
                return await act()
            except faults.LOST as error:
                if self._clock.monotonic_s() > ends_s or not _is_wanted():
                    raise Unavailable("the database cannot be reached; what is stored stays stored") from error
                await asyncio.sleep(POLL_S)


def _collected(handler: Handler) -> Handler:
    async def run(chunk: Chunk) -> Mapping[str, Any]:
        result = await handler(chunk)
        gc.collect()
        return result

    return run
