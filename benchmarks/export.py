"""The export against its limit: COPY of the same bodies, in the same run.

Run:     python -m benchmarks.export [--resources 200000]     a city of benchmarks/_city
Out:     MB of NDJSON a second, CPU seconds of client and server, and peak memory, of
           COPY    the frames as they lie there, read and thrown away
           bodies  the same, and unpacked: what anybody has to do to read them
           export  the whole job as one worker does it: snapshot, chunks, files on the disk, audit
         cores   the same job, its chunks taken by a process a core, as the workers of an installation do; by the clock
         and the export's ratios to the first two; MB are those of the export's lines everywhere
Goal:    half as fast as reading the bodies
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks._city import city, load
from benchmarks.ingest import Server
from ehr.access.policy import Caller
from ehr.bulk import export, export_job, export_plan
from ehr.bulk.export_request import ExportRequest
from ehr.bulk.manifest import files_of
from ehr.database import migrate
from ehr.database.copy_out import Rows
from ehr.database.embedded import EmbeddedPostgres
from ehr.fhir.r4 import TYPE_IDS
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

GOAL = 0.5
ROUNDS = 5
_ALL = "select type_id, shard, id, body from resource"
_CALLER = Caller.system("benchmark")


@dataclass(frozen=True)
class Took:
    wall_s: float
    client_s: float
    server_s: float


async def measured(server: Server, act: Callable[[], Awaitable[object]]) -> Took:
    gc.collect()
    began_s = time.perf_counter()
    client_s, server_s = await server.measure(act)
    return Took(time.perf_counter() - began_s, client_s, server_s)


async def copied(record: Record) -> None:
    async def throw_away(_: bytes) -> None:
        pass

    async with record.database.acquire() as connection:
        await connection.copy_from_query("select body from resource", output=throw_away, format="binary")


async def unpacked(record: Record) -> None:
    rows, decompress = Rows(), record.bodies.decompress

    async def take(piece: bytes) -> None:
        for row in rows.feed(piece):
            decompress(row[3])

    async with record.database.acquire() as connection:
        await connection.copy_from_query(_ALL, output=take, format="binary")


async def exported(record: Record, home: Path, work_on: Callable[[str], Awaitable[object]]) -> tuple[int, int]:
    """Resources and bytes of one export."""
    request = ExportRequest("system", tuple(sorted(TYPE_IDS)))
    job_id = await export_plan.plan(record, _CALLER, request, home=home, url="benchmark")
    await work_on(job_id)
    progress = await Queue(record.database).progress(job_id)
    assert progress is not None
    assert progress.state == "done", progress.errors
    files = list(files_of(progress))
    return sum(one.count for one in files), sum(one.bytes for one in files)


async def worked(record: Record, job_id: str) -> None:
    queue = Queue(record.database)
    await work(queue, {export_job.KIND: export.handler(record)}, record.clock, job_id=job_id, turn_s=3600)


@asynccontextmanager
async def workers(folder: Path, url: str) -> AsyncIterator[Sequence[Connection]]:
    """A process a core, each with its record open; a job's id is sent to it, and comes back when no chunk is left."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(os.cpu_count() or 1)]
    children = [context.Process(target=_worker, args=(folder, url, there), daemon=True) for _, there in pipes]
    for child in children:
        child.start()
    ends = [here for here, _ in pipes]
    try:
        for end in ends:
            await asyncio.to_thread(end.recv)
        yield ends
    finally:
        for end, child in zip(ends, children, strict=True):
            end.send(None)
            await asyncio.to_thread(child.join)


def _worker(folder: Path, url: str, told: Connection) -> None:
    asyncio.run(_serve(folder, url, told))


async def _serve(folder: Path, url: str, told: Connection) -> None:
    record = await open_record(Settings(data_dir=folder, pool_connections_max=2), url)
    try:
        told.send("ready")
        while job_id := told.recv():
            await worked(record, job_id)
            told.send(job_id)
    finally:
        await record.close()


async def told_all(ends: Sequence[Connection], job_id: str) -> None:
    for end in ends:
        end.send(job_id)
    for end in ends:
        await asyncio.to_thread(end.recv)


async def compare(record: Record, server: Server, home: Path, ends: Sequence[Connection]) -> float:
    async with record.database.acquire() as connection:
        await connection.execute("vacuum analyze")
    sizes = (0, 0)

    async def whole() -> None:
        nonlocal sizes
        sizes = await exported(record, home, lambda job_id: worked(record, job_id))

    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "COPY": lambda: copied(record),
        "bodies": lambda: unpacked(record),
        "export": whole,
        "cores": lambda: exported(record, home, lambda job_id: told_all(ends, job_id)),
    }
    for act in acts.values():
        await act()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took: dict[str, list[Took]] = {name: [] for name in acts}
    for _ in range(ROUNDS):
        for name, act in acts.items():
            took[name].append(await measured(server, act))
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
    count, size = sizes
    middle = {name: Took(*map(statistics.median, zip(*map(astuple, each), strict=True))) for name, each in took.items()}
    cores = middle.pop("cores")
    for name, one in middle.items():
        cpu = f"{one.client_s / count * 1e6:5.1f} µs client and {one.server_s / count * 1e6:5.1f} µs server a resource"
        print(f"{name:7} {size / one.wall_s / 1e6:8.1f} MB/s {count / one.wall_s:10,.0f} resources/s   {cpu}")
    by_cores = f"{size / cores.wall_s / 1e6:8.1f} MB/s {count / cores.wall_s:10,.0f} resources/s"
    ratio = middle["bodies"].wall_s / cores.wall_s
    print(f"cores   {by_cores}   {len(ends)} processes, {ratio:.2f} of bodies by the clock")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory  {peak / 1024:.0f} MiB at its peak, {(peak - before) / 1024:.0f} of them after the first round")
    for name in ("COPY", "bodies"):
        of, export_ = middle[name], middle["export"]
        cpu_ratio = (of.client_s + of.server_s) / (export_.client_s + export_.server_s)
        print(f"ratio to {name:6} {of.wall_s / export_.wall_s:.2f} by the clock, {cpu_ratio:.2f} by CPU")
    print(f"{count:,} resources, {size / 1e6:,.0f} MB of NDJSON, medians of {ROUNDS} rounds, one process (goal {GOAL})")
    return middle["bodies"].wall_s / middle["export"].wall_s


async def run(folder: Path, resources: int) -> float:
    postgres = EmbeddedPostgres(folder / "data")
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        source = folder / "city"
        await asyncio.to_thread(city().write, source, resources)
        await load(url, folder, source)
        await asyncio.to_thread(shutil.rmtree, source)
        record = await open_record(Settings(data_dir=folder, pool_connections_max=2), url)
        try:
            async with workers(folder, url) as ends:
                return await compare(record, Server(folder / "data"), folder / "exports", ends)
        finally:
            await record.close()
    finally:
        await postgres.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="export against COPY of the same bodies")
    parser.add_argument("--resources", type=int, default=200_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ehr-bench-"))
    folder.chmod(0o755)
    try:
        asyncio.run(run(folder, given.resources))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
