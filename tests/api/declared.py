"""SearchParameters and what they find, for the tests that add some."""

from typing import Any

import httpx

from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.store.record import Record
from ehr.worker import handlers_of

BLOOD = "http://example.org/fhir/StructureDefinition/blood-group"


def parameter(code: str = "blood-group", **changed: Any) -> dict[str, Any]:
    made = {
        "resourceType": "SearchParameter",
        "id": code,
        "url": f"http://example.org/fhir/SearchParameter/{code}",
        "name": "Added",
        "status": "active",
        "description": "What a test looks for.",
        "code": code,
        "base": ["Patient"],
        "type": "string",
        "expression": f"Patient.extension.where(url = '{BLOOD}').value.ofType(string)",
    }
    return made | changed


def patient(number: int, group: str = "A+", **members: Any) -> dict[str, Any]:
    extension = [{"url": BLOOD, "valueString": group}]
    return {"resourceType": "Patient", "id": f"p{number}", "extension": extension, **members}


async def finish(record: Record) -> None:
    """Work until no chunk is due."""
    while await work(Queue(record.database), handlers_of(record), record.clock):
        pass


async def put(client: httpx.AsyncClient, tree: dict[str, Any]) -> None:
    answer = await client.put(f"/{tree['resourceType']}/{tree['id']}", json=tree)
    assert answer.status_code in (200, 201), answer.text


async def found(client: httpx.AsyncClient, query: str, type_name: str = "Patient") -> list[str]:
    """Ids of all pages."""
    ids: list[str] = []
    url: str | None = f"/{type_name}?{query}"
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        ids += [entry["resource"]["id"] for entry in bundle.get("entry", [])]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    return ids


async def listed(client: httpx.AsyncClient, type_name: str = "Patient") -> dict[str, Any]:
    statement = (await client.get("/metadata")).json()
    resources = {one["type"]: one for one in statement["rest"][0]["resource"]}
    return {one["name"]: one for one in resources[type_name]["searchParam"]}
