"""Whether imports get slower as the store grows: the same city of distinct patients, loaded step after step.

Run:     python -m benchmarks.growth [--steps 200000 1000000 2000000 5000000] [--measured 50000]
Out:     on the way to each size: resources and MB a second by the clock, with a process a core, everything counted
         at each size, of the last resources: resources per CPU second (client and server together), the server's
         share, bytes on disk a resource; what ends an import (pending lists, statistics) apart, because it comes once,
         however much was loaded; and how much slower the last size is than the first
How:     the store is filled to a step with all cores; then three times a fixed number is loaded in this process. The
         median counts: autovacuum comes seldom, and then takes as much again; the clock of all cores has it in it
"""

import argparse
import asyncio
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks._city import City, city, load
from benchmarks._scratch import scratch
from benchmarks.ingest import Server
from ehr.bulk import files
from ehr.bulk.ingest import ingest
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.database.upkeep import put_in_order
from ehr.ids import new_id
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

SLOWER_MAX = 0.20
ROUNDS = 3
STEPS = (200_000, 1_000_000, 2_000_000, 5_000_000)


async def run(steps: list[int], measured: int, folder: Path) -> None:
    postgres = EmbeddedPostgres(folder / "data")
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        await grow(url, steps, measured, folder)
    finally:
        await postgres.stop()


async def grow(url: str, steps: list[int], measured: int, folder: Path) -> None:
    server, made = Server(folder / "data"), city()
    first = size = 0
    rates: list[float] = []
    for step in sorted(steps):
        if step - ROUNDS * measured > size:
            first, size = await fill(url, made, folder, first, size, step - ROUNDS * measured)
        found = await measure(url, server, made, folder, first, measured)
        first, size = found.first, size + found.count
        rates.append(found.rate)
        each = f"{found.server_us:5.1f} µs server {await disk_bytes(url) / size:7,.0f} B on disk each"
        print(f"{size:10,} resources {found.rate:8,.0f} /CPU-s {each}; {found.end_s:.1f} CPU-s to end the import")
    print(f"slower by {1 - rates[-1] / rates[0]:.0%} (goal: at most {SLOWER_MAX:.0%})")


async def fill(url: str, made: City, folder: Path, first: int, size: int, until: int) -> tuple[int, int]:
    written = made.write(folder / "fill", until - size, first=first)
    cores = os.cpu_count() or 1
    begun_s = time.monotonic()
    stored = await load(url, folder, folder / "fill", processes=cores)
    took_s = time.monotonic() - begun_s
    shutil.rmtree(folder / "fill")
    rates = f"{stored / took_s:,.0f} resources/s {written.bytes / took_s / 1e6:.1f} MB/s"
    print(f"{size:10,} to {size + stored:,} by the clock, on {cores} cores: {rates}")
    return written.end, size + stored


@dataclass(frozen=True, slots=True)
class Measured:
    """One size: the next patient; how many were loaded, how many a CPU second; CPU that ending an import took."""

    first: int
    count: int
    rate: float
    server_us: float
    end_s: float


async def measure(url: str, server: Server, made: City, folder: Path, first: int, measured: int) -> Measured:
    record = await open_record(Settings(data_dir=folder, pool_connections_max=2), url)
    rounds: list[tuple[int, float, float]] = []
    for _ in range(ROUNDS):
        first = made.write(folder / "measured", measured, first=first).end
        rounds.append(await loaded(record, server, folder / "measured"))
        shutil.rmtree(folder / "measured")
    end_s = sum(await server.measure(lambda: put_in_order(record.database)))
    await record.close()
    rate = statistics.median(count / (client_s + server_s) for count, client_s, server_s in rounds)
    server_us = statistics.median(server_s / count * 1e6 for count, _, server_s in rounds)
    return Measured(first, sum(count for count, _, _ in rounds), rate, server_us, end_s)


async def loaded(record: Record, server: Server, source: Path) -> tuple[int, float, float]:
    """How many resources, and CPU seconds of this process and of the server."""
    parts = [part for path in files.find([source]) for part in files.parts(path.name, path)]
    count = 0

    async def act() -> None:
        nonlocal count
        for part in parts:
            count += (await ingest(record, part, job_id=new_id())).tally.stored

    client_s, server_s = await server.measure(act)
    return count, client_s, server_s


async def disk_bytes(url: str) -> int:
    connection = await asyncpg.connect(url)
    found: int = await connection.fetchval("select pg_database_size(current_database())")
    await connection.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="imports as the store grows")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--measured", type=int, default=50_000)
    given = parser.parse_args()
    with scratch() as folder:
        asyncio.run(run(given.steps, given.measured, folder))


if __name__ == "__main__":
    main()
