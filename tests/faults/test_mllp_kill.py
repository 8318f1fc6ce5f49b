"""Promise C01: kill -9 of the serving process at any moment between block and ACK loses nothing and doubles nothing.

A real `ehr serve` on a real PostgreSQL is killed again and again while a facility sends; the facility sends each
message until it is acknowledged. Then every acknowledged control id is applied once, and its content is there once.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.mllp.client import MllpClient
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.mllp.conftest import FACILITY, register
from tests.mllp.mothers import code_of, header, ledger, message, pid, pv1, search

ROOT = Path(__file__).resolve().parents[2]
KILLS = 5
READY_S = 60.0
SERVE = "from ehr.cli import main; main()"


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


class Server:
    """The process under test, and its violent end."""

    def __init__(self, database_url: str, data_dir: str) -> None:
        self.port = free_port()
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("EHR_")} | {
            "EHR_DATABASE_URL": database_url,
            "EHR_BROKER_URL": f"redis+socket://{data_dir}/absent.sock",  # an outside broker, so no worker is started
            "EHR_DATA_DIR": data_dir,
            "EHR_POOL_CONNECTIONS_MAX": "4",
            "PYTHONPATH": str(ROOT),
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-c", SERVE, "serve", "--port", "0", "--mllp-port", str(self.port)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_S):
            line = await asyncio.to_thread(self._process.stdout.readline)
        assert line.startswith(b"ready "), line

    async def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        assert self._process.stdout is not None
        self._process.stdout.close()

    async def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        await asyncio.to_thread(self._process.wait)
        assert self._process.stdout is not None
        self._process.stdout.close()


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Record]:
    record = await open_record(Settings(pool_connections_max=4), database_url)
    try:
        yield record
    finally:
        await record.close()


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_or_doubled(database_url: str) -> None:
    chance = random.Random(20261123)
    async with opened(database_url) as record:
        await register(record, FACILITY)
    acknowledged: list[int] = []
    with tempfile.TemporaryDirectory() as data_dir:
        server = Server(database_url, data_dir)
        await server.start()
        client = MllpClient("127.0.0.1", server.port)
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
            await server.kill()
            await server.start()
        finished.set()
        await sending
        await client.close()
        await server.stop()
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
