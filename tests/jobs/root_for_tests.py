"""A worker process for tests: its one kind of work adds a row, slowly."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

from ehr.clock import SystemClock
from ehr.database.engine import Database
from ehr.jobs.celery_app import add_clock, make_worker, run_worker
from ehr.jobs.queue import Chunk, Queue
from ehr.jobs.work import work


class CountingHands:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue = Queue(database)

    async def work(self) -> bool:
        return await work(self._queue, {"count": self._count}, SystemClock(), turn_s=1.0, lease_s=3.0)

    async def _count(self, chunk: Chunk) -> Mapping[str, Any]:
        await asyncio.sleep(chunk.params["pause_s"])
        async with self._database.acquire() as connection:
            await connection.execute("insert into counted (number) values ($1)", chunk.number)
        return {"pid": os.getpid()}

    async def sweep(self, count_max: int) -> int:
        return await self._queue.sweep(["add"], count_max)

    async def drain(self, topic: str) -> None:
        raise AssertionError(f"no topic {topic} here")

    async def recover(self) -> None: ...

    async def clean(self) -> None: ...

    async def collect(self) -> None: ...

    async def sync(self) -> None: ...

    async def close(self) -> None:
        await self._database.close()


async def open_hands() -> CountingHands:
    return CountingHands(await Database.open(os.environ["TEST_DATABASE_URL"], connections_max=3))


if __name__ == "__main__":
    celery = make_worker(sys.argv[1], open_hands)
    add_clock(celery, [])
    run_worker(celery, hands=2, clock=True)
