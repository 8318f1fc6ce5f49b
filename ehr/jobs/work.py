"""Claimed chunks → the handler of their kind, with the lease kept while it works.

Errors:  an EhrError's text is safe to keep; of anything else only its class and where it was raised are kept.
         Refused means that trying again will not help; everything else is tried again, where the database has no
         room until it has
Away:    a database that is away when a chunk ends is told when it is back, for as long as nobody else takes the chunk
Why:     any exception is caught here: this is the worker's edge, and an uncaught one would only lose its cause
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
import structlog

from ehr import limits
from ehr.clock import Clock
from ehr.errors import EhrError, Refused
from ehr.jobs.queue import Chunk, Queue

AWAY: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Why the queue cannot be told."""
TELL_AGAIN_S: Final = 1.0

T = TypeVar("T")
Handler = Callable[[Chunk], Awaitable[Mapping[str, Any]]]

TURN_S: Final = 5.0
"""A worker goes on claiming for so long, then lets other tasks have their turn."""

log = structlog.get_logger()


async def work(
    queue: Queue,
    handlers: Mapping[str, Handler],
    clock: Clock,
    *,
    job_id: str | None = None,
    turn_s: float = TURN_S,
    lease_s: float = limits.job_lease_s,
) -> bool:
    """Run chunks (of one job, where it is named) until none is due (False) or the turn is over (True: maybe more)."""
    ends_s = clock.monotonic_s() + turn_s
    while clock.monotonic_s() < ends_s:
        chunk = await queue.claim(list(handlers), job_id=job_id, lease_s=lease_s)
        if chunk is None:
            return False
        await run_chunk(queue, handlers[chunk.kind], chunk, lease_s=lease_s)
    return True


async def run_chunk(queue: Queue, handler: Handler, chunk: Chunk, *, lease_s: float = limits.job_lease_s) -> None:
    """One claimed chunk to its end, whatever that is."""
    keeping = asyncio.create_task(_keep_lease(queue, chunk, lease_s, asyncio.current_task()))
    named = {"job_id": chunk.job_id, "chunk": chunk.number, "kind": chunk.kind}
    try:
        result = await handler(chunk)
    except asyncio.CancelledError:
        if not keeping.done():
            raise
        log.warning("chunk lost its lease", **named)
    except Exception as error:
        keeping.cancel()
        again, no_room = not isinstance(error, Refused), _has_no_room(error)
        state = await _told(partial(queue.fail, chunk, cause(error), again=again, no_room=no_room), lease_s)
        log.warning("chunk failed", **named, state=state, exc_info=True)
    else:
        keeping.cancel()
        await _told(partial(queue.finish, chunk, result), lease_s)
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})  # an await of itself could not tell its end from our own
        if not keeping.cancelled():
            keeping.result()


async def _told(tell: Callable[[], Awaitable[T]], lease_s: float) -> T:
    """Tell the queue what became of a chunk. Told twice, because an answer was lost, it changes nothing more."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + lease_s
    while True:
        try:
            return await tell()
        except AWAY:
            if loop.time() > ends_s:
                raise
        await asyncio.sleep(TELL_AGAIN_S)


async def _keep_lease(queue: Queue, chunk: Chunk, lease_s: float, worker: "asyncio.Task[Any] | None") -> None:
    """Renew until cancelled; when the claim is lost, stop the worker: its result would not count."""
    while True:
        await asyncio.sleep(lease_s / 3)
        try:
            kept = await queue.renew(chunk, lease_s=lease_s)
        except AWAY:  # the work will meet it too, or be done when it is back
            continue
        if not kept:
            assert worker is not None, "a chunk is run by a task"
            worker.cancel()
            return


def _has_no_room(error: Exception) -> bool:
    """The disk of the database, not that of our files: an export that fills that itself must not do so all day."""
    return isinstance(error, asyncpg.DiskFullError) or isinstance(error.__cause__, asyncpg.DiskFullError)


def cause(error: Exception) -> str:
    """What may be kept of an error: never the text of a library's exception, which may quote data."""
    if isinstance(error, EhrError):
        return f"{type(error).__name__}: {error}"
    reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-4:]]
    return f"{type(error).__name__}{reason} at {' > '.join(places)}"
