"""A read and search pages of `ehr serve` against a bare ASGI function that fetches the same bytes, in the same run.

Run:     python -m benchmarks.read [--resources 20000] [--rounds 7]
Out:     CPU microseconds per request of each server process and of PostgreSQL behind it, the medians of alternating
         rounds, and the ratio of the server processes to its limit; exit code 1 where one is over it
Bare:    the limit: uvicorn on the same event loop, one route, the rows by their keys with asyncpg, decompressed; no
         access, no audit
Ours:    the whole product as started by others: access enforced, a token checked, the audit row written
Why CPU: wall time says how busy the machine was; CPU seconds of one process in alternating rounds can be compared
"""

import argparse
import asyncio
import gc
import http.client
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import uvicorn
import uvloop

from benchmarks import _city
from benchmarks._scratch import scratch
from ehr.access.authenticate import issue_token
from ehr.access.keys import load_keys
from ehr.access.token import Tokens
from ehr.clock import SystemClock
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.database.engine import Database
from ehr.fhir.r4 import TYPE_IDS
from ehr.store.dictionaries import load_bodies

READ_LIMIT, SEARCH_LIMIT = 1.5, 2.0
PAGE: Final = 20
READS, PAGES = 4_000, 2_000
"""Requests of one round: half a second of CPU at least, because the kernel counts it in hundredths."""
CODES: Final = 200
CONNECTIONS: Final = 8
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


# ---- the store


def patient(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [{"system": "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id", "value": f"{number:08}"}],
        "name": [{"use": "official", "text": "Nguyễn Thị Đào", "family": "Nguyễn", "given": ["Thị", "Đào"]}],
        "gender": ("female", "male")[number % 2],
        "birthDate": f"{1930 + number % 90}-{number % 12 + 1:02}-{number % 28 + 1:02}",
        "address": [{"use": "home", "city": "Phường Hàng Bạc", "district": "Quận Hoàn Kiếm", "country": "VN"}],
        "telecom": [{"system": "phone", "value": f"09{number:08}"}],
    }


def observation(number: int) -> dict[str, Any]:
    """Twenty of each patient."""
    code = {"system": "http://loinc.org", "code": f"{number * 7 % CODES}-1", "display": "Glucose [Moles/volume]"}
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "category": [{"coding": [{"system": f"{TERMINOLOGY}/observation-category", "code": "laboratory"}]}],
        "code": {"coding": [code], "text": "Glucose máu"},
        "subject": {"reference": f"Patient/p{number // PAGE}"},
        "effectiveDateTime": f"20{number % 20 + 5:02}-{number % 12 + 1:02}-{number % 28 + 1:02}T08:00:00+07:00",
        "valueQuantity": {"value": number % 100, "unit": "mmol/L", "system": "http://unitsofmeasure.org"},
        "interpretation": [{"coding": [{"system": f"{TERMINOLOGY}/v3-ObservationInterpretation", "code": "N"}]}],
        "note": [{"text": "Bệnh nhân nhịn ăn trước khi lấy mẫu. " * 3}],
    }


TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"


def write(folder: Path, resources: int) -> int:
    """NDJSON files of so many resources, one in 21 a Patient; how many Patients."""
    patients = max(resources // (PAGE + 1), 1)
    for name, made, count in (("Patient", patient, patients), ("Observation", observation, resources - patients)):
        with (folder / f"{name}.ndjson").open("wb") as file:
            file.writelines(orjson.dumps(made(number)) + b"\n" for number in range(count))
    return patients


async def load(url: str, folder: Path, resources: int) -> int:
    """Through the import, as a city is loaded."""
    source = folder / "ndjson"
    source.mkdir()
    patients = write(source, resources)
    assert await _city.load(url, folder, source) == resources
    return patients


# ---- the limit


async def bare(url: str) -> None:
    """The limit's own process: GET /Type/id,id,… → the bodies, joined; prints its port and serves until it is ended."""
    database = await Database.open(url, connections_max=CONNECTIONS)
    bodies = await load_bodies(database)
    pool = database.pool

    async def application(scope: Any, _: Any, send: Any) -> None:
        _, type_name, ids = scope["path"].split("/")
        wanted = ids.split(",")
        async with pool.acquire() as connection:
            rows = await connection.fetch(BODIES, TYPE_IDS[type_name], wanted)
        body = b",".join([bodies.decompress(row["body"]) for row in rows])
        headers = [(b"content-type", b"application/fhir+json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    class Announced(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(f"ready http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    config = uvicorn.Config(
        application,
        port=0,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    await Announced(config).serve()
    await database.close()


BODIES: Final = "SELECT body FROM resource WHERE type_id = $1 AND id = ANY($2::text[])"


# ---- the measure


class Process:
    """CPU seconds of a process, or of a process and its children, those that have ended included."""

    def __init__(self, pid: int, *, family: bool = False) -> None:
        self._pid, self._family = pid, family

    def cpu_s(self) -> float:
        if not self._family:
            return sum(_ticks(self._pid)[:2]) * TICK_S
        ticks = sum(_ticks(self._pid))
        for child in Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended, and its parent counts it
                ticks += sum(_ticks(int(child))[:2])
        return ticks * TICK_S


def _ticks(pid: int) -> list[int]:
    """utime, stime, cutime, cstime: fields 14 to 17 of proc(5), counted behind the name, which may hold anything."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


class Client:
    """Several connections that ask at once. Both servers still wait for us now and then (docs/performance.md)."""

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        self._place = address.removeprefix("http://")
        self._headers = headers
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    def get(self, path: str) -> bytes:
        return self._get([path])[0]

    def get_all(self, paths: Sequence[str]) -> None:
        """Every path once."""
        for answers in self._threads.map(self._get, (paths[n::CONNECTIONS] for n in range(CONNECTIONS))):
            assert all(answers)

    def _get(self, paths: Sequence[str]) -> list[bytes]:
        """One connection of its own; what rests between rounds would be closed by the server."""
        connection = http.client.HTTPConnection(self._place, timeout=60)
        bodies = []
        for path in paths:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            bodies.append(answer.read())
            assert answer.status == 200, bodies[-1][:500]
        connection.close()
        return bodies


@dataclass(frozen=True)
class Shape:
    """A kind of request, as addresses of either server for each round; of one round only, they are asked in each."""

    name: str
    limit: float
    ours: Sequence[Sequence[str]]
    bare: Sequence[Sequence[str]]


def measured(side: "Side", database: Process, paths: Sequence[str]) -> list[float]:
    """Microseconds of CPU per request: of the server, and of PostgreSQL."""
    before = side.process.cpu_s(), database.cpu_s()
    side.client.get_all(paths)
    after = side.process.cpu_s(), database.cpu_s()
    return [(last - first) / len(paths) * 1e6 for first, last in zip(before, after, strict=True)]


@dataclass(frozen=True)
class Side:
    """One of the two servers."""

    process: Process
    client: Client


def compare(ours: Side, bare: Side, database: Process, shape: Shape, rounds: int) -> float:
    """Alternating rounds of both, after one that warms them; prints a line and returns the ratio."""
    taken: list[list[float]] = []
    for number in range(rounds + 1):
        gc.collect()
        mine = measured(ours, database, shape.ours[number % len(shape.ours)])
        theirs = measured(bare, database, shape.bare[number % len(shape.bare)])
        taken.append([*mine, *theirs])
    columns: list[float] = [statistics.median(column) for column in zip(*taken[1:], strict=True)]
    us, us_database, limit, limit_database = columns
    ratio = us / limit
    said = "within" if ratio <= shape.limit else "over"
    figures = f"{us:8.0f}{limit:8.0f}{ratio:8.2f}  {said:6} {shape.limit}{us_database:12.0f}{limit_database:8.0f}"
    print(f"{shape.name:32}{figures}", flush=True)
    return ratio


def shapes_of(ours: Client, patients: int, resources: int, rounds: int) -> Iterator[Shape]:
    """What is asked. The bare server is asked for the same rows by their keys. Patients are others in each round, as
    far as there are so many: what a server remembers of a search must not help it; codes and categories come back."""

    def patient(number: int) -> str:
        return f"p{number * 7919 % patients}"

    reads = [[patient(of * READS + n) for n in range(READS)] for of in range(rounds + 1)]
    yield Shape(
        "read Patient/[id]",
        READ_LIMIT,
        [[f"/fhir/Patient/{id}" for id in ids] for ids in reads],
        [[f"/Patient/{id}" for id in ids] for ids in reads],
    )
    queries: dict[str, list[list[str]]] = {
        "one patient": [[f"patient={patient(of * PAGES + n)}" for n in range(PAGES)] for of in range(rounds + 1)],
        "a code, newest": [[f"code=http://loinc.org|{n % CODES}-1&_sort=-date" for n in range(PAGES)]],
        "a category": [[f"category=laboratory&_count={PAGE}"] * PAGES],
    }
    for name, asked in queries.items():
        addresses = [[f"/fhir/Observation?{query}" for query in of] for of in asked]
        found = [[_ids(ours.get(address)) for address in of] for of in addresses]
        assert all(len(ids) == PAGE for of in found for ids in of) or resources < CODES * PAGE * 2, name
        bare = [[f"/Observation/{','.join(ids)}" for ids in of] for of in found]
        yield Shape(f"page of {PAGE}, {name}", SEARCH_LIMIT, addresses, bare)


def _ids(body: bytes) -> list[str]:
    return [entry["resource"]["id"] for entry in orjson.loads(body)["entry"]]


def same(ours: Side, bare: Side) -> None:
    """Both give the same bytes."""
    read = ours.client.get("/fhir/Patient/p0")
    assert read == bare.client.get("/Patient/p0")
    page = ours.client.get("/fhir/Observation?patient=p0")
    for id in _ids(page):
        assert bare.client.get(f"/Observation/{id}") in page


@contextmanager
def started(*command: str, **environment: str) -> Iterator[tuple[int, str]]:
    """A server process; its pid and the address it says it is ready at."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EHR_")}
    process = subprocess.Popen([sys.executable, "-m", *command], env=kept | environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        words = process.stdout.readline().decode().split()
        assert words[:1] == ["ready"], words
        yield process.pid, words[1].removesuffix("/fhir")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def run(url: str, folder: Path, patients: int, resources: int, rounds: int) -> bool:
    """Whether every ratio is within its limit."""
    postmaster = int((folder / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
    settings = {"EHR_DATA_DIR": str(folder), "EHR_DATABASE_URL": url, "EHR_LOG_LEVEL": "WARNING"}
    settings["EHR_BROKER_URL"] = "redis://127.0.0.1:1/0"  # no worker beside it
    serve = started("ehr", "serve", "--port", "0", "--mllp-port", "0", **settings)
    with serve as (our_pid, address), started("benchmarks.read", "--bare", url) as (bare_pid, bare_address):
        tokens = Tokens(load_keys(folder), issuer=f"{address}/fhir", clock=SystemClock())
        headers = {"Authorization": f"Bearer {issue_token(tokens, 'benchmark', 'system/*.rs')}"}
        ours = Side(Process(our_pid), Client(address, headers))
        bare = Side(Process(bare_pid), Client(bare_address, {}))
        same(ours, bare)
        print(f"{resources:,} resources; CPU microseconds a request; PostgreSQL counts in no ratio")
        print(f"{'':32}{'ours':>8}{'bare':>8}{'ratio':>8}  limit     {'PostgreSQL':>12}{'bare':>8}")
        database = Process(postmaster, family=True)
        within = True
        for shape in shapes_of(ours.client, patients, resources, rounds):
            within &= compare(ours, bare, database, shape, rounds) <= shape.limit
    return within


async def prepared(folder: Path, resources: int) -> tuple[EmbeddedPostgres, str, int]:
    postgres = EmbeddedPostgres(folder)
    url = await postgres.start()
    await migrate.upgrade(url)
    return postgres, url, await load(url, folder, resources)


def main() -> int:
    parser = argparse.ArgumentParser(description="reads and search pages against a bare function")
    parser.add_argument("--resources", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bare", metavar="URL", help="be the limit's process")
    given = parser.parse_args()
    if given.bare:
        uvloop.run(bare(given.bare))
        return 0
    with scratch() as folder, asyncio.Runner() as runner:
        postgres, url, patients = runner.run(prepared(folder, given.resources))
        try:
            return 0 if run(url, folder, patients, given.resources, given.rounds) else 1
        finally:
            runner.run(postgres.stop())


if __name__ == "__main__":
    sys.exit(main())
