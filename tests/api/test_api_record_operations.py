"""$meta, $lastn, $docref, $document, and $everything of an Encounter."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from ehr import limits
from tests.api.conftest import City
from tests.api.mothers import observation, organization, patient
from tests.api.test_api_operations import parameters

TAG = {"system": "urn:tags", "code": "checked", "display": "Checked"}
LABEL = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}


def ids(answer: httpx.Response, mode: str = "match") -> list[str]:
    assert answer.status_code == 200, answer.text
    found = [one for one in answer.json().get("entry", []) if one["search"]["mode"] == mode]
    return [one["resource"].get("id", "unstored") for one in found]


def refusal(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()["issue"][0].get("expression", [None])[0]


def meta_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    (returned,) = answer.json()["parameter"]
    found: dict[str, Any] = returned["valueMeta"]
    return found


def meta(**given: Any) -> dict[str, Any]:
    return parameters({"name": "meta", "valueMeta": given})


# -- $meta


async def test_labels_are_added_and_taken_away_as_sets(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p", meta={"tag": [TAG]}))
    same = await client.post("/Patient/p/$meta-add", json=meta(tag=[{**TAG, "display": "Other words", "version": "2"}]))
    assert meta_of(same)["versionId"] == "1", "nothing was added, so nothing changed"
    added = await client.post(
        "/Patient/p/$meta-add",
        json=meta(tag=[{"system": "urn:tags", "code": "b"}], security=[LABEL], profile=["http://x"]),
    )
    assert meta_of(added)["versionId"] == "2"
    read = (await client.get("/Patient/p")).json()["meta"]
    assert (read["tag"], read["security"], read["profile"]) == (
        [TAG, {"system": "urn:tags", "code": "b"}],
        [LABEL],
        ["http://x"],
    )
    assert meta_of(await client.get("/Patient/p/$meta")) == read == meta_of(added)
    assert "security" not in meta_of(await client.get("/Patient/p/_history/1/$meta"))
    taken = await client.post(
        "/Patient/p/$meta-delete", json=meta(tag=[{"system": "urn:tags", "code": "checked"}], profile=["http://x", "y"])
    )
    assert meta_of(taken)["tag"] == [{"system": "urn:tags", "code": "b"}]
    assert "profile" not in meta_of(taken)
    found = await client.get("/Patient", params={"_tag": "urn:tags|b", "_security": "R"})
    assert ids(found) == ["p"]


async def test_parallel_additions_all_stand(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p"))
    tags = [{"system": "urn:tags", "code": f"t{number}"} for number in range(8)]
    await asyncio.gather(*(client.post("/Patient/p/$meta-add", json=meta(tag=[tag])) for tag in tags))
    found = meta_of(await client.get("/Patient/p/$meta"))
    assert sorted(tag["code"] for tag in found["tag"]) == [tag["code"] for tag in tags]
    assert found["versionId"] == "9"


async def test_changes_of_meta_are_refused_like_any_write(city: City, client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p"))
    assert (await client.post("/Patient/p/$meta-add")).status_code == 400
    assert (await client.get("/Patient/p/$meta-add")).status_code == 405
    assert (await client.post("/Patient/none/$meta-add", json=meta(tag=[TAG]))).status_code == 404
    stale = await client.post("/Patient/p/$meta-add", json=meta(tag=[TAG]), headers={"If-Match": 'W/"7"'})
    assert stale.status_code == 412
    reader = city.system("system/*.rs")
    assert (await reader.post("/Patient/p/$meta-delete", json=meta(tag=[TAG]))).status_code == 403
    assert (await reader.get("/Patient/p/$meta")).status_code == 200
    part = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
    assert (await client.post("/Patient/p/$meta-add", json=meta(tag=[part]))).status_code == 422


# -- $lastn


def coded(*codes: str, text: str | None = None) -> dict[str, Any]:
    codings = [{"system": "http://loinc.org", "code": code} for code in codes]
    return {**({"coding": codings} if codings else {}), **({"text": text} if text else {})}


async def seen(client: httpx.AsyncClient, id: str, day: str | None, code: dict[str, Any], whose: str = "p") -> None:
    made = observation(f"Patient/{whose}", id=id, effectiveDateTime=day)
    made["code"] = code
    if day is None:
        del made["effectiveDateTime"]
    assert (await client.put(f"/Observation/{id}", json=made)).status_code == 201


@pytest.fixture
async def observed(client: httpx.AsyncClient) -> None:
    for id in ("p", "q"):
        await client.put(f"/Patient/{id}", json=patient(id=id))
    await seen(client, "a1", "2026-01-01", coded("a"))
    await seen(client, "a2", "2026-01-02T08:00:00+07:00", coded("a"))
    await seen(client, "a3", "2026-01-03", coded("a", "a-too"))
    await seen(client, "a4", "2026-01-04", coded("a-too"))
    await seen(client, "b1", "2026-01-01", coded("b"))
    await seen(client, "b2", "2026-01-01", coded("b"))
    await seen(client, "t1", "2025", coded(text="Text"))
    await seen(client, "t2", "2024", coded(text="text"))
    await seen(client, "none", None, coded("b"))
    await seen(client, "other", "2026-02-01", coded("a"), whose="q")


async def test_the_last_of_each_code(client: httpx.AsyncClient, observed: None) -> None:
    query = "/Observation/$lastn?patient=Patient/p&code=a,a-too,b"
    last = await client.get(query)
    assert ids(last) == ["a4", "b2", "b1"] or ids(last) == ["a4", "b1", "b2"], "a joins a-too by a3; b has two at once"
    assert last.json()["total"] == 3
    assert ids(await client.get(f"{query}&max=3"))[:3] == ["a4", "a3", "a2"]
    assert set(ids(await client.get(f"{query}&max=3"))) == {"a4", "a3", "a2", "b1", "b2", "none"}
    assert set(ids(await client.get("/Observation/$lastn?subject=Patient/p&code:not=c&max=9"))) >= {"t1", "t2"}
    assert ids(await client.get("/Observation/$lastn?patient=nobody&code=a")) == []
    posted = await client.post(query, json=parameters({"name": "max", "valuePositiveInt": 2}))
    assert ids(posted)[:2] == ["a4", "a3"]


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("code=a", "patient"),
        ("patient=p", "code"),
        ("patient=p&code=a&_sort=date", "_sort"),
        ("patient=p&code=a&max=0", "max"),
        ("patient=p&code=a&nothing=1", "nothing"),
    ],
)
async def test_lastn_is_told_whose_and_which(client: httpx.AsyncClient, query: str, at: str) -> None:
    assert refusal(await client.get(f"/Observation/$lastn?{query}")) == (400, at)


async def test_lastn_looks_through_so_many(
    client: httpx.AsyncClient, observed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "page_count_max", 2)
    monkeypatch.setattr(limits, "lastn_observations_max", 4)
    answer = await client.get("/Observation/$lastn?patient=p&code=a,b,a-too")
    assert refusal(answer) == (413, "Observation")


# -- $everything of an Encounter


async def test_everything_of_an_encounter(client: httpx.AsyncClient) -> None:
    await client.put("/Organization/o", json={**organization(), "id": "o"})
    await client.put("/Patient/p", json=patient(id="p"))
    visit = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": "Patient/p"},
        "serviceProvider": {"reference": "Organization/o"},
    }
    for id in ("e", "f"):
        await client.put(f"/Encounter/{id}", json={**visit, "id": id})
    of: dict[str, Any] = {"encounter": {"reference": "Encounter/e"}}
    for id in ("o1", "o2"):
        await client.put(f"/Observation/{id}", json=observation("Patient/p", id=id, **of))
    await client.put("/Observation/else", json=observation("Patient/p", id="else"))
    whole = await client.get("/Encounter/e/$everything")
    assert sorted(ids(whole)) == ["e", "o1", "o2"]
    assert ids(await client.get("/Encounter/e/Encounter")) == ["e"]
    assert {"p", "o"} <= set(ids(whole, "include"))
    pages, url = [], "/Encounter/e/$everything?_count=1"
    while url:
        answer = await client.get(url)
        pages += ids(answer)
        url = next((link["url"] for link in answer.json()["link"] if link["relation"] == "next"), "")
    assert sorted(pages) == ["e", "o1", "o2"]
    assert sorted(ids(await client.get("/Encounter/e/$everything?_type=Observation"))) == ["o1", "o2"]
    assert ids(await client.get("/Encounter/e/$everything?_since=2100-01-01T00:00:00Z")) == []
    assert refusal(await client.get("/Encounter/e/$everything?_type=Organization")) == (400, "_type")
    assert refusal(await client.get("/Encounter/e/$everything?start=2020")) == (400, "start")
    assert (await client.get("/Encounter/none/$everything")).status_code == 404


# -- $docref


def letter(id: str, period: str, code: str = "11506-3", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": id,
        "status": "current",
        "type": coded(code),
        "subject": {"reference": "Patient/p"},
        "date": f"{period}T00:00:00Z",
        "context": {"period": {"start": period, "end": period}},
        "content": [{"attachment": {"url": "Binary/b"}}],
        **more,
    }


@pytest.fixture
async def letters(client: httpx.AsyncClient) -> None:
    for id in ("p", "q"):
        await client.put(f"/Patient/{id}", json=patient(id=id))
    sent = [
        letter("old", "2024-05-01"),
        letter("new", "2025-05-01"),
        letter("discharge", "2025-01-01", "18842-5"),
        letter("replaced", "2026-01-01", status="superseded"),
        letter("theirs", "2026-01-01", subject={"reference": "Patient/q"}),
    ]
    for one in sent:
        assert (await client.put(f"/DocumentReference/{one['id']}", json=one)).status_code == 201


async def test_references_to_the_documents_of_a_patient(client: httpx.AsyncClient, letters: None) -> None:
    url = "/DocumentReference/$docref?patient=p"
    assert ids(await client.get(url)) == ["new", "discharge", "unstored"]
    assert ids(await client.get(f"{url}&type=http://loinc.org|11506-3")) == ["new"]
    by_concept = parameters(
        {"name": "patient", "valueId": "p"}, {"name": "type", "valueCodeableConcept": coded("18842-5")}
    )
    assert ids(await client.post("/DocumentReference/$docref", json=by_concept)) == ["discharge"]
    assert ids(await client.get(f"{url}&start=2025-02")) == ["new", "unstored"]
    assert sorted(ids(await client.get(f"{url}&end=2025-12-31"))) == ["discharge", "new", "old"]
    paged = await client.get(f"{url}&start=2024&end=2025&_count=2")
    following = next(link["url"] for link in paged.json()["link"] if link["relation"] == "next")
    assert sorted([*ids(paged), *ids(await client.get(following))]) == ["discharge", "new", "old"]
    on_demand = await client.get(f"{url}&on-demand=true")
    assert ids(on_demand) == ["unstored"]
    (made,) = on_demand.json()["entry"]
    assert "fullUrl" not in made
    summary = await client.get(made["resource"]["content"][0]["attachment"]["url"])
    assert summary.json()["type"] == "document"
    checked = await client.post("/DocumentReference/$validate", json=made["resource"])
    assert [one for one in checked.json()["issue"] if one["severity"] == "error"] == []


async def test_documents_of_nobody_and_without_a_name(
    city: City, client: httpx.AsyncClient, letters: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.get("/DocumentReference/$docref?patient=none")).status_code == 404
    assert refusal(await client.get("/DocumentReference/$docref")) == (400, "patient")
    assert refusal(await client.get("/DocumentReference/$docref?patient=p&profile=x")) == (400, "profile")
    assert (await city.system("system/Patient.rs").get("/DocumentReference/$docref?patient=p")).status_code == 403
    monkeypatch.setattr(limits, "docref_documents_max", 1)
    assert refusal(await client.get("/DocumentReference/$docref?patient=p")) == (413, "start")


# -- $document


@pytest.fixture
async def composed(client: httpx.AsyncClient) -> None:
    await client.put("/Organization/o", json={**organization(), "id": "o"})
    await client.put("/Patient/p", json=patient(id="p", managingOrganization={"reference": "Organization/o"}))
    body = '{"value": 13.50}'
    await client.put(
        "/Observation/s",
        content=observation_text("s").replace('{"value": 5', body[:-1]),
    )
    await client.put("/Composition/c", json=composition("c", "Observation/s"))


def observation_text(id: str) -> str:
    return json.dumps(observation("Patient/p", id=id))


def composition(id: str, *entries: str) -> dict[str, Any]:
    return {
        "resourceType": "Composition",
        "id": id,
        "status": "final",
        "type": coded("18842-5"),
        "subject": {"reference": "Patient/p"},
        "date": "2026-11-20",
        "author": [{"reference": "Organization/o"}, {"reference": "https://elsewhere.example.org/fhir/Practitioner/x"}],
        "title": "Giấy ra viện",
        "section": [{"title": "Kết quả", "entry": [{"reference": one} for one in entries]}],
    }


async def test_a_composition_becomes_a_document(client: httpx.AsyncClient, composed: None) -> None:
    found: dict[str, Any] = {}
    for url in ("/Composition/c/$document", "/Composition/$document?id=c", "/Composition/$document?id=Composition/c"):
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["type"] == "document"
        assert found["entry"][0]["resource"]["resourceType"] == "Composition"
        assert {one["resource"]["id"] for one in found["entry"]} == {"c", "p", "o", "s"}
        assert b"13.50" in answer.content
    assert (await client.get("/Bundle?_summary=count")).json()["total"] == 0
    checked = await client.post("/Bundle/$validate", json=found)
    assert [one for one in checked.json()["issue"] if one["severity"] == "error"] == []


async def test_a_document_is_stored_where_that_is_wanted(city: City, client: httpx.AsyncClient, composed: None) -> None:
    assert refusal(await client.get("/Composition/c/$document?persist=true")) == (400, "persist")
    answer = await client.post("/Composition/c/$document?persist=true")
    stored = await client.get(answer.headers["location"])
    assert stored.content == answer.content
    reader = city.system("system/*.rs")
    assert (await reader.post("/Composition/c/$document?persist=true")).status_code == 403
    assert (await reader.post("/Composition/c/$document")).status_code == 200


async def test_what_is_not_whole_is_no_document(
    city: City, client: httpx.AsyncClient, composed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.put("/Observation/away", content=observation_text("away"))
    await client.put("/Composition/d", json=composition("d", "Observation/s", "Observation/away"))
    await client.delete("/Observation/away")
    at = "Composition.section[0].entry[1].reference"
    assert refusal(await client.get("/Composition/d/$document")) == (422, at)
    few = city.system("system/Composition.rs system/Patient.rs system/Organization.rs")
    assert refusal(await few.get("/Composition/c/$document")) == (422, "Composition.section[0].entry[0].reference")
    assert refusal(await client.get("/Composition/$document")) == (400, "id")
    assert refusal(await client.get("/Composition/c/$document?id=c")) == (400, "id")
    assert refusal(await client.get("/Composition/$document?id=https://x.org/Composition/c")) == (400, "id")
    assert refusal(await client.get("/Composition/c/$document?graph=http://x")) == (400, "graph")
    assert (await client.get("/Composition/none/$document")).status_code == 404
    monkeypatch.setattr(limits, "document_resources_max", 3)
    assert refusal(await client.get("/Composition/c/$document")) == (413, "Composition")


async def test_graphql_is_refused_by_name(client: httpx.AsyncClient) -> None:
    for url in ("/$graphql?query={Patient{id}}", "/Patient/p/$graphql"):
        answer = await client.get(url)
        assert answer.status_code == 404
        assert "$graphql is not served" in answer.text
