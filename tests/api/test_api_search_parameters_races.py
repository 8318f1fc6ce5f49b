"""Search parameters added while others write, wait and die: nothing is missed, and nothing is served too early."""

import asyncio
import subprocess
import sys
from typing import Any

import httpx

from ehr.access.policy import Caller
from ehr.database.engine import Database
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from tests.api.conftest import City
from tests.api.declared import finish, found, parameter, patient, put


async def test_no_write_of_any_process_escapes_the_backfill(
    city: City, client: httpx.AsyncClient, hands: Record, settings: Settings, database_url: str
) -> None:
    """Writers in two processes, one of which nobody has told, while a third makes the index ready."""
    stranger = await open_record(settings, database_url)
    stop, numbers, groups = asyncio.Event(), iter(range(1_000_000)), ("A+", "B+")
    expected: dict[str, str] = {}

    async def write_here() -> None:
        while not stop.is_set():
            number = next(numbers)
            await put(client, patient(number, groups[number % 2]))
            expected[f"p{number}"] = groups[number % 2]

    async def write_there() -> None:
        while not stop.is_set():
            number = next(numbers)
            tree = patient(number, groups[number % 2])

            async def act(uow: UnitOfWork, tree: dict[str, Any] = tree) -> None:
                await uow.resources.update("Patient", tree["id"], None, tree)

            await stranger.write(Caller.system("test"), act)
            expected[f"p{number}"] = groups[number % 2]

    writers = [asyncio.create_task(write()) for write in (write_here, write_there, write_there)]
    await asyncio.sleep(0.5)
    before = stranger.extractor.version
    await put(client, parameter())
    for _ in range(100):
        await finish(hands)
        if (await client.get("/Patient?blood-group=A&_count=1")).status_code == 200:
            break
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*writers)
    await finish(hands)
    assert stranger.extractor.version == before + 1
    await stranger.close()
    for group in groups:
        wanted = sorted(id for id, its in expected.items() if its == group)
        assert len(wanted) > 5
        assert sorted(await found(client, f"blood-group={group[0]}&_count=500")) == wanted


async def test_it_waits_for_who_wrote_before_it_was_declared(
    city: City, client: httpx.AsyncClient, hands: Record, settings: Settings, database_url: str
) -> None:
    slow = await open_record(settings, database_url)
    written, go_on = asyncio.Event(), asyncio.Event()

    async def act(uow: UnitOfWork) -> None:
        await uow.resources.update("Patient", "slow", None, {"resourceType": "Patient", **_without_id(patient(1))})
        written.set()
        await go_on.wait()

    writing = asyncio.create_task(slow.write(Caller.system("test"), act))
    await written.wait()
    await put(client, parameter())
    filling = asyncio.create_task(finish(hands))
    await asyncio.sleep(0.3)
    assert not filling.done()
    assert (await client.get("/Patient?blood-group=A")).status_code == 400
    go_on.set()
    await asyncio.gather(writing, filling)
    assert await found(client, "blood-group=A") == ["slow"]
    await slow.close()


def _without_id(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != "id"}


WORKER = """
import asyncio, sys
from pathlib import Path
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.record import open_record
from ehr.settings import Settings
from ehr.worker import handlers_of

async def main():
    record = await open_record(Settings(data_dir=Path(sys.argv[2])), sys.argv[1])
    while True:
        await work(Queue(record.database), handlers_of(record), record.clock, lease_s=1.0)
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


async def test_a_worker_killed_between_pages_costs_time_and_nothing_else(
    city: City, client: httpx.AsyncClient, hands: Record, settings: Settings, database_url: str, database: Database
) -> None:
    entries = [
        {"resource": patient(number), "request": {"method": "PUT", "url": f"Patient/p{number}"}}
        for number in range(520)
    ]
    loaded = await client.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert loaded.status_code == 200
    async with database.acquire() as holding, database.acquire() as looking:
        await holding.execute("begin")
        await holding.execute("select 1 from resource where id = 'p519' for update")  # on the second page
        await put(client, parameter())
        command = [sys.executable, "-c", WORKER, database_url, str(settings.data_dir)]
        worker = await asyncio.to_thread(subprocess.Popen, command)
        for _ in range(400):
            if await looking.fetchval("select count(*) from string_index where param_id >= 1000000"):
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        worker.kill()
        await asyncio.to_thread(worker.wait)
        await holding.execute("rollback")
    assert (await client.get("/Patient?blood-group=A")).status_code == 400
    for _ in range(100):
        await finish(hands)
        if (await client.get("/Patient?blood-group=A")).status_code == 200:
            break
        await asyncio.sleep(0.1)
    assert len(await found(client, "blood-group=A&_count=500")) == 520
