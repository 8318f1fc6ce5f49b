"""Promises C87, C90 and C06: asked to end under load, started without a broker, left by its database.

What was begun is answered; what was written is kept; what could not be written is refused with "try again", and
never with a fault of ours.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from adapters.mllp.client import MllpClient, NotAnswered
from ehr.database.embedded import EmbeddedPostgres
from ehr.record import open_record
from ehr.serve import running
from ehr.settings import Settings
from tests.faults.serving import Serving
from tests.mllp.conftest import FACILITY, register
from tests.mllp.mothers import admission, code_of

WRITES = 6
HELD_S = 0.7
"""How long the writes hang after SIGTERM: well within the 2 s that the listener gives to messages in hand."""
WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'date_index'::regclass AND NOT granted"


@asynccontextmanager
async def database(data_dir: Path) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the test's own, beside the process that serves."""
    beside = EmbeddedPostgres(data_dir)
    url = await beside.start()
    assert not beside.owned, "the serving process runs the database"
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
        await beside.stop()


async def registered(data_dir: Path) -> None:
    beside = EmbeddedPostgres(data_dir)
    record = await open_record(Settings(data_dir=data_dir, pool_connections_max=2), await beside.start())
    try:
        await register(record, FACILITY)
    finally:
        await record.close()
        await beside.stop()


def patient(id: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, "name": [{"family": "Nguyễn"}]}


async def put(http: httpx.AsyncClient, base: str, id: str) -> int:
    return (await http.put(f"{base}/Patient/{id}", json=patient(id))).status_code


class Slow:
    """A request whose body comes in two halves."""

    def __init__(self, id: str) -> None:
        self._body = orjson.dumps(patient(id))
        self._half = len(self._body) // 2
        self._id = id

    async def begin(self, base: str) -> None:
        host, port = base.removeprefix("http://").removesuffix("/fhir").split(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        head = (
            f"PUT /fhir/Patient/{self._id} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/fhir+json\r\n"
        )
        self._writer.write(f"{head}Content-Length: {len(self._body)}\r\n\r\n".encode() + self._body[: self._half])
        await self._writer.drain()

    async def finish(self) -> int:
        self._writer.write(self._body[self._half :])
        await self._writer.drain()
        line = await self._reader.readline()
        self._writer.close()
        await self._writer.wait_closed()
        return int(line.split()[1])


async def until(connection: "asyncpg.Connection[asyncpg.Record]", sql: str, number: int) -> None:
    """Ask until the database gives this number, a minute at most."""
    found = None
    for _ in range(600):
        found = await connection.fetchval(sql)
        if found == number:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{sql}: {found}, not {number}")


async def begun_requests_are_answered(serving: Serving, http: httpx.AsyncClient) -> None:
    """SIGTERM while writes, an HL7 message and half an upload are in hand."""
    slow, hl7 = Slow("slow"), MllpClient("127.0.0.1", serving.mllp_port)
    async with database(serving.data_dir) as connection, asyncio.TaskGroup() as begun:
        hold = connection.transaction()
        await hold.start()
        await connection.execute("LOCK TABLE date_index IN EXCLUSIVE MODE")
        writes = [begun.create_task(put(http, serving.base, f"w{n}")) for n in range(WRITES)]
        message = begun.create_task(hl7.send(admission("TERM1")))
        await slow.begin(serving.base)
        await until(connection, WAITING, WRITES + 1)
        serving.ask_to_end()
        await asyncio.sleep(HELD_S)
        uploaded = begun.create_task(slow.finish())
        await hold.rollback()
        assert [await one for one in writes] == [201] * WRITES
        assert await uploaded == 201
        assert code_of(await message) == "AA"
        assert hl7.resent == 0
        await hl7.close()
    assert await serving.ended() == 0


async def test_without_a_broker_writes_are_safe_and_sigterm_finishes_what_was_begun(data_dir: Path) -> None:
    async with Serving(data_dir) as serving, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        told = await http.get(f"{serving.root}/readyz")
        assert told.status_code == 200
        assert told.json() == {"ready": True, "checks": {"database": "ok", "migrations": "ok", "broker": "failed"}}
        await registered(data_dir)
        assert await put(http, serving.base, "first") == 201
        async with database(data_dir) as connection:
            assert await connection.fetchval("SELECT count(*) FROM outbox") == 1, "the work waits in the database"
        await begun_requests_are_answered(serving, http)
    async with Serving(data_dir, broker=True) as serving, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        assert (await http.get(f"{serving.root}/readyz")).json()["checks"]["broker"] == "ok"
        for id in ("first", "slow", *(f"w{n}" for n in range(WRITES))):
            assert (await http.get(f"{serving.base}/Patient/{id}")).status_code == 200
        found = (await http.get(f"{serving.base}/Patient?identifier=4242&_summary=count")).json()
        assert found["total"] == 1, "the acknowledged message is in the record"
        async with database(data_dir) as connection:
            await until(connection, "SELECT count(*) FROM outbox", 0)


async def test_of_two_that_serve_one_folder_the_second_goes_on_when_the_first_ends(data_dir: Path) -> None:
    async with (
        Serving(data_dir) as first,
        Serving(data_dir) as second,
        httpx.AsyncClient(trust_env=False, timeout=30) as http,
    ):
        assert await put(http, first.base, "kept") == 201
        assert await first.stop() == 0
        for _ in range(300):
            if await put(http, second.base, "later") != 503:
                break
            await asyncio.sleep(0.1)
        for id in ("kept", "later"):
            assert (await http.get(f"{second.base}/Patient/{id}")).status_code == 200
        assert running(data_dir)["base_url"] == second.base


@pytest.fixture
async def anothers(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """The folder's database, which is run by another process than the one that serves: that one goes on without."""
    run = EmbeddedPostgres(data_dir)
    await run.start()
    yield run
    await run.stop()


@pytest.mark.usefixtures("anothers")
async def test_a_lost_database_is_told_as_such_and_nothing_is_acknowledged(data_dir: Path) -> None:
    async with Serving(data_dir) as serving, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        await registered(data_dir)
        assert await put(http, serving.base, "kept") == 201
        await serving.kill_database()
        for method in ("PUT", "GET"):
            answer = await http.request(
                method, f"{serving.base}/Patient/late", content=orjson.dumps(patient("late")), headers=JSON
            )
            assert answer.status_code == 503, answer.text
            assert "retry-after" in answer.headers
            assert answer.json()["resourceType"] == "OperationOutcome"
        for path in ("_job/1", "$export", "Patient?name=late", "Patient/late/$everything", "Patient/late/_history"):
            answer = await http.get(f"{serving.base}/{path}", headers={"Prefer": "respond-async"})
            assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient"), path
            assert "retry-after" in answer.headers
        assert (await http.get(f"{serving.root}/livez")).status_code == 200
        told = await http.get(f"{serving.root}/readyz")
        assert (told.status_code, told.json()["checks"]["database"]) == (503, "failed")
        client = MllpClient("127.0.0.1", serving.mllp_port)
        with pytest.raises(NotAnswered):
            await client.send(admission("LOST1"), timeout_s=1.0)
        assert await serving.stop() == 0


JSON = {"Content-Type": "application/fhir+json"}
