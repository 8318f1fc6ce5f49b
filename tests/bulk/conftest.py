"""An import in a process of its own that is killed."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from ehr.bulk import job
from ehr.bulk.ingest import CITY
from ehr.bulk.order import Order
from ehr.jobs.queue import Queue
from ehr.settings import Settings
from ehr.store.record import Record

Killed = Callable[..., Awaitable[str]]

CHILD = """
import asyncio, json, sys
from functools import partial
from pathlib import Path
from ehr.bulk import job
from ehr.bulk.order import Order
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings

async def main(path, order, part_bytes, data_dir, url):
    settings = Settings(data_dir=Path(data_dir), pool_connections_max=2)
    record = await open_record(settings, url)
    queue = Queue(record.database)
    home = Path(data_dir) / job.IMPORTS
    job_id = await job.plan(queue, [Path(path)], home, Order(**json.loads(order)), part_bytes=int(part_bytes))
    print("planned", flush=True)
    await job.run_here(record, queue, job_id, partial(open_record, settings, url), processes=1, seen=lambda _: None)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def killed(record: Record, settings: Settings) -> Killed:
    """Import a file, and kill -9 so many seconds after it was planned; the job's id, ready to go on or done."""

    async def run(path: Path, order: Order = CITY, *, part_bytes: int, after_s: float) -> str:
        told = orjson.dumps(asdict(order)).decode()
        arguments = [str(path), told, str(part_bytes), str(settings.data_dir), record.database.url]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        assert await child.stdout.readline() == b"planned\n"
        await asyncio.sleep(after_s)
        if child.returncode is None:
            child.send_signal(signal.SIGKILL)
        await child.wait()
        queue = Queue(record.database)
        await job.resume(queue, [path], order)
        found = await queue.newest(job.KIND, job.key_of([path], order))
        assert found is not None
        return found[0]

    return run
