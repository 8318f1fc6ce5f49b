"""The jobs table: claims are exclusive, fenced and leased; failures wait longer each time; jobs end."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from ehr import limits
from ehr.database.engine import Database
from ehr.errors import Invalid, NoRoom
from ehr.jobs import life
from ehr.jobs.queue import Chunk, Queue
from ehr.jobs.work import cause, run_chunk
from tests.conftest import Server


async def test_every_chunk_is_claimed_by_exactly_one_worker(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {"of": "test"}, [{"n": n} for n in range(40)])
    claimed: list[int] = []

    async def worker() -> None:
        while (chunk := await queue.claim(["count"])) is not None:
            claimed.append(chunk.params["n"])
            assert await queue.finish(chunk, {"n": chunk.params["n"]})

    await asyncio.gather(*(worker() for _ in range(8)))
    assert sorted(claimed) == list(range(40))
    progress = await queue.progress(job_id)
    assert progress is not None
    assert (progress.state, progress.done, progress.total) == ("done", 40, 40)
    assert [one["n"] for one in progress.results] == list(range(40))


async def test_only_own_kinds_are_claimed(database: Database) -> None:
    queue = Queue(database)
    await queue.enqueue("count", {}, [{}])
    assert await queue.claim(["export"]) is None
    assert await queue.claim(["export", "count"]) is not None


async def test_a_lease_that_ran_out_is_taken_over_and_the_first_worker_is_fenced_off(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{}])
    first = await queue.claim(["count"], lease_s=0.05)
    assert first is not None
    assert await queue.claim(["count"]) is None
    await asyncio.sleep(0.1)
    second = await queue.claim(["count"])
    assert second is not None
    assert second.attempt == 2
    assert not await queue.finish(first, {"by": "first"})
    assert not await queue.renew(first)
    assert await queue.fail(first, "late") is None
    assert await queue.finish(second, {"by": "second"})
    progress = await queue.progress(job_id)
    assert progress is not None
    assert progress.results == [{"by": "second"}]


async def test_a_failure_waits_and_the_last_one_fails_the_job(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{}, {}])
    for attempt in range(1, limits.job_chunk_attempts_max + 1):
        chunk = await _claim_number(queue, database, job_id, 0)
        assert chunk.attempt == attempt
        state = await queue.fail(chunk, "no disk")
        assert state == ("failed" if attempt == limits.job_chunk_attempts_max else "queued")
    other = await queue.claim(["count"])
    assert other is not None
    await queue.finish(other, {})
    progress = await queue.progress(job_id)
    assert progress is not None
    assert (progress.state, progress.done, progress.failed) == ("failed", 1, 1)
    assert progress.errors == ["no disk"]


async def _claim_number(queue: Queue, database: Database, job_id: str, number: int) -> Chunk:
    """Claim one chunk now, whatever it waits for; the others stay in the future."""
    async with database.acquire() as connection:
        await connection.execute(
            "update job_chunk set due = case when number = $2 then now() else 'infinity' end where job_id = $1",
            job_id,
            number,
        )
    chunk = await queue.claim(["count"])
    assert chunk is not None
    async with database.acquire() as connection:
        await connection.execute("update job_chunk set due = now() where job_id = $1 and number <> $2", job_id, number)
    return chunk


async def test_a_chunk_that_kills_every_worker_is_given_up(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{}])
    for _ in range(limits.job_chunk_attempts_max):
        assert await queue.sweep(["count"], 8) == 1
        assert await queue.claim(["count"], lease_s=0) is not None
    assert await queue.sweep(["count"], 8) == 0
    progress = await queue.progress(job_id)
    assert progress is not None
    assert progress.state == "failed"


async def test_a_full_disk_is_waited_for_and_counts_against_nobody(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{}])

    async def full(_: Chunk) -> dict[str, object]:
        raise NoRoom("no room") from asyncpg.DiskFullError()

    for _ in range(limits.job_chunk_attempts_max + 2):
        await run_chunk(queue, full, await _claim_number(queue, database, job_id, 0))
    assert await queue.claim(["count"]) is None, "it waits longer each time"
    await _claim_number(queue, database, job_id, 0)
    async with database.acquire() as connection:
        await connection.execute("update job_chunk set lease_until = now() - interval '1 second'")
    assert await queue.sweep(["count"], 8) == 1, "a worker that is lost afterwards is the first"
    chunk = await queue.claim(["count"])
    assert chunk is not None
    await queue.finish(chunk, {})
    progress = await queue.progress(job_id)
    assert progress is not None
    assert progress.state == "done"


async def test_a_database_that_is_away_when_a_chunk_ends_is_told_afterwards(
    database: Database, database_url: str, postgres_server: Server
) -> None:
    """What failed with it is tried again when it is back, and not when its lease is over."""
    queue, name = Queue(database), urlsplit(database_url).path[1:]
    job_id = await queue.enqueue("count", {}, [{}, {}])

    async def away() -> None:
        await postgres_server.execute(f"alter database {name} allow_connections false")
        await postgres_server.execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        )

    async def back() -> None:
        await asyncio.sleep(0.3)
        await postgres_server.execute(f"alter database {name} allow_connections true")

    async def fails(_: Chunk) -> dict[str, object]:
        await away()
        await database.pool.fetchval("select 1")
        raise AssertionError("it is away")

    async def ends(_: Chunk) -> dict[str, object]:
        await away()
        return {"n": 1}

    for handler in (fails, ends):
        chunk = await queue.claim(["count"])
        assert chunk is not None
        async with asyncio.TaskGroup() as both:
            both.create_task(run_chunk(queue, handler, chunk))
            both.create_task(back())
    progress = await queue.progress(job_id)
    assert progress is not None
    assert (progress.state, progress.done) == ("running", 1)
    async with database.acquire() as connection:
        assert await connection.fetchval("select error from job_chunk where state = 'queued'"), "its cause is kept"


async def test_what_never_finds_room_ends_too(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{}])
    async with database.acquire() as connection:
        await connection.execute("update job_chunk set attempts = $1, waits = $1", limits.job_chunk_waits_max - 1)
    chunk = await _claim_number(queue, database, job_id, 0)
    assert await queue.fail(chunk, "no room", no_room=True) == "failed"
    assert await queue.claim(["count"]) is None


async def test_cancelled_work_is_not_claimed(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{}, {}])
    await queue.cancel(job_id)
    assert await queue.claim(["count"]) is None
    progress = await queue.progress(job_id)
    assert progress is not None
    assert (progress.state, progress.over) == ("cancelled", True)


async def test_a_refusal_is_not_tried_again_and_keeps_no_foreign_text(database: Database) -> None:
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{}])
    chunk = await queue.claim(["count"])
    assert chunk is not None

    async def refuse(_: Chunk) -> dict[str, object]:
        raise Invalid("the file has no lines")

    await run_chunk(queue, refuse, chunk)
    progress = await queue.progress(job_id)
    assert progress is not None
    assert progress.errors == ["Invalid: the file has no lines"]
    assert "Nguyễn" not in cause(ValueError("could not read Nguyễn Văn An"))


async def test_who_is_cancelled_while_a_chunk_ends_hears_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Ctrl-C: it had been taken for the end of the lease's keeper."""
    queue, finish = Queue(database), Queue.finish
    job_id = await queue.enqueue("count", {}, [{}])
    chunk = await queue.claim(["count"])
    assert chunk is not None

    async def act(_: Chunk) -> dict[str, object]:
        return {}

    async def then_cancelled(queue: Queue, chunk: Chunk, result: dict[str, object]) -> bool:
        kept = await finish(queue, chunk, result)
        asyncio.get_running_loop().call_soon(task.cancel)
        return kept

    monkeypatch.setattr(Queue, "finish", then_cancelled)
    task = asyncio.create_task(run_chunk(queue, act, chunk))
    with pytest.raises(asyncio.CancelledError):
        await task
    progress = await queue.progress(job_id)
    assert progress is not None
    assert progress.state == "done"


async def test_what_no_worker_can_do_wakes_none(database: Database) -> None:
    queue = Queue(database)
    await queue.enqueue("of a command", {}, [{}])
    assert await queue.sweep(["count"], 8) == 0
    assert await queue.sweep(["of a command"], 8) == 1


async def test_a_job_that_nobody_works_on_is_cancelled_and_can_be_resumed(database: Database) -> None:
    queue = Queue(database)
    left, held, other = [await queue.enqueue(kind, {}, [{}, {}]) for kind in ("here", "here", "count")]
    await queue.claim(["here"], job_id=left, lease_s=0.01)
    await queue.claim(["here"], job_id=held, lease_s=60)
    await asyncio.sleep(0.1)
    await life.abandon(queue, ["here"], 60)
    assert [await _state(queue, one) for one in (left, held, other)] == ["running", "running", "queued"]
    await life.abandon(queue, ["here"], 0.05)
    assert [await _state(queue, one) for one in (left, held, other)] == ["cancelled", "running", "queued"]
    await queue.resume(left)
    assert await queue.claim(["here"], job_id=left) is not None


async def test_jobs_that_ended_long_ago_are_forgotten(database: Database) -> None:
    queue = Queue(database)
    ended = [await queue.enqueue("count", {}, [{}]) for _ in range(life.FORGOTTEN_COUNT + 1)]
    standing, other = await queue.enqueue("count", {}, [{}]), await queue.enqueue("index", {}, [{}])
    for job_id in (*ended, other):
        await queue.cancel(job_id)
    assert await life.forget(queue, ["count"], 60) == 0
    assert await life.forget(queue, ["count"], 0) == len(ended)
    assert await queue.progress(ended[0]) is None
    assert await queue.progress(standing) is not None
    assert await queue.progress(other) is not None
    assert await database.pool.fetchval("select count(*) from job_chunk") == 2


async def _state(queue: Queue, job_id: str) -> str:
    progress = await queue.progress(job_id)
    assert progress is not None
    return progress.state
