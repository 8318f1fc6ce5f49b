"""The broker forgets everything in the middle of the work, and a worker is killed: all work still finishes, once."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import redis.asyncio

from ehr.database.engine import Database
from ehr.jobs.broker import EmbeddedBroker
from ehr.jobs.celery_app import make_celery, wake
from ehr.jobs.queue import Progress, Queue

CHUNKS = 24


@pytest.fixture
async def broker_url(data_dir: Path) -> AsyncIterator[str]:
    broker = EmbeddedBroker(data_dir)
    yield await broker.start()
    await broker.stop()


async def _until_done(queue: Queue, job_id: str, least: int) -> Progress:
    for _ in range(600):
        progress = await queue.progress(job_id)
        assert progress is not None
        if progress.done >= least:
            return progress
        await asyncio.sleep(0.1)
    raise AssertionError("work is left after a minute")


async def test_all_work_finishes_without_the_broker_s_memory(
    database: Database, database_url: str, broker_url: str
) -> None:
    async with database.acquire() as connection:
        await connection.execute("create table counted (number integer)")
    queue = Queue(database)
    job_id = await queue.enqueue("count", {}, [{"pause_s": 0.25} for _ in range(CHUNKS)])
    command = [sys.executable, "-m", "tests.jobs.root_for_tests", broker_url]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TEST_DATABASE_URL": database_url}
    worker = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True)
    try:
        await wake(make_celery(broker_url), CHUNKS)
        before = await _until_done(queue, job_id, 3)
        assert before.done < CHUNKS, "the broker is emptied in the middle of the work"
        async with redis.asyncio.Redis(unix_socket_path=broker_url.removeprefix("redis+socket://")) as client:
            await client.flushall()
        hands = [child for child in psutil.Process(worker.pid).children() if child.is_running()]
        hands[-1].kill()
        after = await _until_done(queue, job_id, CHUNKS)
        assert (after.state, after.failed) == ("done", 0)
        async with database.acquire() as connection:
            numbers = await connection.fetch("select distinct number from counted order by number")
        assert [row["number"] for row in numbers] == list(range(CHUNKS))
    finally:
        worker.send_signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait, 30)
