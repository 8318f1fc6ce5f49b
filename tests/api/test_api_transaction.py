"""transaction and batch over HTTP, and the door of a facility's Bundles."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import orjson
import pytest

from ehr.access.policy import Caller
from tests.api.conftest import City
from tests.api.mothers import CCCD, MRN, bundle, entry, observation, patient

URN = "urn:uuid:6f1b6c1e-7d0f-4a53-9b0e-0123456789ab"


def visit(number: str = "1") -> dict[str, Any]:
    return bundle(
        "transaction",
        entry("PUT", f"Patient?identifier={MRN}|{number}", patient((MRN, number)), fullUrl=URN),
        entry("POST", "Observation", observation(URN)),
    )


async def test_a_transaction_is_stored_together_with_its_references(client: httpx.AsyncClient) -> None:
    answer = await client.post("/", json=visit())
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["type"], [e["response"]["status"][:3] for e in made["entry"]]) == ("transaction-response", ["201"] * 2)
    patient_id = made["entry"][0]["response"]["location"].split("/")[1]
    stored = await client.get("/" + made["entry"][1]["response"]["location"])
    assert stored.json()["subject"]["reference"] == f"Patient/{patient_id}"


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_a_document_within_keeps_the_names_of_its_own_entries(client: httpx.AsyncClient, kind: str) -> None:
    composition: dict[str, Any] = {"resourceType": "Composition", "status": "final", "type": {"text": "t"}}
    composition |= {"date": "2026", "title": "t", "author": [{"display": "a"}], "subject": {"reference": URN}}
    first = {"fullUrl": URN[:-1] + "c", "resource": composition}
    document = bundle("document", first, {"fullUrl": URN, "resource": patient()})
    document |= {"identifier": {"system": "urn:x", "value": "1"}, "timestamp": "2026-11-30T08:00:00+07:00"}
    beside = entry("POST", "Patient", patient((MRN, "9")), fullUrl=URN)
    answer = await client.post("/", json=bundle(kind, entry("POST", "Bundle", document), beside))
    made = answer.json()["entry"]
    assert [one["response"]["status"] for one in made] == ["201 Created"] * 2, made
    stored = (await client.get("/" + made[0]["response"]["location"])).json()
    assert stored["entry"] == document["entry"]


async def test_a_transaction_is_all_or_nothing(client: httpx.AsyncClient) -> None:
    bad = visit()
    bad["entry"].append(entry("PUT", "Patient/p9", patient(id="p9"), request={"ifMatch": 'W/"4"'}))
    refused = await client.post("/", json=bad)
    assert refused.status_code == 412
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[2].request.ifMatch"]
    assert (await client.get("/Patient", params={"_summary": "count"})).json()["total"] == 0


async def test_a_batch_answers_each_entry(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient((MRN, "1"), id="p1"))
    asked = bundle(
        "batch",
        entry("GET", "Patient/p1"),
        entry("GET", f"Patient?identifier={MRN}|1"),
        entry("POST", "Patient", patient(gender="f")),
        entry("DELETE", "Patient/absent"),
    )
    answers = (await client.post("/", json=asked)).json()["entry"]
    assert [e["response"]["status"][:3] for e in answers] == ["200", "200", "400", "204"]
    assert answers[1]["resource"]["entry"][0]["resource"]["id"] == "p1"
    assert answers[2]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[2].resource.gender"]


async def test_prefer_representation_brings_the_resources(client: httpx.AsyncClient) -> None:
    answer = await client.post("/", json=visit(), headers={"Prefer": "return=representation"})
    assert [e["resource"]["resourceType"] for e in answer.json()["entry"]] == ["Patient", "Observation"]


async def test_a_transaction_under_a_key_happens_once(client: httpx.AsyncClient) -> None:
    body = bundle("transaction", entry("POST", "Patient", patient((CCCD, "001070000009"))))
    key = {"Idempotency-Key": "visit-1"}
    answers = await asyncio.gather(*(client.post("/", json=body, headers=key) for _ in range(4)))
    assert len({answer.content for answer in answers}) == 1
    assert (await client.get("/Patient", params={"_summary": "count"})).json()["total"] == 1


class Door:
    """A facility's door that remembers what came through it."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, Caller, Mapping[str, str]]] = []

    async def __call__(self, body: bytes, caller: Caller, headers: Mapping[str, str]) -> tuple[int, bytes]:
        self.seen.append((body, caller, headers))
        return 200, b'{"resourceType":"Bundle","type":"transaction-response"}'


class TestFacilityDoor:
    @pytest.fixture
    def app_options(self) -> dict[str, Any]:
        return {"facility_bundle": Door()}

    async def test_a_facilitys_transaction_goes_through_it_byte_for_byte(
        self, city: City, client: httpx.AsyncClient, facilities: list[int], app_options: dict[str, Any]
    ) -> None:
        door: Door = app_options["facility_bundle"]
        facility = city.system(facility_id=facilities[0], name="f1")
        sent = orjson.dumps(visit()) + b" \n"
        answer = await facility.post("/", content=sent, headers={"X-Request-Id": "message-1"})
        assert answer.json()["type"] == "transaction-response"
        assert [(body, caller.facility_id, headers["x-request-id"]) for body, caller, headers in door.seen] == [
            (sent, facilities[0], "message-1")
        ]
        await facility.post("/", content=b"{ not json")
        assert door.seen[1][0] == b"{ not json", "what cannot be read is kept by the ledger too"
        batch = await facility.post("/", json=bundle("batch", entry("GET", "Patient/absent")))
        assert batch.json()["type"] == "batch-response"
        await client.post("/", json=visit())
        assert len(door.seen) == 2
