"""Transaction Bundles of a facility over HTTP: `ehr serve`, its database and several clients on one machine.

Run:     python -m benchmarks.transaction [BUNDLE.json[.gz]…] [--stored 200000] [--resources 40000] [--clients 6]
In:      synthea-206 beside the checkout, its largest patients left out, else Bundles of our own (said so)
Out:     resources a second by the clock, and for a CPU second of server and PostgreSQL; CPU for a resource by stage;
         how long a read took meanwhile; the ratio to the limit; the load of the machine before
Ours:    the whole product as started by others: a facility's token, the ledger, Provenance, audit, commits on the disk;
         a store that holds so many resources already
Limit:   the CPU of parsing the same Bundles and copying the bytes of their resources
Why CPU: wall time says how busy the machine was; CPU seconds and ratios of one run can be compared
"""

import argparse
import asyncio
import gzip
import http.client
import os
import signal
import statistics
import sys
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import orjson

from adapters.facilities.register import SCOPES, register
from benchmarks import _city
from benchmarks._scratch import scratch
from benchmarks.ingest import Server, raw_copy
from benchmarks.read import Process, started
from ehr.access.authenticate import issue_token
from ehr.access.keys import load_keys
from ehr.access.token import Tokens
from ehr.clock import SystemClock
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.record import open_record
from ehr.settings import Settings

GOAL = 3_000
RATIO_MIN = 0.05
BUNDLE_BYTES_MAX = 4_000_000
WARM_RESOURCES = 3_000
READ_EACH_S = 0.05
MADE_BUNDLES, MADE_RESULTS = 300, 150


# ---- what is sent


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


@dataclass(frozen=True)
class Sent:
    body: bytes
    count: int


def inputs(paths: list[Path]) -> Iterator[Sent]:
    """The Bundles, one after another."""
    shared = Path(os.environ.get("EHR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    archive = shared / "data" / "synthea-206" / "bundles.tar.xz"
    if paths:
        bodies: Iterable[bytes] = map(content, paths)
    elif archive.exists():
        bodies = members(archive)
    else:
        print("no Synthea beside the checkout: Bundles of our own, a patient with a visit and its results each")
        bodies = made()
    for body in bodies:
        if len(body) <= BUNDLE_BYTES_MAX:
            yield Sent(body, len(orjson.loads(body)["entry"]))


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def members(archive: Path) -> Iterator[bytes]:
    with tarfile.open(archive) as opened:
        for one in opened:
            if one.name.endswith(".json"):
                file = opened.extractfile(one)
                assert file is not None, "a Bundle is a file"
                yield file.read()


def up_to(resources: int, given: Iterator[Sent]) -> list[Sent]:
    taken: list[Sent] = []
    while sum(one.count for one in taken) < resources:
        following = next(given, None)
        if following is None:
            break
        taken.append(following)
    return taken


# ---- the clients


class Client:
    """Several connections, each sending the next Bundle as soon as its last is answered."""

    def __init__(self, address: str, token: str, connections: int) -> None:
        self._place = address.removeprefix("http://")
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
        self._connections = connections

    def send(self, bundles: Iterable[Sent]) -> list[bytes]:
        """Every Bundle once; the answers."""
        opened = threading.local()

        def post(one: Sent) -> bytes:
            if not hasattr(opened, "connection"):
                opened.connection = self._open()
            opened.connection.request("POST", "/fhir", one.body, self._headers)
            answer = opened.connection.getresponse()
            answered: bytes = answer.read()
            assert answer.status == 200, answered[:500]
            return answered

        with ThreadPoolExecutor(self._connections) as threads:
            return list(threads.map(post, bundles))

    @contextmanager
    def reading(self, path: str) -> Iterator[list[float]]:
        """Seconds each read took, one every READ_EACH_S as long as the block lasts."""
        took_s: list[float] = []
        ended = threading.Event()

        def read() -> None:
            connection = self._open()
            while not ended.wait(READ_EACH_S):
                began_s = time.perf_counter()
                connection.request("GET", path, headers=self._headers)
                answer = connection.getresponse()
                answer.read()
                took_s.append(time.perf_counter() - began_s)
                assert answer.status == 200, answer.status
            connection.close()

        with ThreadPoolExecutor(1) as threads:
            reader = threads.submit(read)
            try:
                yield took_s
            finally:
                ended.set()
                reader.result()

    def _open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._place, timeout=120)


# ---- the measure


@dataclass(frozen=True)
class Took:
    """Seconds: by the clock, of the server process by stage, of PostgreSQL, of the clients, and of each read."""

    wall_s: float
    stages_s: Mapping[str, float]
    postgres_s: float
    client_s: float
    reads_s: list[float]

    @property
    def served_s(self) -> float:
        return sum(self.stages_s.values()) + self.postgres_s


def measure(client: Client, server: "Serving", postgres: Server, bundles: list[Sent], path: str) -> Took:
    server.stages()
    before = server.process.cpu_s(), postgres.cpu_s(), time.process_time(), time.perf_counter()
    with client.reading(path) as reads_s:
        client.send(bundles)
        after = server.process.cpu_s(), postgres.cpu_s(), time.process_time(), time.perf_counter()
    whole_s, behind_s, client_s, wall_s = (last - first for first, last in zip(before, after, strict=True))
    stages_s = server.stages()
    return Took(wall_s, {**stages_s, "rest": whole_s - sum(stages_s.values())}, behind_s, client_s, reads_s)


class Serving:
    """`ehr serve` with its clocks."""

    def __init__(self, pid: int, place: Path) -> None:
        self.process = Process(pid)
        self._pid = pid
        self._place = place

    def stages(self) -> dict[str, float]:
        """CPU seconds by stage since this was asked last."""
        self._place.unlink(missing_ok=True)
        os.kill(self._pid, signal.SIGUSR1)
        while not self._place.exists():
            time.sleep(0.01)
        told: dict[str, float] = orjson.loads(self._place.read_bytes())
        return told


async def limit_of(postgres: Server, url: str, sent: list[Sent]) -> float:
    """CPU seconds to parse the same Bundles and to copy the bytes of their resources."""
    lines = [orjson.dumps(entry["resource"]) for one in sent for entry in orjson.loads(one.body)["entry"]]
    connection = await asyncpg.connect(url)
    await connection.execute("create table raw (number bigint, body bytea)")
    await connection.execute("alter table raw alter body set storage external")

    async def act() -> None:
        for one in sent:
            orjson.loads(one.body)
        await raw_copy(connection, lines)

    seconds = sum(await postgres.measure(act))
    await connection.close()
    return seconds


def report(took: Took, sent: list[Sent], limit_s: float, clients: int) -> float:
    count, size = sum(one.count for one in sent), sum(len(one.body) for one in sent)
    print(f"{count:,} resources in {len(sent)} Bundles of {size / len(sent) / 1e6:.2f} MB, {clients} clients")
    for name, seconds in (*took.stages_s.items(), ("PostgreSQL", took.postgres_s)):
        print(f"{name:12}{seconds / count * 1e6:>8.1f} µs CPU a resource")
    print(f"{'together':12}{took.served_s / count * 1e6:>8.1f}")
    print(f"{'the clients':12}{took.client_s / count * 1e6:>8.1f}, not counted")
    milliseconds = sorted(1000 * one for one in took.reads_s)
    middle, late = statistics.median(milliseconds), milliseconds[len(milliseconds) * 95 // 100]
    print(f"a read meanwhile: {middle:.0f} ms, 95 of 100 below {late:.0f}, the longest {milliseconds[-1]:.0f}")
    print(f"{count / took.wall_s:,.0f} resources/s by the clock (goal {GOAL:,})")
    print(f"{count / took.served_s:,.0f} resources a CPU second of server and PostgreSQL")
    ratio = limit_s / took.served_s
    print(f"ratio to the limit {ratio:.3f}, at least {RATIO_MIN}")
    return ratio


# ---- the store


async def prepared(folder: Path, stored: int) -> tuple[EmbeddedPostgres, str, int]:
    """A running database with so many resources and one registered facility; its URL and the facility's number."""
    postgres = EmbeddedPostgres(folder)
    url = await postgres.start()
    await migrate.upgrade(url)
    if stored:
        source = folder / "ndjson"
        await asyncio.to_thread(_city.city().write, source, stored)
        await _city.load(url, folder, source)
    record = await open_record(Settings(data_dir=folder, pool_connections_max=2), url)
    try:
        (facility_id,) = (await register(record, count=1)).ids.values()
        async with record.database.acquire() as connection:
            await connection.execute("vacuum analyze")
    finally:
        await record.close()
    return postgres, url, facility_id


def run(runner: asyncio.Runner, folder: Path, url: str, facility_id: int, given: argparse.Namespace) -> float:
    bundles = inputs(given.bundles)
    warm, sent = up_to(WARM_RESOURCES, bundles), up_to(given.resources, bundles)
    settings = {"EHR_DATA_DIR": str(folder), "EHR_DATABASE_URL": url, "EHR_LOG_LEVEL": "WARNING"}
    settings["EHR_BROKER_URL"] = "redis://127.0.0.1:1/0"  # no worker beside it
    place = folder / "stages.json"
    command = ("benchmarks._stages", str(place), "serve", "--port", "0", "--mllp-port", "0")
    postgres = Server(folder)
    with started(*command, **settings) as (pid, address):
        tokens = Tokens(load_keys(folder), issuer=f"{address}/fhir", clock=SystemClock())
        client = Client(address, issue_token(tokens, "benchmark", SCOPES, facility_id=facility_id), given.clients)
        answered = orjson.loads(client.send(warm)[0])
        path = "/fhir/" + answered["entry"][0]["response"]["location"].partition("/_history")[0]
        loads = " ".join(f"{one:.1f}" for one in os.getloadavg())
        took = measure(client, Serving(pid, place), postgres, sent, path)
    print(f"load {loads} before, {os.cpu_count()} cores, {given.stored:,} resources stored before")
    return report(took, sent, runner.run(limit_of(postgres, url, sent)), given.clients)


def main() -> int:
    parser = argparse.ArgumentParser(description="transaction Bundles over HTTP")
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--stored", type=int, default=200_000)
    parser.add_argument("--resources", type=int, default=40_000)
    parser.add_argument("--clients", type=int, default=6)
    given = parser.parse_args()
    with scratch() as folder, asyncio.Runner() as runner:
        postgres, url, facility_id = runner.run(prepared(folder, given.stored))
        try:
            return int(run(runner, folder, url, facility_id, given) < RATIO_MIN)
        finally:
            runner.run(postgres.stop())


if __name__ == "__main__":
    sys.exit(main())
