"""Whether imports get slower as the store grows: the same city of distinct patients, loaded step after step.

Run:     python -m benchmarks.growth [--steps 200000 1000000 2000000 5000000] [--measured 50000]
Out:     on the way to each size: resources and MB a second by the clock, with a process a core, everything counted
         at each size, of the last resources: resources per CPU second (client and server together), the server's
         share, bytes on disk a resource; what ends an import (pending lists, statistics) apart, because it comes once,
         however much was loaded; the same of a store of SMALL resources; and how much slower the large one is
How:     the store is filled to a step with all cores; then three times a fixed number is loaded in this process, into
         it and, in turn, into a new store of SMALL resources on a server of its own: a minute in which everything takes
         longer is no growth. The medians count: autovacuum comes seldom, and then takes as much again; the clock of all
         cores has it in it
"""

import argparse
import asyncio
import functools
import os
import shutil
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
SMALL = 200_000
STEPS = (200_000, 1_000_000, 2_000_000, 5_000_000)


@dataclass(slots=True)
class Store:
    """One that grows. first: the next patient; size: resources that are in it."""

    url: str
    server: Server
    folder: Path
    first: int = 0
    size: int = 0


@asynccontextmanager
async def new_store(folder: Path) -> AsyncIterator[Store]:
    with scratch(folder):
        postgres = EmbeddedPostgres(folder)
        url = await postgres.start()
        try:
            await migrate.upgrade(url)
            yield Store(url, Server(folder), folder)
        finally:
            await postgres.stop()


async def run(steps: list[int], measured: int, folder: Path) -> None:
    made, slower = city(), 0.0
    async with new_store(folder / "growing") as growing:
        for step in sorted(steps):
            await fill(growing, made, step - ROUNDS * measured)
            async with new_store(folder / "small") as small:
                await fill(small, made, SMALL - ROUNDS * measured)
                beside, found = await measure([small, growing], made, measured)
                slower = 1 - found.rate / beside.rate
                print(f"{await found.line(growing)}; {found.end_s:.1f} CPU-s to end the import")
                print(f"{await beside.line(small)} in turn with it: slower by {slower:.0%}", flush=True)
            shutil.rmtree(folder / "small")
    print(f"slower by {slower:.0%} (goal: at most {SLOWER_MAX:.0%})")


async def fill(store: Store, made: City, until: int) -> None:
    """By the clock, with all cores."""
    if until <= store.size:
        return
    source, cores = store.folder / "fill", os.cpu_count() or 1
    written = made.write(source, until - store.size, first=store.first)
    begun_s = time.monotonic()
    stored = await load(store.url, store.folder, source, processes=cores)
    took_s = time.monotonic() - begun_s
    shutil.rmtree(source)
    rates = f"{stored / took_s:,.0f} resources/s {written.bytes / took_s / 1e6:.1f} MB/s"
    print(f"{store.size:10,} to {store.size + stored:,} by the clock, on {cores} cores: {rates}", flush=True)
    store.first, store.size = written.end, store.size + stored


@dataclass(slots=True)
class Measured:
    """rounds: how many were loaded, CPU seconds of this process and of the server; end_s: those of ending an import."""

    rounds: list[tuple[int, float, float]] = field(default_factory=list)
    end_s: float = 0.0

    @property
    def rate(self) -> float:
        return statistics.median(count / (client_s + server_s) for count, client_s, server_s in self.rounds)

    async def line(self, store: Store) -> str:
        server_us = statistics.median(server_s / count * 1e6 for count, _, server_s in self.rounds)
        each = f"{server_us:5.1f} µs server {await disk_bytes(store.url) / store.size:7,.0f} B on disk each"
        return f"{store.size:10,} resources {self.rate:8,.0f} /CPU-s {each}"


async def measure(stores: list[Store], made: City, measured: int) -> list[Measured]:
    records = [await open_record(Settings(data_dir=one.folder, pool_connections_max=2), one.url) for one in stores]
    found = [Measured() for _ in stores]
    for _ in range(ROUNDS):
        for store, record, of_one in zip(stores, records, found, strict=True):
            source = store.folder / "measured"
            store.first = made.write(source, measured, first=store.first).end
            of_one.rounds.append(await loaded(record, store.server, source))
            store.size += of_one.rounds[-1][0]
            shutil.rmtree(source)
    for store, record, of_one in zip(stores, records, found, strict=True):
        of_one.end_s = sum(await store.server.measure(functools.partial(put_in_order, record.database)))
        await record.close()
    return found


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
