"""Search, paging and history over HTTP."""

from typing import Any

import httpx
import pytest

from ehr import limits
from tests.api.conftest import City
from tests.api.mothers import MRN, observation, organization, patient


def ids(answer: httpx.Response, mode: str = "match") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [e["resource"]["id"] for e in answer.json().get("entry", []) if e["search"]["mode"] == mode]


def link(answer: httpx.Response, relation: str) -> str | None:
    return next((one["url"] for one in answer.json()["link"] if one["relation"] == relation), None)


async def make(client: httpx.AsyncClient, count: int) -> list[str]:
    made = []
    for number in range(count):
        answer = await client.post("/Patient", json=patient((MRN, str(number)), family=f"Họ {number}"))
        made.append(answer.json()["id"])
    return made


async def test_a_search_says_what_it_used_and_where_each_entry_lives(city: City, client: httpx.AsyncClient) -> None:
    (id,) = await make(client, 1)
    answer = await client.get("/Patient", params={"family": "ho 0", "_total": "accurate"})
    found = answer.json()
    assert (found["type"], found["total"]) == ("searchset", 1)
    assert found["entry"][0]["fullUrl"] == f"{city.base}/Patient/{id}"
    assert link(answer, "self") == f"{city.base}/Patient?family=ho%200&_total=accurate"


async def test_a_walk_over_pages_sees_each_once_while_others_write(client: httpx.AsyncClient) -> None:
    made = await make(client, 7)
    answer = await client.get("/Patient", params={"_count": 2})
    seen = ids(answer)
    while (following := link(answer, "next")) is not None:
        await make(client, 1)
        before = answer
        answer = await client.get(following)
        back = link(answer, "previous")
        assert back is not None
        assert ids(await client.get(back)) == ids(before)
        seen += ids(answer)
    assert seen == made


async def test_many_includes_of_one_match_are_reached_by_next_links(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "include_count_max", 2)
    made = await make(client, 2)
    for number in range(5):
        await client.put(f"/Observation/o{number}", json=observation(f"Patient/{made[0]}") | {"id": f"o{number}"})
    following: str | None = "/Patient?_revinclude=Observation:patient"
    matches, included = [], []
    while following is not None:
        answer = await client.get(following)
        matches.append(ids(answer))
        included += ids(answer, "include")
        assert link(answer, "first") is not None or len(matches) == 1
        following = link(answer, "next")
    assert matches == [made[:1], [], [], made[1:]]
    assert included == [f"o{number}" for number in range(5)]


async def test_post_search_is_the_same_search(client: httpx.AsyncClient) -> None:
    made = await make(client, 3)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("/Patient/_search?_count=2", content="family=ho", headers=form)
    assert ids(answer) == made[:2]
    following = link(answer, "next")
    assert following is not None
    assert ids(await client.get(following)) == made[2:]


async def test_includes_and_compartments(client: httpx.AsyncClient) -> None:
    organization_id = (await client.post("/Organization", json=organization())).json()["id"]
    mine, other = await make(client, 2)
    performer: dict[str, Any] = {"performer": [{"reference": f"Organization/{organization_id}"}]}
    seen = (await client.post("/Observation", json=observation(f"Patient/{mine}", **performer))).json()["id"]
    await client.post("/Observation", json=observation(f"Patient/{other}"))
    answer = await client.get(f"/Patient/{mine}/Observation", params={"_include": "Observation:performer"})
    assert (ids(answer), ids(answer, "include")) == ([seen], [organization_id])
    back = await client.get("/Organization", params={"_revinclude": "Observation:performer"})
    assert ids(back, "include") == [seen]


async def test_everything_pages_and_keeps_to_its_bounds(client: httpx.AsyncClient) -> None:
    mine, other = await make(client, 2)
    early: dict[str, Any] = {"effectiveDateTime": "2020-01-01"}
    made = [
        (await client.post("/Observation", json=observation(f"Patient/{mine}", **more))).json()["id"]
        for more in ({}, {}, early)
    ]
    await client.post("/Observation", json=observation(f"Patient/{other}"))
    answer = await client.get(f"/Patient/{mine}/$everything", params={"_count": 2})
    seen = ids(answer)
    while (following := link(answer, "next")) is not None:
        answer = await client.get(following)
        seen += ids(answer)
    assert sorted(seen) == sorted([mine, *made])
    bounded = await client.get(f"/Patient/{mine}/$everything", params={"start": "2026", "_type": "Observation"})
    assert sorted(ids(bounded)) == sorted(made[:2])
    for bounds in ({"start": "2026"}, {"end": "1960"}):
        assert mine in ids(await client.get(f"/Patient/{mine}/$everything", params=bounds)), "a birth is no care"
    refused = await client.get(f"/Patient/{mine}/$everything", params={"_count": 0})
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (400, ["_count"])
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "_type", "valueString": "Patient"}]}
    assert ids(await client.post(f"/Patient/{mine}/$everything", json=parameters)) == [mine]


async def test_history_of_a_resource_a_type_and_the_system(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    await client.put("/Patient/p1", json=patient(id="p1", family="Hai"))
    await client.delete("/Patient/p1")
    await client.put("/Organization/o1", json={**organization(), "id": "o1"})
    one = await client.get("/Patient/p1/_history")
    entries = one.json()["entry"]
    assert (one.json()["type"], one.json()["total"]) == ("history", 3)
    assert [e["request"]["method"] for e in entries] == ["DELETE", "PUT", "PUT"]
    assert [e["response"]["status"] for e in entries] == ["204", "200", "201"]
    assert [e["response"]["etag"] for e in entries] == ['W/"3"', 'W/"2"', 'W/"1"']
    paged = await client.get("/Patient/p1/_history", params={"_count": 2})
    following = link(paged, "next")
    assert following is not None
    assert [e["response"]["etag"] for e in (await client.get(following)).json()["entry"]] == ['W/"1"']
    of_type = await client.get("/Patient/_history")
    assert len(of_type.json()["entry"]) == 3
    of_all = await client.get("/_history")
    assert of_all.json()["entry"][0]["fullUrl"].endswith("/Organization/o1")
    future = await client.get("/_history", params={"_since": "2100-01-01T00:00:00Z"})
    assert "entry" not in future.json()


@pytest.mark.parametrize(("body", "problems"), [(patient(), 0), (patient(gender="f", nickname="x"), 2)])
async def test_validate_answers_200_whatever_it_finds(
    client: httpx.AsyncClient, body: dict[str, object], problems: int
) -> None:
    for sent in (body, {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": body}]}):
        answer = await client.post("/Patient/$validate", json=sent)
        assert answer.status_code == 200
        errors = [issue for issue in answer.json()["issue"] if issue["severity"] == "error"]
        assert len(errors) == problems
    assert (await client.get("/Patient")).json().get("entry") is None


async def test_metadata_needs_no_token_and_is_a_valid_statement(city: City, client: httpx.AsyncClient) -> None:
    answer = await city.client().get("/metadata")
    assert answer.status_code == 200
    statement = answer.json()
    assert statement["fhirVersion"] == "4.0.1"
    checked = await client.post("/CapabilityStatement/$validate", content=answer.content)
    assert [i for i in checked.json()["issue"] if i["severity"] == "error"] == []
    patient_type = next(one for one in statement["rest"][0]["resource"] if one["type"] == "Patient")
    for parameter in patient_type["searchParam"]:
        if parameter["type"] == "string":
            assert (await client.get("/Patient", params={parameter["name"]: "x"})).status_code == 200
