"""How long a job is known: the end of those that nobody goes on with, and of what is known of any.

In:      kinds of jobs, each asked for by the room that makes them
Why:     a command's job is worked on by that command only: killed, it would be counted as waiting for ever
"""

from collections.abc import Sequence
from typing import Final

from ehr.jobs.queue import Queue

FORGOTTEN_COUNT: Final = 100
"""Jobs deleted by one statement, with their chunks."""

_ABANDONED: Final = """
select j.id from job j where j.kind = any($1::text[]) and j.state in ('queued', 'running')
  and j.created <= now() - $2 * interval '1 second' and not exists (
    select 1 from job_chunk c where c.job_id = j.id and c.state in ('queued', 'running')
      and greatest(c.due, c.lease_until) > now() - $2 * interval '1 second')
"""
_FORGET: Final = """
delete from job where id in (
    select id from job where kind = any($1::text[]) and finished <= now() - $2 * interval '1 second' limit $3)
"""


async def abandon(queue: Queue, kinds: Sequence[str], idle_s: float) -> None:
    """Cancel the jobs that nobody has worked on for so long; they can be resumed all the same."""
    async with queue.connection() as connection:
        left = await connection.fetch(_ABANDONED, list(kinds), idle_s)
    for row in left:
        await queue.cancel(row["id"])


async def forget(queue: Queue, kinds: Sequence[str], life_s: float) -> int:
    """Delete the jobs that ended so long ago, with their chunks; how many."""
    count, more = 0, True
    while more:
        async with queue.connection() as connection:
            done = await connection.execute(_FORGET, list(kinds), life_s, FORGOTTEN_COUNT)
        gone = int(done.removeprefix("DELETE "))
        count, more = count + gone, gone == FORGOTTEN_COUNT
    return count
