"""A read and a search page over HTTP against a bare ASGI function that fetches the same bytes, in the same run.

Run:     python -m benchmarks.read
Out:     CPU microseconds of the server process per request, ours and bare, and the ratio of the medians to its limit
Why CPU: wall time says how busy the machine was; the CPU of one process in alternating rounds can be compared
Access:  enforced, with a token; the audit row of every access is written
"""

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop

from ehr.access.authenticate import Authenticator, issue_token
from ehr.api.server import run_http
from ehr.app import create_app
from ehr.clock import SystemClock
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.fhir.r4 import TYPE_IDS
from ehr.ops import logging
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

READ_LIMIT, SEARCH_LIMIT = 1.5, 2.0
PAGE = 20
RESOURCES = 2_000
ROUNDS = 7
READS, SEARCHES = 600, 120


def observation(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{number % 50}-1", "display": "A test"}]},
        "subject": {"reference": f"Patient/p{number // PAGE}"},
        "effectiveDateTime": f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}T08:00:00+07:00",
        "valueQuantity": {"value": number % 100, "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "note": [{"text": "Bệnh nhân nhịn ăn trước khi lấy mẫu. " * 8}],
    }


def bare(record: Record) -> Any:
    """The limit: the same bytes by key, and nothing else."""
    type_id = TYPE_IDS["Observation"]

    async def application(scope: Any, _: Any, send: Any) -> None:
        ids = scope["path"].rsplit("/", 1)[1].split(",")
        async with record.database.acquire() as connection:
            rows = await connection.fetch("SELECT body FROM resource WHERE type_id = $1 AND id = ANY($2)", type_id, ids)
        body = b",".join(record.bodies.decompress(row["body"]) for row in rows)
        headers = [(b"content-type", b"application/fhir+json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


async def serve(url: str, data_dir: Path) -> None:
    """The server process: both applications over one pool; prints their ports and serves until its input ends."""
    logging.configure("WARNING", "json")
    settings = Settings(data_dir=data_dir, port=0)
    record = await open_record(settings, url)
    ours = await run_http(create_app(record, settings), "127.0.0.1", 0)
    limit = await run_http(bare(record), "127.0.0.1", 0)
    print(ours.port, limit.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await ours.stop()
    await limit.stop()
    await record.close()


async def cpu_us(process: psutil.Process, ask: Callable[[int], Awaitable[httpx.Response]], count: int) -> float:
    """CPU of the server for one request."""
    before = process.cpu_times()
    for number in range(count):
        (await ask(number)).raise_for_status()
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / count * 1e6


async def compare(client: httpx.AsyncClient, process: psutil.Process, ours: str, limit: str) -> None:
    def page(number: int) -> str:
        return ",".join(f"o{n}" for n in range(number * PAGE, number * PAGE + PAGE))

    for n in range(RESOURCES // PAGE):
        await client.put(f"{ours}/Patient/p{n}", json={"resourceType": "Patient", "id": f"p{n}"})
    for first in range(0, RESOURCES, PAGE):
        entries = [
            {"resource": observation(n), "request": {"method": "PUT", "url": f"Observation/o{n}"}}
            for n in range(first, first + PAGE)
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        (await client.post(ours, json=bundle)).raise_for_status()
    pages = RESOURCES // PAGE
    shapes: list[tuple[str, float, int, Any, Any]] = [
        (
            "read",
            READ_LIMIT,
            READS,
            lambda n: client.get(f"{ours}/Observation/o{n % RESOURCES}"),
            lambda n: client.get(f"{limit}/o{n % RESOURCES}"),
        ),
        (
            f"search page of {PAGE}",
            SEARCH_LIMIT,
            SEARCHES,
            lambda n: client.get(f"{ours}/Observation?patient=p{n % pages}"),
            lambda n: client.get(f"{limit}/{page(n % pages)}"),
        ),
    ]
    for name, bound, count, ask, ask_bare in shapes:
        rounds = [(await cpu_us(process, ask, count), await cpu_us(process, ask_bare, count)) for _ in range(ROUNDS)]
        mine, theirs = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
        ratio = mine / theirs
        said = "within" if ratio <= bound else "over"
        print(f"{name:20} ours {mine:6.0f} µs   bare {theirs:6.0f} µs   ratio {ratio:.2f}   {said} the limit {bound}")


async def run(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder / "data")
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.read", url, str(folder), stdin=-1, stdout=-1
        )
        assert child.stdout is not None
        assert child.stdin is not None
        ours, limit = (await child.stdout.readline()).decode().split()
        base = f"http://127.0.0.1:{ours}/fhir"
        settings = Settings(data_dir=folder, port=0)
        token = issue_token(Authenticator(_Clocked(), settings).tokens, "benchmark", "system/*.cruds")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
        async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as client:
            await compare(client, psutil.Process(child.pid), base, f"http://127.0.0.1:{limit}")
        child.stdin.close()
        await child.wait()
    finally:
        await postgres.stop()


class _Clocked:
    """What signing a token needs of a record."""

    clock = SystemClock()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
    else:
        with tempfile.TemporaryDirectory(prefix="ehr-bench-") as made:
            Path(made).chmod(0o755)
            asyncio.run(run(Path(made)))
