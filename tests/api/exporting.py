"""A client of $export: kick-off, the worker's part, manifest, files."""

import json
from typing import Any

import httpx

from ehr.bulk import export, export_job
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from tests.api.conftest import City

Lines = list[dict[str, Any]]


async def work_on(city: City, job_id: str | None = None) -> None:
    """Be the worker until nothing is due."""
    record = city.record
    await work(Queue(record.database), {export_job.KIND: export.handler(record)}, record.clock, job_id=job_id)


async def begun(client: httpx.AsyncClient, url: str, body: dict[str, Any] | None = None, **headers: str) -> str:
    """Kick off; the address of the job."""
    headers = {"Prefer": "respond-async", **headers}
    answer = await (client.get(url, headers=headers) if body is None else client.post(url, json=body, headers=headers))
    assert answer.status_code == 202, answer.text
    return answer.headers["content-location"]


async def manifest_of(
    city: City, client: httpx.AsyncClient, url: str, body: dict[str, Any] | None = None, **headers: str
) -> dict[str, Any]:
    """Kick off, work, and the manifest."""
    address = await begun(client, url, body, **headers)
    await work_on(city)
    answer = await client.get(address)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def lines_of(client: httpx.AsyncClient, manifest: dict[str, Any], kind: str = "output") -> Lines:
    """Every line of the manifest's files; their number is what the manifest says."""
    found: Lines = []
    for one in manifest[kind]:
        answer = await client.get(one["url"])
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/fhir+ndjson"
        lines = [json.loads(line) for line in answer.content.splitlines()]
        assert len(lines) == one["count"]
        if "type" in one:
            assert {line["resourceType"] for line in lines} == {one["type"]}
        found += lines
    return found


async def exported(
    city: City, client: httpx.AsyncClient, url: str, body: dict[str, Any] | None = None, **headers: str
) -> Lines:
    return await lines_of(client, await manifest_of(city, client, url, body, **headers))


def references(lines: Lines) -> set[str]:
    return {f"{line['resourceType']}/{line['id']}" for line in lines}
