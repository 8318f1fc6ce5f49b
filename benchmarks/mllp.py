"""HL7 messages through a real MLLP socket against a bare echo listener, in the same run.

Run:     python -m benchmarks.mllp
Out:     messages a second, and the CPU of this process and of the server for one message, of the listener over the
         record and of one that only echoes; the ratio of the two; the load of the machine meanwhile
In:      a day of the simulated city: admissions, results, orders, prescriptions and charges of HL7 facilities
Limit:   one message costs at most RATIO_MAX times the CPU of an echo; exit code 1 above it
Why CPU: wall time says how busy the machine was; CPU seconds and ratios of one run can be compared
Note:    sender and listener share this process: what the client costs is in both figures
"""

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from adapters.facilities.arrivals import arrivals
from adapters.facilities.episodes import episode
from adapters.facilities.languages import messages
from adapters.facilities.population import Population
from adapters.facilities.register import register
from adapters.mllp.client import MllpClient
from adapters.mllp.server import MllpServer, Receiver
from adapters.pipeline import Pipeline
from benchmarks._scratch import scratch
from benchmarks.ingest import Server
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.intake import Intake
from ehr.ops import logging
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

RATIO_MAX = 200.0
WARMING, MEASURED = 100, 500
SECONDS_MAX = 25.0
SEED, DAY = 7, date(2026, 11, 20)
VISITS = 3
SENDERS = 4


class Echo:
    """Answers with what it got: what sockets and framing cost."""

    async def receive_hl7(self, block: bytes, peer: str, *, facility_code: str | None = None) -> bytes:  # noqa: ARG002
        return block

    async def broke(self, block: bytes, error: Exception, *, facility_code: str | None = None) -> bytes | None:  # noqa: ARG002
        raise error


@dataclass(frozen=True, slots=True)
class Measured:
    messages: int
    wall_s: float
    client_s: float
    server_s: float

    @property
    def cpu_ms(self) -> float:
        return (self.client_s + self.server_s) / self.messages * 1e3

    def __str__(self) -> str:
        client, server = self.client_s / self.messages * 1e3, self.server_s / self.messages * 1e3
        rate = self.messages / self.wall_s
        return f"{rate:>8.0f} messages/s{client:>8.2f} ms CPU here{server:>8.2f} ms in the server"


async def traffic(record: Record) -> list[bytes]:
    """Messages of the first visits of each HL7 facility, in the order they happen."""
    registered = await register(record)
    population = Population(SEED, 20_000)
    found: list[bytes] = []
    for facility in registered.facilities:
        if facility.feed == "hl7v2":
            for arrival in arrivals(SEED, facility, DAY, 9)[:VISITS]:
                found += [one.payload for one in messages(episode(SEED, population, arrival))]
        if len(found) >= WARMING + MEASURED:
            break
    return found[: WARMING + MEASURED]


async def exchange(receiver: Receiver, behind: Server, warming: list[bytes], measured: list[bytes]) -> Measured:
    """Send everything over SENDERS connections, each its own part in order."""
    listener = MllpServer(receiver)
    await listener.start()
    senders = [MllpClient("127.0.0.1", listener.port) for _ in range(SENDERS)]
    done = 0

    async def send(client: MllpClient, own: list[bytes], until_s: float) -> None:
        nonlocal done
        for message in own:
            if time.perf_counter() > until_s:
                return
            answer = await client.send(message)
            assert answer == message or b"MSA|AA|" in answer, "every message is accepted"
            done += 1

    async def all_of(given: list[bytes]) -> None:
        until_s = time.perf_counter() + SECONDS_MAX
        parts = [given[n * len(given) // SENDERS : (n + 1) * len(given) // SENDERS] for n in range(SENDERS)]
        await asyncio.gather(*(send(c, part, until_s) for c, part in zip(senders, parts, strict=True)))

    await all_of(warming)
    done, began = 0, time.perf_counter()
    client_s, server_s = await behind.measure(lambda: all_of(measured))
    wall_s = time.perf_counter() - began
    for client in senders:
        await client.close()
    await listener.stop()
    return Measured(done, wall_s, client_s, server_s)


async def compare(behind: Server, url: str, folder: Path) -> float:
    record = await open_record(Settings(data_dir=folder, pool_connections_max=SENDERS), url)
    sent = await traffic(record)
    warming, measured = sent[:WARMING], sent[WARMING:]
    echoed = await exchange(Echo(), behind, warming, measured)
    received = await exchange(Pipeline(Intake(record)), behind, warming, measured)
    await record.close()
    ratio = received.cpu_ms / echoed.cpu_ms
    size = sum(map(len, measured)) / len(measured)
    print(f"{received.messages} messages of {size:.0f} bytes, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"echo    {echoed}")
    print(f"record  {received}")
    print(f"ratio of the CPU {ratio:.1f}, at most {RATIO_MAX}")
    return ratio


async def run(folder: Path) -> float:
    logging.configure("WARNING", "json")
    postgres = EmbeddedPostgres(folder / "data")
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        return await compare(Server(folder / "data"), url, folder)
    finally:
        await postgres.stop()


def main() -> int:
    with scratch() as folder:
        return int(asyncio.run(run(folder)) > RATIO_MAX)


if __name__ == "__main__":
    sys.exit(main())
