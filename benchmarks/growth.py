"""Whether imports get slower as the store grows: the same city of distinct patients, loaded step after step.

Run:     python -m benchmarks.growth [--steps 200000 1000000 2000000 5000000] [--measured 100000]
Out:     at each size, of the last `measured` resources: resources per CPU second (client and server together), the
         server's share, bytes on disk a resource; and how much slower the last size is than the first
How:     the store is filled to a step with two processes; then a fixed number is loaded in this one and measured
"""

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

import asyncpg

from benchmarks._city import City, city, load
from benchmarks.ingest import Server
from ehr.bulk import files
from ehr.bulk.ingest import ingest
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.database.upkeep import put_in_order
from ehr.ids import new_id
from ehr.record import open_record
from ehr.settings import Settings

SLOWER_MAX = 0.20
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
        if step - measured > size:
            first, size = await fill(url, made, folder, first, size, step - measured)
        first, rate, behind_us, count = await measure(url, server, made, folder, first, measured)
        size += count
        rates.append(rate)
        disk = await disk_bytes(url)
        print(f"{size:10,} resources {rate:8,.0f} /CPU-s {behind_us:5.1f} µs server {disk / size:7,.0f} B on disk each")
    print(f"slower by {1 - rates[-1] / rates[0]:.0%} (goal: at most {SLOWER_MAX:.0%})")


async def fill(url: str, made: City, folder: Path, first: int, size: int, until: int) -> tuple[int, int]:
    written = made.write(folder / "fill", until - size, first=first)
    stored = await load(url, folder, folder / "fill")
    shutil.rmtree(folder / "fill")
    return written.end, size + stored


async def measure(
    url: str, server: Server, made: City, folder: Path, first: int, measured: int
) -> tuple[int, float, float, int]:
    """(next patient, resources a CPU second, µs of the server each, how many)"""
    written = made.write(folder / "measured", measured, first=first)
    record = await open_record(Settings(data_dir=folder, pool_connections_max=2), url)
    parts = [part for path in files.find([folder / "measured"]) for part in files.parts(path.name, path)]
    count = 0

    async def act() -> None:
        nonlocal count
        for part in parts:
            count += (await ingest(record, part, job_id=new_id())).tally.stored
        await put_in_order(record.database)

    client, behind = await server.measure(act)
    await record.close()
    shutil.rmtree(folder / "measured")
    return written.end, count / (client + behind), behind / count * 1e6, count


async def disk_bytes(url: str) -> int:
    connection = await asyncpg.connect(url)
    found: int = await connection.fetchval("select pg_database_size(current_database())")
    await connection.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="imports as the store grows")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--measured", type=int, default=100_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ehr-bench-"))
    folder.chmod(0o755)
    try:
        asyncio.run(run(given.steps, given.measured, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
