"""X-Provenance: stored with the write, or refused; never passed over."""

import json
from typing import Any

import httpx
import pytest

from tests.api.conftest import City
from tests.api.mothers import bundle, entry, observation, patient

RECORDED = "2026-11-30T09:00:00+07:00"


def provenance(who: str = "Trạm y tế", **more: Any) -> dict[str, Any]:
    agent = [{"who": {"display": who}}]
    return {"resourceType": "Provenance", "recorded": RECORDED, "agent": agent, **more}


def header(tree: dict[str, Any] | None = None) -> dict[bytes, bytes]:
    return {b"X-Provenance": json.dumps(tree or provenance(), ensure_ascii=False).encode()}


async def stored(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found = (await client.get("/Provenance", params={"recorded": RECORDED, "_sort": "_id"})).json()
    return [one["resource"] for one in found.get("entry", ())]


async def test_a_write_brings_the_provenance_of_its_version(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p"), headers=header())
    await client.put("/Patient/p", json=patient(id="p", gender="male"), headers=header())
    change = [{"op": "replace", "path": "/gender", "value": "female"}]
    sent = {b"Content-Type": b"application/json-patch+json", **header()}
    assert (await client.patch("/Patient/p", json=change, headers=sent)).status_code == 200
    created = await client.post("/Observation", json=observation("Patient/p"), headers=header())
    kept = await stored(client)
    targets = [one["target"][0]["reference"] for one in kept]
    location = created.headers["location"].split("/fhir/")[1]
    assert targets == ["Patient/p/_history/1", "Patient/p/_history/2", "Patient/p/_history/3", location]
    assert {one["agent"][0]["who"]["display"] for one in kept} == {"Trạm y tế"}
    of_patient = (await client.get("/Provenance", params={"patient": "Patient/p", "recorded": RECORDED})).json()
    assert len(of_patient["entry"]) == 3


async def test_what_was_only_found_has_none(client: httpx.AsyncClient) -> None:
    who = patient(("urn:x", "1"))
    sent = {b"If-None-Exist": b"identifier=urn:x|1", **header()}
    assert (await client.post("/Patient", json=who, headers=sent)).status_code == 201
    assert (await client.post("/Patient", json=who, headers=sent)).status_code == 200
    assert len(await stored(client)) == 1


async def test_a_retry_stores_it_once(client: httpx.AsyncClient) -> None:
    sent = {b"Idempotency-Key": b"k1", **header()}
    first = await client.post("/Patient", json=patient(), headers=sent)
    again = await client.post("/Patient", json=patient(), headers=sent)
    assert first.headers["location"] == again.headers["location"]
    assert len(await stored(client)) == 1
    other = {**sent, **header(provenance("another"))}
    assert (await client.post("/Patient", json=patient(), headers=other)).status_code == 422


@pytest.mark.parametrize(
    ("sent", "at"),
    [
        (b"{", "X-Provenance"),
        (b"Provenance/1", "X-Provenance"),
        (b'{"resourceType": "Patient"}', "X-Provenance"),
        (json.dumps(provenance(target=[{"reference": "Patient/1"}])).encode("ascii"), "Provenance.target"),
        (b'{"resourceType": "Provenance", "recorded": "2026-11-30T09:00:00+07:00"}', "Provenance.agent"),
    ],
)
async def test_one_that_is_none_refuses_the_write_too(client: httpx.AsyncClient, sent: bytes, at: str) -> None:
    answer = await client.put("/Patient/p", json=patient(id="p"), headers={b"X-Provenance": sent})
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, [at])
    assert (await client.get("/Patient/p")).status_code == 404


async def test_it_needs_the_right_to_write_it(city: City, client: httpx.AsyncClient) -> None:
    narrow = city.system("system/Patient.cruds")
    answer = await narrow.put("/Patient/p", json=patient(id="p"), headers=header())
    assert answer.status_code == 403
    assert (await client.get("/Patient/p")).status_code == 404


async def test_elsewhere_it_is_refused_and_nothing_is_done(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p"))
    meta = {"name": "meta", "valueMeta": {"tag": [{"system": "urn:x", "code": "a"}]}}
    parameters = {"resourceType": "Parameters", "parameter": [meta]}
    sent = bundle("transaction", entry("DELETE", "Patient/p"))
    for answer in (
        await client.delete("/Patient/p", headers=header()),
        await client.post("/Patient/p/$meta-add", json=parameters, headers=header()),
        await client.post("", json=sent, headers=header()),
        await client.post("", json={**sent, "type": "batch"}, headers=header()),
    ):
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["X-Provenance"])
    read = await client.get("/Patient/p")
    assert (read.status_code, read.headers["etag"]) == (200, 'W/"1"')
