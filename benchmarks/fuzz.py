"""10,000 requests nobody should send: no 500, nothing of the inside, no hang, and an OperationOutcome for each refusal.

Run:     python -m benchmarks.fuzz [--requests 10000] [--seed 1]
In:      a server in this process over a PostgreSQL of its own, with a few resources; requests of tests/abuse
Out:     one line for each family: requests and their statuses; the slowest; each fault with its request
Limit:   no fault; exit code 1 otherwise.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

import httpx

from benchmarks._scratch import scratch
from ehr.access.authenticate import issue_token
from ehr.api.server import run_http
from ehr.app import create_app
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.ops import logging
from ehr.record import open_record
from ehr.settings import Settings
from tests.abuse.asked import requests
from tests.abuse.storm import Weather, storm


async def run(count: int, seed: int, folder: Path) -> Weather:
    postgres = EmbeddedPostgres(folder / "postgres", Settings().postgres_bin, durable=False)
    url = await postgres.start()
    await migrate.upgrade(url)
    settings = Settings(data_dir=folder / "data", port=0)
    record = await open_record(settings, url)
    app = create_app(record, settings)
    server = await run_http(app, "127.0.0.1", 0)
    token = issue_token(app.state.authenticator.tokens, "fuzz", "system/*.cruds")
    try:
        async with httpx.AsyncClient(
            base_url=server.base_url.removesuffix("/fhir"),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"},
            timeout=60,
            trust_env=False,
        ) as client:
            return await storm(client, requests(count, seed, (await client.get("/openapi.json")).json()))
    finally:
        await server.stop()
        await record.close()
        await postgres.stop()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    said = arguments.parse_args()
    logging.configure("CRITICAL", "text")
    began_s = time.perf_counter()
    with scratch() as folder:
        weather = asyncio.run(run(said.requests, said.seed, folder))
    for family, statuses in weather.families().items():
        listed = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        print(f"{family:12} {statuses.total():6}   {listed}")
    print(f"{weather.sent.total()} requests in {time.perf_counter() - began_s:.0f} s")
    print(f"the slowest took {weather.slowest_s:.2f} s: {weather.slowest}")
    for family, fault, asked in weather.faults:
        print(f"FAULT {family}: {fault}\n  {asked}")
    return int(bool(weather.faults))


if __name__ == "__main__":
    sys.exit(main())
