"""Work that must get done → rows of job and job_chunk, claimed by one worker at a time. The queue is here.

States   job     queued → running → done | failed | cancelled; any → cancelled when it is withdrawn
         chunk   queued → running → done | failed | cancelled
Claim    FOR UPDATE SKIP LOCKED, with a lease: a worker that neither finishes nor renews within it is taken for dead.
Fence    a claim is known by its attempt number; one that was taken over can no longer finish, fail or renew
Retry    each failure waits twice as long; after job_chunk_attempts_max the chunk is failed with its cause. A full disk
         is no fault of the chunk: it is waited for, job_chunk_waits_max times
Life     a job is known for a time after its end (ehr.jobs.life)
Why      a broker may lose a message, a worker may die: the row stays, so both cost time and never work
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ehr import limits
from ehr.database.connection import Connection
from ehr.ids import new_id

if TYPE_CHECKING:
    from ehr.database.engine import Database
    from ehr.database.hand import Loan

BACKOFF_FIRST_S: Final = 2.0
BACKOFF_MAX_S: Final = 600.0
ERROR_CHARS_MAX: Final = 2_000

_ADD_JOB: Final = "insert into job (id, kind, params, owner) values ($1, $2, $3, $4)"
_ADD_CHUNKS: Final = """
insert into job_chunk (job_id, number, params)
select $1, n, p from unnest($2::integer[], $3::jsonb[]) as given (n, p)
"""
_ADD_LATER: Final = """
insert into job_chunk (job_id, number, params)
select $1, (select max(number) from job_chunk where job_id = $1) + n, p
from unnest($2::jsonb[]) with ordinality as given (p, n)
"""
# The open ones have an index; of those that ended all are read, so only when there is no other.
_ARE_DONE: Final = """
select case when exists (select 1 from job_chunk where job_id = $1 and state in ('queued', 'running')) then false
    else not exists (select 1 from job_chunk where job_id = $1 and state <> 'done') end
"""
_CHUNKS_WITH: Final = """
select number, params from job_chunk where job_id = $1 and params ? $2 order by number
"""
_ADD_BYTES: Final = "update job set params = params || jsonb_build_object('bytes', $2::bigint) where id = $1"
# A chunk of a cancelled job is never claimed; of two claimable ones the older job's comes first.
_CLAIM: Final = """
with next as (
    select c.job_id, c.number from job_chunk c join job j on j.id = c.job_id
    where j.kind = any($1::text[]) and j.state in ('queued', 'running') and ($2::text is null or c.job_id = $2)
      and (c.state = 'queued' and c.due <= now() or c.state = 'running' and c.lease_until < now())
    order by c.due, c.job_id, c.number limit 1 for update of c skip locked
)
update job_chunk c set state = 'running', attempts = c.attempts + 1, lease_until = now() + $3 * interval '1 second'
from next, job j where c.job_id = next.job_id and c.number = next.number and j.id = c.job_id
returning c.job_id, c.number, j.kind, j.owner, j.params as job_params, c.params, c.attempts
"""
_START_JOB: Final = "update job set state = 'running' where id = $1 and state = 'queued'"
_RENEW: Final = """
update job_chunk set lease_until = now() + $4 * interval '1 second'
where job_id = $1 and number = $2 and attempts = $3 and state = 'running' returning 1
"""
_LOCK_JOB: Final = "select 1 from job where id = $1 for update"
_FINISH: Final = """
update job_chunk set state = 'done', result = $4, lease_until = null, error = null
where job_id = $1 and number = $2 and attempts = $3 and state = 'running' returning 1
"""
_FAIL: Final = """
update job_chunk set lease_until = null, error = $4, waits = waits + $9::boolean::int,
    state = case when $9 and waits + 1 < $10 or $8 and not $9 and attempts - waits < $5 then 'queued' else 'failed' end,
    due = now() + least($6 * 2 ^ (attempts - 1), $7) * interval '1 second'
where job_id = $1 and number = $2 and attempts = $3 and state = 'running' returning state
"""
_CLOSE_JOB: Final = """
update job set finished = now(),
    state = case when exists (select 1 from job_chunk where job_id = $1 and state = 'failed')
            then 'failed' else 'done' end
where id = $1 and state in ('queued', 'running')
  and not exists (select 1 from job_chunk where job_id = $1 and state in ('queued', 'running'))
returning state
"""
_GIVE_UP: Final = """
update job_chunk set state = 'failed', error = coalesce(error, 'the worker was lost, every time'), lease_until = null
where state = 'running' and lease_until < now() and attempts - waits >= $1 returning job_id
"""
_CLAIMABLE: Final = """
select count(*) from (
    select 1 from job_chunk c join job j on j.id = c.job_id
    where j.kind = any($1::text[]) and j.state in ('queued', 'running')
      and (c.state = 'queued' and c.due <= now() or c.state = 'running' and c.lease_until < now()) limit $2
) as found
"""
_CANCEL: Final = """
with ended as (
    update job set state = 'cancelled', finished = now() where id = $1 and state in ('queued', 'running') returning id
)
update job_chunk set state = 'cancelled', lease_until = null
where job_id in (select id from ended) and state in ('queued', 'running') returning 1
"""
_WITHDRAW: Final = "update job set state = 'cancelled' where id = $1"
_OPEN_OF: Final = "select count(*) from job where kind = $1 and owner = $2 and state in ('queued', 'running')"
_OUTLIVED: Final = """
select n.id from unnest($1::text[], $2::timestamptz[]) as n (id, touched) left join job j on j.id = n.id
where j.state = 'cancelled' or case when j.id is null then n.touched else j.finished end
    <= now() - $3 * interval '1 second'
"""
_NEWEST: Final = """
select id, state from job where kind = $1 and params ->> 'key' = $2 order by id desc limit 1
"""
_RESUME: Final = """
update job_chunk set state = 'queued', due = now(), lease_until = null,
    attempts = case when state = 'failed' then 0 else attempts end,
    waits = case when state = 'failed' then 0 else waits end
where job_id = $1 and state in ('running', 'failed', 'cancelled')
"""
_REOPEN: Final = "update job set state = 'running', finished = null where id = $1 and state in ('failed', 'cancelled')"
_DONE: Final = "select id from job where id = any($1::text[]) and state = 'done'"
_SUMS: Final = """
select n.name, coalesce(sum((c.result ->> n.name)::bigint), 0)::bigint as sum
from unnest($2::text[]) as n (name), job_chunk c where c.job_id = $1 and c.result is not null group by n.name
"""
_PROGRESS: Final = """
select j.id, j.kind, j.state, j.params, j.owner, j.finished,
       count(c.number) as total,
       count(*) filter (where c.state = 'done') as done,
       count(*) filter (where c.state = 'failed') as failed,
       array_agg(c.result order by c.number)
           filter (where c.result is not null and j.state in ('done', 'failed', 'cancelled')) as results,
       array_agg(c.error order by c.number) filter (where c.state = 'failed') as errors
from job j left join job_chunk c on c.job_id = j.id where j.id = $1 group by j.id
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One claimed unit of work; attempt is the fence."""

    job_id: str
    number: int
    kind: str
    owner: str
    job_params: Mapping[str, Any]
    params: Mapping[str, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    results  of its chunks, when it is over: of a city's import they are many
    sums     of the numbers in them that were asked for
    """

    id: str
    kind: str
    state: str
    params: Mapping[str, Any]
    total: int
    done: int
    failed: int
    results: Sequence[Mapping[str, Any]]
    errors: Sequence[str]
    owner: str
    finished: datetime | None
    sums: Mapping[str, int]

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


async def add(
    connection: Connection,
    kind: str,
    params: Mapping[str, Any],
    chunks: Sequence[Mapping[str, Any]],
    *,
    owner: str,
    job_id: str | None = None,
) -> str:
    """Enqueue inside the caller's transaction; returns the job's id, which is new where none is given."""
    assert chunks, "a job without chunks would never end"
    job_id = job_id or new_id()
    await connection.execute(_ADD_JOB, job_id, kind, json.dumps(params), owner)
    await connection.execute(_ADD_CHUNKS, job_id, list(range(len(chunks))), [json.dumps(one) for one in chunks])
    return job_id


async def finish(
    connection: Connection,
    chunk: Chunk,
    result: Mapping[str, Any],
    *,
    then: Sequence[Mapping[str, Any]] = (),
    when_all_are: bool = False,
) -> bool:
    """Record the result inside the caller's transaction; False when the claim was lost, and another's result counts.

    then          the parameters of chunks that come after this one
    when_all_are  they come after every chunk there is: only the one that is done last adds them
    """
    await connection.execute(_LOCK_JOB, chunk.job_id)
    args = (chunk.job_id, chunk.number, chunk.attempt, json.dumps(result))
    finished = await connection.fetchval(_FINISH, *args)
    if finished and then and (not when_all_are or await connection.fetchval(_ARE_DONE, chunk.job_id)):
        await connection.execute(_ADD_LATER, chunk.job_id, [json.dumps(one) for one in then])
    await connection.execute(_CLOSE_JOB, chunk.job_id)
    return finished is not None


class Queue:
    """The queue of one database."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    def connection(self) -> "Loan":
        """One to the queue's database, for what is told of a job."""
        return self._database.acquire()

    async def enqueue(
        self,
        kind: str,
        params: Mapping[str, Any],
        chunks: Sequence[Mapping[str, Any]],
        *,
        owner: str = "system",
        job_id: str | None = None,
    ) -> str:
        async with self._database.acquire() as connection, connection.transaction():
            return await add(connection, kind, params, chunks, owner=owner, job_id=job_id)

    async def claim(
        self, kinds: Sequence[str], *, job_id: str | None = None, lease_s: float = limits.job_lease_s
    ) -> Chunk | None:
        """The next chunk that is due, or None."""
        async with self._database.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_CLAIM, list(kinds), job_id, lease_s)
            if row is None:
                return None
            await connection.execute(_START_JOB, row["job_id"])
        return Chunk(
            row["job_id"],
            row["number"],
            row["kind"],
            row["owner"],
            json.loads(row["job_params"]),
            json.loads(row["params"]),
            row["attempts"],
        )

    async def renew(self, chunk: Chunk, *, lease_s: float = limits.job_lease_s) -> bool:
        """Keep the claim; False when it was lost, and the worker must stop."""
        async with self._database.acquire() as connection:
            kept = await connection.fetchval(_RENEW, chunk.job_id, chunk.number, chunk.attempt, lease_s)
        return kept is not None

    async def finish(
        self,
        chunk: Chunk,
        result: Mapping[str, Any],
        *,
        then: Sequence[Mapping[str, Any]] = (),
        when_all_are: bool = False,
        bytes_total: int | None = None,
    ) -> bool:
        """Record the result; False when the claim was lost, and another worker's result counts.

        bytes_total  of the job, where this chunk has found it out
        """
        async with self._database.acquire() as connection, connection.transaction():
            finished = await finish(connection, chunk, result, then=then, when_all_are=when_all_are)
            if finished and bytes_total is not None:
                await connection.execute(_ADD_BYTES, chunk.job_id, bytes_total)
        return finished

    async def chunks_with(self, job_id: str, name: str) -> list[tuple[int, Mapping[str, Any]]]:
        """(number, parameters) of the chunks of a job that have such a parameter."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_CHUNKS_WITH, job_id, name)
        return [(row["number"], json.loads(row["params"])) for row in rows]

    async def fail(self, chunk: Chunk, error: str, *, again: bool = True, no_room: bool = False) -> str | None:
        """Put it back to wait, or fail it for good; the chunk's new state, None when the claim was lost.

        no_room  the disk was full: it is no fault of the chunk
        """
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK_JOB, chunk.job_id)
            state: str | None = await connection.fetchval(
                _FAIL,
                chunk.job_id,
                chunk.number,
                chunk.attempt,
                error[:ERROR_CHARS_MAX],
                limits.job_chunk_attempts_max,
                BACKOFF_FIRST_S,
                BACKOFF_MAX_S,
                again,
                no_room,
                limits.job_chunk_waits_max,
            )
            await connection.execute(_CLOSE_JOB, chunk.job_id)
        return state

    async def cancel(self, job_id: str) -> None:
        async with self._database.acquire() as connection:
            await connection.execute(_CANCEL, job_id)

    async def withdraw(self, job_id: str) -> None:
        """Cancel what is open, and take back what is done: the job counts as cancelled, whatever it was."""
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(_CANCEL, job_id)
            await connection.execute(_WITHDRAW, job_id)

    async def open_of(self, kind: str, owner: str) -> int:
        """How many jobs of an owner are not over."""
        async with self._database.acquire() as connection:
            count: int = await connection.fetchval(_OPEN_OF, kind, owner)
        return count

    async def outlived(self, touched: Mapping[str, datetime], life_s: float) -> frozenset[str]:
        """The ids of jobs that were cancelled or ended so long ago, and of none that were last touched so long ago."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_OUTLIVED, list(touched), list(touched.values()), life_s)
        return frozenset(row["id"] for row in rows)

    async def done(self, job_ids: Sequence[str]) -> frozenset[str]:
        """Of these jobs those that are done."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_DONE, list(job_ids))
        return frozenset(row["id"] for row in rows)

    async def newest(self, kind: str, key: str) -> tuple[str, str] | None:
        """(id, state) of the newest job that was given this key in its parameters."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow(_NEWEST, kind, key)
        return (row["id"], row["state"]) if row is not None else None

    async def resume(self, job_id: str) -> None:
        """Let what was failed, cancelled or left by a lost worker be claimed at once; what is done stays done.

        A worker that lives after all loses its claim, and with it the right to finish.
        """
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK_JOB, job_id)
            await connection.execute(_RESUME, job_id)
            await connection.execute(_REOPEN, job_id)

    async def sweep(self, kinds: Sequence[str], count_max: int) -> int:
        """Give up chunks that killed every worker; how many of these kinds (up to count_max) wait for a worker now."""
        async with self._database.acquire() as connection, connection.transaction():
            lost = await connection.fetch(_GIVE_UP, limits.job_chunk_attempts_max)
            for job_id in {row["job_id"] for row in lost}:
                await connection.execute(_LOCK_JOB, job_id)
                await connection.execute(_CLOSE_JOB, job_id)
            waiting: int = await connection.fetchval(_CLAIMABLE, list(kinds), count_max)
        return waiting

    async def progress(self, job_id: str, sums: Sequence[str] = ()) -> Progress | None:
        """sums: numbers of the chunks' results that are wanted summed up, at any time."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow(_PROGRESS, job_id)
            found = await connection.fetch(_SUMS, job_id, list(sums)) if sums else []
        if row is None:
            return None
        results = [json.loads(one) for one in row["results"] or ()]
        params = json.loads(row["params"])
        counts = (row["total"], row["done"], row["failed"])
        return Progress(
            row["id"],
            row["kind"],
            row["state"],
            params,
            *counts,
            results,
            row["errors"] or (),
            row["owner"],
            row["finished"],
            dict.fromkeys(sums, 0) | {one["name"]: one["sum"] for one in found},
        )
