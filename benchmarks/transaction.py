"""Transaction Bundles against their limit: parsing the same bytes with orjson and copying them, in the same run.

Run:     python -m benchmarks.transaction [BUNDLE.json[.gz]…]   default: synthea-10 beside the checkout, else made ones
Out:     for each stage the CPU of this process and of the server for one resource; resources a second, as the clock
         says and for one busy core; the ratio to the limit; the load of the machine meanwhile
Limit:   the ratio is at least RATIO_MIN; exit code 1 below it
Why CPU: wall time says how busy the machine was; CPU seconds and ratios of one run can be compared
"""

import asyncio
import gzip
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import orjson

from benchmarks.ingest import Server, raw_copy
from ehr.access.policy import Caller
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store import bundles, gate
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

RATIO_MIN = 0.05
RESOURCES = 6_000
SECONDS_MAX = 20.0
MADE_BUNDLES, MADE_RESULTS = 12, 150


def made() -> Iterable[bytes]:
    """Bundles of our own where there is no shared data: a patient, visits, and results that refer to both."""
    for _ in range(MADE_BUNDLES):
        person, visit = f"urn:uuid:{uuid4()}", f"urn:uuid:{uuid4()}"
        entries: list[Any] = [
            {"fullUrl": person, "resource": {"resourceType": "Patient", "name": [{"text": "Nguyễn Văn An"}]}},
            {
                "fullUrl": visit,
                "resource": {
                    "resourceType": "Encounter",
                    "status": "finished",
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
                    "subject": {"reference": person},
                },
            },
        ]
        entries += [
            {"fullUrl": f"urn:uuid:{uuid4()}", "resource": result(n, person, visit)} for n in range(MADE_RESULTS)
        ]
        for entry in entries:
            entry["request"] = {"method": "POST", "url": entry["resource"]["resourceType"]}
        yield orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def result(number: int, person: str, visit: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{number}-1"}], "text": "result"},
        "subject": {"reference": person},
        "encounter": {"reference": visit},
        "effectiveDateTime": f"2026-11-{number % 28 + 1:02}T08:00:00+07:00",
        "valueQuantity": {
            "value": number / 2,
            "unit": "mmol/L",
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
        },
    }


def inputs(arguments: list[str]) -> tuple[list[bytes], list[bytes]]:
    """What the Bundles refer to, and the Bundles."""
    shared = Path(os.environ.get("EHR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    paths = [Path(one) for one in arguments] or sorted((shared / "data" / "synthea-10" / "bundles").glob("*.gz"))
    first = [content(path) for path in paths if path.name.startswith("infrastructure")]
    then = [content(path) for path in paths if not path.name.startswith("infrastructure")]
    return (first, then) if then else ([], list(made()))


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


class Stages:
    """CPU of this process by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.resources = 0

    async def send(self, record: Record, caller: Caller, body: bytes) -> None:
        begun = time.process_time()
        bundle = gate.accept_bundle(body)
        read = time.process_time()
        entries = bundles.checked(bundle)
        checked = time.process_time()

        async def work(uow: UnitOfWork) -> None:
            await bundles.transaction(uow, bundle, entries=entries)

        await record.write(caller, work)
        wrote = time.process_time()
        for stage, cpu_s in (("read", read - begun), ("check", checked - read), ("write", wrote - checked)):
            self.seconds[stage] = self.seconds.get(stage, 0.0) + cpu_s
        self.resources += len(entries)


async def compare(server: Server, url: str, folder: Path, first: list[bytes], then: list[bytes]) -> float:
    record = await open_record(Settings(data_dir=folder, pool_connections_max=2), url)
    caller = Caller.system("benchmark")
    for body in (*first, *then):  # what is compiled at first use, and what plans depend on
        await Stages().send(record, caller, body)
    async with record.database.acquire() as connection:
        await connection.execute("analyze")
    stages = Stages()
    sent: list[bytes] = []
    began = time.perf_counter()

    async def send() -> None:
        while stages.resources < RESOURCES and time.perf_counter() - began < SECONDS_MAX:
            body = then[len(sent) % len(then)]
            await stages.send(record, caller, body)
            sent.append(body)

    client, behind = await server.measure(send)
    wall = time.perf_counter() - began
    await record.close()
    limit = await limit_of(server, url, sent)
    report(stages, client, behind, wall, limit)
    return limit / (client + behind)


async def limit_of(server: Server, url: str, sent: list[bytes]) -> float:
    """CPU seconds to parse the same Bundles and to copy the bytes of their resources."""
    lines = [orjson.dumps(entry["resource"]) for body in sent for entry in orjson.loads(body)["entry"]]
    connection = await asyncpg.connect(url)
    await connection.execute("create table raw (number bigint, body bytea)")
    await connection.execute("alter table raw alter body set storage external")

    async def act() -> None:
        for body in sent:
            orjson.loads(body)
        await raw_copy(connection, lines)

    seconds = sum(await server.measure(act))
    await connection.close()
    return seconds


def report(stages: Stages, client: float, behind: float, wall: float, limit: float) -> None:
    count = stages.resources
    print(f"{count} resources, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, seconds in (*stages.seconds.items(), ("client", client), ("server", behind), ("limit", limit)):
        print(f"{name:8}{seconds / count * 1e6:>8.0f} µs CPU a resource")
    print(f"{count / wall:.0f} resources/s by the clock, {count / (client + behind):.0f} for one core's CPU")
    print(f"ratio to the limit {limit / (client + behind):.3f}, at least {RATIO_MIN}")


async def run(folder: Path, arguments: list[str]) -> float:
    first, then = inputs(arguments)
    postgres = EmbeddedPostgres(folder / "data")
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        return await compare(Server(folder / "data"), url, folder, first, then)
    finally:
        await postgres.stop()


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="ehr-bench-"))
    folder.chmod(0o755)
    try:
        return int(asyncio.run(run(folder, sys.argv[1:])) < RATIO_MIN)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
