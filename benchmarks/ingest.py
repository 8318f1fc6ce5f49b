"""The import against its limit: parsing the same lines with orjson and copying the same bytes, in the same run.

Run:     python -m benchmarks.ingest [FILE.ndjson[.gz]…]     default: synthea-100 beside the checkout, else made lines
Out:     resources per CPU second (client and server together) of parse, raw COPY, both (the limit) and the import,
         and the import's ratio to the limit; bytes on disk are benchmarks/bytes; a store that is full already, and what
         all cores do in a second, benchmarks/growth
Why CPU: wall time says how busy the machine was; CPU seconds and ratios of one run can be compared
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import asyncpg
import orjson
import psutil

from benchmarks._scratch import scratch
from ehr.bulk import files
from ehr.bulk.ingest import ingest
from ehr.bulk.unpack import unpacked
from ehr.database import copy, migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.database.upkeep import put_in_order
from ehr.ids import new_id
from ehr.record import open_record
from ehr.settings import Settings

TARGET = 0.30
MADE_LINES = 20_000
BATCH_BYTES = 8 * 1024 * 1024


def made(folder: Path) -> list[Path]:
    """Observations of our own where there is no shared data."""
    path = folder / "Observation.ndjson"
    with path.open("w") as file:
        for n in range(MADE_LINES):
            one = {
                "resourceType": "Observation",
                "id": f"o{n}",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": f"{n % 500}-1"}]},
                "subject": {"reference": f"Patient/p{n % 300}"},
                "effectiveDateTime": f"2026-{n % 12 + 1:02}-{n % 28 + 1:02}T08:00:00+07:00",
                "valueQuantity": {"value": n % 100, "system": "http://unitsofmeasure.org", "code": "mmol/L"},
            }
            file.write(json.dumps(one, separators=(",", ":")) + "\n")
    return [path]


def inputs(arguments: list[str], folder: Path) -> list[Path]:
    shared = Path(os.environ.get("EHR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    given = [Path(one) for one in arguments] or sorted((shared / "data" / "synthea-100" / "ndjson").glob("*.gz"))
    found = files.find(given)
    return [unpacked(path, folder / "spool" / f"{n}-{path.stem}") for n, path in enumerate(found)] or made(folder)


class Server:
    """CPU seconds of the PostgreSQL of this benchmark."""

    def __init__(self, data_dir: Path) -> None:
        pid = int((data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
        self._postmaster = psutil.Process(pid)

    def cpu_s(self) -> float:
        """Of those that live, and of those that have ended: backends, and autovacuum's workers, which come and go."""
        own = self._postmaster.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for process in self._postmaster.children():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    async def measure(self, act: Callable[[], Awaitable[object]]) -> tuple[float, float]:
        """CPU seconds of this process and of the server while it acts."""
        gc.collect()
        client, server = time.process_time(), self.cpu_s()
        await act()
        return time.process_time() - client, self.cpu_s() - server


async def whole(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def raw_copy(connection: "asyncpg.Connection[asyncpg.Record]", lines: list[bytes]) -> None:
    """The limit's second half: the lines as they are into a logged table, one transaction a batch."""
    head = copy.fixed("int8", columns=2)
    rows: list[bytes] = []
    size = 0
    for number, line in enumerate(lines):
        rows += (head(number), copy.variable(line))
        size += len(line)
        if size > BATCH_BYTES or number == len(lines) - 1:
            content = b"".join((copy.HEADER, *rows, copy.TRAILER))
            await connection.copy_to_table("raw", source=whole(content), format="binary")
            rows, size = [], 0


def warming(path: Path, folder: Path) -> Path:
    """The first lines of a file: too few to train a dictionary."""
    with path.open("rb") as file:
        lines = [file.readline() for _ in range(20)]
    (folder / "warm").mkdir(exist_ok=True)
    some = folder / "warm" / path.name
    some.write_bytes(b"".join(lines))
    return some


async def run(paths: list[Path], folder: Path) -> float:
    postgres = EmbeddedPostgres(folder / "data")
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        return await compare(Server(folder / "data"), url, paths, folder)
    finally:
        await postgres.stop()


async def compare(server: Server, url: str, paths: list[Path], folder: Path) -> float:
    lines = [line for path in paths for line in path.read_bytes().splitlines() if line]
    count, size = len(lines), sum(len(line) + 1 for line in lines)
    connection = await asyncpg.connect(url)
    await connection.execute("create table raw (number bigint, body bytea)")
    await connection.execute("alter table raw alter body set storage external")

    async def parse() -> None:
        for line in lines:
            orjson.loads(line)

    settings = Settings(data_dir=folder, pool_connections_max=2)
    record = await open_record(settings, url)
    parts = [part for path in paths for part in files.parts(path.name, path)]
    for path in paths:  # warms what is compiled at first use of a type
        for part in files.parts(path.name, warming(path, folder)):
            await ingest(record, part, job_id=new_id())
    async with record.database.acquire() as cleaner:
        await cleaner.execute("truncate resource, resource_history, string_index, date_index, quantity_index")
        await cleaner.execute("truncate claim, person_link, outbox, audit, intake_message")

    async def load() -> None:
        for part in parts:
            await ingest(record, part, job_id=new_id())
        await put_in_order(record.database)

    parsed, _ = await server.measure(parse)
    copied = sum(await server.measure(lambda: raw_copy(connection, lines)))
    lines.clear()
    client, behind = await server.measure(load)
    await record.close()
    await connection.close()
    ratio = (parsed + copied) / (client + behind)
    measured = (("parse", parsed), ("raw COPY", copied), ("limit", parsed + copied), ("import", client + behind))
    for name, seconds in measured:
        print(f"{name:9} {count / seconds:10,.0f} resources/CPU-s {size / seconds / 1e6:8.1f} MB/CPU-s")
    halves = f"{client / count * 1e6:.0f} µs client and {behind / count * 1e6:.0f} µs server"
    print(f"import    {halves} a resource, validated")
    print(f"ratio to the limit {ratio:.2f} (target {TARGET})   {count:,} resources")
    return ratio


def main() -> None:
    with scratch() as folder:
        asyncio.run(run(inputs(sys.argv[1:], folder), folder))


if __name__ == "__main__":
    main()
