"""Promise C01: kill -9 of the serving process at any moment between block and ACK loses nothing and doubles nothing.

A real `ehr serve` on a real PostgreSQL is killed again and again while a facility sends; the facility sends each
message until it is acknowledged. Then every acknowledged control id is applied once, and its content is there once.
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.mllp.client import MllpClient
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.faults.serving import Serving
from tests.mllp.conftest import FACILITY, register
from tests.mllp.mothers import code_of, header, ledger, message, pid, pv1, search

KILLS = 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def result(number: int) -> bytes:
    """A result with an order number and a value of its own."""
    at = f"202611230{8 + number // 3600}{number // 60 % 60:02}{number % 60:02}+0700"
    return message(
        header("ORU^R01^ORU_R01", f"K{number}", at=at),
        pid(mrn=str(number % 7)),
        pv1(link=f"{FACILITY}.{number % 7}"),
        f"OBR|1|P{number}^HIS|F{number}^LIS|24331-1^Lipid^LN|||{at}|||||||||||||||{at}||LAB|F",
        f"OBX|1|NM|718-7^Hemoglobin^LN||{number}.50|g/dL^^UCUM||||||F|||{at}",
    )


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Record]:
    record = await open_record(Settings(pool_connections_max=4), database_url)
    try:
        yield record
    finally:
        await record.close()


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_or_doubled(database_url: str, data_dir: Path) -> None:
    chance = random.Random(20261123)
    async with opened(database_url) as record:
        await register(record, FACILITY)
    acknowledged: list[int] = []
    port = free_port()  # the same after each start: the facility knows one address
    options = ("--port", "0", "--mllp-port", str(port))
    async with Serving(data_dir, *options, EHR_DATABASE_URL=database_url, EHR_POOL_CONNECTIONS_MAX="4") as serving:
        client = MllpClient("127.0.0.1", port)
        finished, moved = asyncio.Event(), asyncio.Event()

        async def send() -> None:
            number = 0
            while not finished.is_set():
                answer = await client.send(result(number), timeout_s=120)
                assert code_of(answer) == "AA", answer
                acknowledged.append(number)
                moved.set()
                number += 1

        sending = asyncio.create_task(send())
        for _ in range(KILLS):
            moved.clear()
            await moved.wait()
            await asyncio.sleep(chance.uniform(0, 0.12))  # one message takes 20 to 60 ms: all its moments are met
            await serving.kill()
            await serving.start()
        finished.set()
        await sending
        await client.close()
    assert client.resent >= KILLS, "the kills met messages under way"
    async with opened(database_url) as record:
        rows = await ledger(record)
        assert [control_id for _, control_id, _ in rows] == [f"K{number}" for number in acknowledged]
        assert {state for state, _, _ in rows} == {"applied"}
        await _each_once(record, acknowledged)


async def _each_once(record: Record, acknowledged: list[int]) -> None:
    """One Observation per message, in its first version, with its value; one Provenance per message."""
    observations = await search(record, "Observation", code="http://loinc.org|718-7")
    values = sorted(str(observation["valueQuantity"]["value"]) for observation in observations)
    assert values == sorted(f"{number}.50" for number in acknowledged)
    assert {observation["meta"]["versionId"] for observation in observations} == {"1"}
    provenances = await search(record, "Provenance", _lastUpdated="gt2000-01-01")
    named = sorted(provenance["entity"][0]["what"]["identifier"]["value"] for provenance in provenances)
    assert named == sorted(f"K{number}" for number in acknowledged)
