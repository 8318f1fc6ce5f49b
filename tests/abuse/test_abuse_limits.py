"""Bounds of the API that no other test meets, each refused early and by name: met for real where that is cheap."""

import asyncio
from typing import Any

import httpx
import pytest

from ehr import limits
from ehr.operations import viewdefinition_run
from tests.api.conftest import JSON, City
from tests.api.mothers import bundle, entry, patient

EXPORT = {"Accept": JSON, "Prefer": "respond-async"}


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    """The status, and code and place of the only issue."""
    (issue,) = answer.json()["issue"]
    return answer.status_code, issue["code"], issue.get("expression", [None])[0]


def parameters(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(parts)}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_entries_of_a_bundle(client: httpx.AsyncClient, kind: str) -> None:
    one = entry("GET", "Patient/a")
    answer = await client.post("/", json=bundle(kind, *([one] * (limits.bundle_entries_max + 1))))
    assert refusal(answer) == (413, "too-costly", "Bundle.entry")


async def test_bytes_of_a_bundle_are_refused_before_they_are_read(city: City) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    token = city.system().headers["authorization"]
    writer.write(
        f"POST /fhir HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: {limits.bundle_bytes_max + 1}\r\n\r\n".encode()
    )
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()


async def test_versions_of_a_history_page(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "history_count_max", 2)
    for number in range(3):
        await client.put("/Patient/h", json=patient(id="h", active=bool(number % 2)))
    page = (await client.get("/Patient/h/_history?_count=100")).json()
    assert len(page["entry"]) == 2
    assert "next" in {link["relation"] for link in page["link"]}


async def test_patients_of_an_export(client: httpx.AsyncClient) -> None:
    one = {"name": "patient", "valueReference": {"reference": "Patient/p"}}
    asked = parameters(*([one] * (limits.export_patients_max + 1)))
    answer = await client.post("/Patient/$export", json=asked, headers=EXPORT)
    assert refusal(answer) == (413, "too-costly", "patient")


async def test_exports_under_way(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "export_jobs_max", 1)
    assert (await client.get("/$export", headers=EXPORT)).status_code == 202
    answer = await client.get("/$export", headers=EXPORT)
    assert refusal(answer)[:2] == (429, "throttled")
    assert answer.headers["retry-after"]


async def test_files_of_an_import(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "import_files_max", 1)
    part = [{"name": "type", "valueCode": "Patient"}, {"name": "url", "valueUri": "http://127.0.0.1/p.ndjson"}]
    one = {"name": "input", "part": part}
    answer = await client.post("/$import", json=parameters(one, one), headers={"Prefer": "respond-async"})
    assert refusal(answer) == (413, "too-costly", "input")


async def test_resources_a_view_looks_at(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "view_resources_max", 1)
    monkeypatch.setattr(viewdefinition_run, "PAGE", 1)
    await client.put("/Patient/v", json=patient(id="v"))
    await client.put("/Patient/w", json=patient(id="w"))
    column = [{"name": "id", "path": "id"}]
    view = {"resourceType": "ViewDefinition", "resource": "Patient", "select": [{"column": column}]}
    answer = await client.post("/$viewdefinition-run", json=parameters({"name": "viewResource", "resource": view}))
    assert refusal(answer)[:2] == (413, "too-costly")


async def test_depth_of_a_path_in_a_view(client: httpx.AsyncClient) -> None:
    column = [{"name": "id", "path": "(" * (limits.fhirpath_depth_max + 1) + "id"}]
    view = {"resourceType": "ViewDefinition", "resource": "Patient", "select": [{"column": column}]}
    answer = await client.post("/$viewdefinition-run", json=parameters({"name": "viewResource", "resource": view}))
    assert refusal(answer) == (413, "too-costly", "ViewDefinition.select[0].column[0].path")


async def test_bytes_of_a_token_request(city: City) -> None:
    form = {"grant_type": "client_credentials", "client_assertion": "a" * limits.token_request_bytes_max}
    async with httpx.AsyncClient(base_url=city.base.removesuffix("/fhir"), trust_env=False) as client:
        answer = await client.post("/oauth/token", data=form)
    assert answer.status_code in (400, 413)
    assert "error" in answer.json()
