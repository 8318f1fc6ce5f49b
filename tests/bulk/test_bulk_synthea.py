"""Synthea's files, made by a generator that is not ours, imported and searched: each answer is counted from them.

The reader here is the standard library's json and plain loops; nothing of the program's parsing or indexing is used.
"""

import functools
import gzip
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ehr.api.server import run_http
from ehr.app import create_app
from ehr.bulk import job
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

Resource = dict[str, Any]


def read(path: Path) -> list[Resource]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


@pytest.fixture(scope="session")
def files(shared_data: Path) -> list[Path]:
    found = sorted((shared_data / "synthea-10" / "ndjson").glob("*.ndjson.gz"))
    assert found
    return found


@pytest.fixture(scope="session")
def resources(files: list[Path]) -> list[Resource]:
    return [one for path in files for one in read(path)]


async def imported(record: Record, settings: Settings, paths: list[Path]) -> job.Summary:
    queue = Queue(record.database)
    job_id = await job.plan(queue, paths, settings.data_dir / "imports")
    opener = functools.partial(open_record, settings, record.database.url)
    return await job.run_here(record, queue, job_id, opener, processes=1, seen=lambda _: None)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def codes(concept: Resource | None) -> set[tuple[str, str]]:
    return {(coding["system"], coding["code"]) for coding in (concept or {}).get("coding", [])}


def searches(resources: list[Resource]) -> list[tuple[str, Callable[[Resource], bool]]]:
    """Search, and which resources it must find. 'The' patient is the one with most observations."""
    subjects = Counter(
        one["subject"]["reference"].split("/")[1] for one in resources if one["resourceType"] == "Observation"
    )
    patient, _ = subjects.most_common(1)[0]
    by_id = {one["id"]: one for one in resources}
    height = ("http://loinc.org", "8302-2")

    def of_patient(one: Resource) -> bool:
        return bool(one.get("subject", {}).get("reference") == f"Patient/{patient}")

    def is_woman(one: Resource) -> bool:
        return bool(by_id[one["subject"]["reference"].split("/")[1]]["gender"] == "female")

    return [
        ("Patient?gender=female", lambda r: r["gender"] == "female"),
        ("Patient?family=w", lambda r: any(name["family"].lower().startswith("w") for name in r["name"])),
        ("Patient?birthdate=ge1980-01-01", lambda r: r["birthDate"] >= "1980-01-01"),
        (f"Patient?identifier={patient}", lambda r: any(i["value"] == patient for i in r["identifier"])),
        ("Observation?code=http://loinc.org|8302-2", lambda r: height in codes(r["code"])),
        (f"Observation?patient={patient}", of_patient),
        (
            f"Observation?patient=Patient/{patient}&date=ge2015-01-01T00:00:00Z",
            lambda r: of_patient(r) and day(r["effectiveDateTime"]) >= datetime(2015, 1, 1, tzinfo=UTC),
        ),
        (
            "Observation?code=8302-2&value-quantity=gt150",
            lambda r: height in codes(r["code"]) and r["valueQuantity"]["value"] > 150,
        ),
        ("Observation?subject:Patient.gender=female", is_woman),
        ("Encounter?class=AMB", lambda r: r["class"]["code"] == "AMB"),
        (
            "Encounter?date=ge2018-01-01T00:00:00Z",
            lambda r: day(r["period"]["end"]) >= datetime(2018, 1, 1, tzinfo=UTC),
        ),
        ("Condition?clinical-status=resolved", lambda r: "resolved" in {c for _, c in codes(r["clinicalStatus"])}),
        ("MedicationRequest?status=stopped,cancelled", lambda r: r["status"] in {"stopped", "cancelled"}),
        ("Procedure?performer:missing=true", lambda r: "performer" not in r),
        ("DiagnosticReport?status=final", lambda r: r["status"] == "final"),
    ]


async def test_counts_and_searches_equal_what_the_files_say(
    record: Record, settings: Settings, files: list[Path], resources: list[Resource]
) -> None:
    done = await imported(record, settings, files)
    assert (done.state, done.lines, done.stored, done.refused) == ("done", len(resources), len(resources), 0)
    settings = settings.model_copy(update={"access": "open"})
    server = await run_http(create_app(record, settings), "127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=server.base_url, trust_env=False, timeout=60) as client:
            for type_name, count in Counter(one["resourceType"] for one in resources).items():
                assert await total(client, type_name) == count, type_name
            for query, matches in searches(resources):
                type_name = query.partition("?")[0]
                wanted = {one["id"] for one in resources if one["resourceType"] == type_name and matches(one)}
                assert wanted, f"{query} is a search that finds something"
                assert await total(client, query) == len(wanted), query
                assert await ids(client, query) == wanted, query
            await bodies_are_as_sent(client, resources)
    finally:
        await server.stop()


async def total(client: httpx.AsyncClient, query: str) -> int:
    answer = await client.get(f"/{query}{'&' if '?' in query else '?'}_summary=count")
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["total"]
    return found


async def ids(client: httpx.AsyncClient, query: str) -> set[str]:
    """Every id the pages of a search give; none may come twice."""
    found: list[str] = []
    url: str | None = f"/{query}&_count=200"
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        found += [entry["resource"]["id"] for entry in bundle.get("entry", [])]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    assert len(found) == len(set(found))
    return set(found)


async def bodies_are_as_sent(client: httpx.AsyncClient, resources: list[Resource]) -> None:
    for one in resources[:: len(resources) // 40]:
        answer = (await client.get(f"/{one['resourceType']}/{one['id']}")).json()
        assert answer["meta"].pop("versionId") == "1"
        answer["meta"].pop("lastUpdated")
        if not answer["meta"]:
            del answer["meta"]
        assert answer == one


async def test_again_changes_nothing_and_a_change_becomes_a_version(
    record: Record, settings: Settings, files: list[Path], tmp_path: Path
) -> None:
    patients = next(path for path in files if path.name.startswith("Patient"))
    first = await imported(record, settings, [patients])
    again = await imported(record, settings, [patients])
    assert (again.stored, again.updated, again.unchanged) == (0, 0, first.stored)
    changed = read(patients)
    changed[0]["active"] = False
    lines = [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in changed]
    target = tmp_path / "Patient.ndjson"
    target.write_text("\n".join([*lines, lines[0]]) + "\n")
    after = await imported(record, settings, [target])
    assert (after.lines, after.stored, after.updated) == (len(lines) + 1, 0, 1)
    async with record.database.acquire() as connection:
        versions = await connection.fetchval("select version from resource where id = $1", changed[0]["id"])
        kept = await connection.fetchval("select count(*) from resource_history where id = $1", changed[0]["id"])
    assert (versions, kept) == (2, 1)
