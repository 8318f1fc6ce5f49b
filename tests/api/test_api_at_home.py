"""A reference to what is here is the same whether it is written whole or relative (R4 3.1.1.4.12)."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import City
from tests.api.mothers import bundle, entry, observation, patient


async def subject(client: httpx.AsyncClient, id: str) -> str:
    told: str = (await client.get(f"/Observation/{id}")).json()["subject"]["reference"]
    return told


async def found(client: httpx.AsyncClient, address: str) -> list[str]:
    return [one["resource"]["id"] for one in (await client.get(address)).json().get("entry", [])]


@pytest.fixture
async def p1(city: City, client: httpx.AsyncClient) -> str:
    """The whole address of a patient."""
    await client.put("/Patient/p1", json=patient(id="p1"))
    return f"{city.base}/Patient/p1"


async def test_what_is_written_is_in_the_record_of_its_patient(client: httpx.AsyncClient, p1: str) -> None:
    body = observation(p1, id="o1", note=[{"text": f"see {p1}"}])
    sent = httpx.Request("PUT", p1, json=body).content.replace(b'"value":5', b'"value":5.00')
    assert (await client.put("/Observation/o1", content=sent)).status_code == 201
    created = await client.post("/Observation", json=observation(f"{p1}/_history/1"))
    named = observation(p1, identifier=[{"system": "urn:x", "value": "1"}])
    updated = await client.put("/Observation?identifier=urn:x|1", json=named)
    assert {answer.status_code for answer in (created, updated)} == {201}
    assert await subject(client, "o1") == "Patient/p1"
    assert created.json()["subject"]["reference"] == "Patient/p1/_history/1"
    stored = (await client.get("/Observation/o1")).text
    assert '"value":5.00' in stored
    assert f"see {p1}" in stored
    for address in ("/Observation?patient=p1", "/Patient/p1/Observation", f"/Observation?subject={p1}"):
        assert len(await found(client, address)) == 3, address


async def test_entries_of_bundles_are_written_so_too(city: City, client: httpx.AsyncClient, p1: str) -> None:
    for kind in ("transaction", "batch"):
        entries: list[dict[str, Any]] = [
            entry("PUT", f"Observation/{kind}", observation(p1, id=kind), fullUrl=f"{city.base}/Observation/{kind}"),
            entry("PUT", "Patient/p1", patient(id="p1"), fullUrl=p1),
        ]
        for sent in (entries[:1], entries):
            answer = await client.post("", json=bundle(kind, *sent))
            assert answer.status_code == 200, answer.text
            assert await subject(client, kind) == "Patient/p1"
    assert sorted(await found(client, "/Observation?patient=p1")) == ["batch", "transaction"]


async def test_what_is_elsewhere_and_what_is_in_a_document_stays(client: httpx.AsyncClient, p1: str) -> None:
    other = "http://other.example.org/fhir/Patient/p1"
    await client.put("/Observation/o2", json=observation(other, id="o2"))
    assert await subject(client, "o2") == other
    kept = bundle("collection", {"fullUrl": f"{p1}-x", "resource": observation(p1)})
    stored = await client.post("/Bundle", json=kept)
    assert stored.status_code == 201
    assert stored.json()["entry"][0]["resource"]["subject"]["reference"] == p1


async def test_what_cannot_be_read_is_refused_as_ever(city: City, client: httpx.AsyncClient) -> None:
    for address, body in (("/Patient", f'{{"id": "{city.base}'), ("", f'["{city.base}"]'), ("/Patient", "[1]")):
        assert (await client.post(address, content=body)).status_code == 400
