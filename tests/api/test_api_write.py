"""create, update, delete and their conditional forms over HTTP."""

import asyncio

import httpx
import pytest

from tests.api.conftest import City
from tests.api.mothers import CCCD, MRN, bundle, entry, patient


async def test_a_create_answers_201_with_its_address(city: City, client: httpx.AsyncClient) -> None:
    created = await client.post("/Patient", json=patient(id="mine"))
    body = created.json()
    assert created.status_code == 201
    assert body["id"] != "mine"
    assert created.headers["location"] == f"{city.base}/Patient/{body['id']}/_history/1"
    assert created.headers["etag"] == 'W/"1"'


async def test_prefer_says_how_much_comes_back(client: httpx.AsyncClient) -> None:
    minimal = await client.post("/Patient", json=patient(), headers={"Prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (201, b"")
    assert "location" in minimal.headers
    told = await client.post("/Patient", json=patient(), headers={"Prefer": "return=OperationOutcome"})
    assert told.json()["resourceType"] == "OperationOutcome"


async def test_an_update_makes_the_next_version_and_an_equal_one_none(client: httpx.AsyncClient) -> None:
    sent = patient(id="p1", family="Một")
    first = await client.put("/Patient/p1", json=sent)
    assert (first.status_code, first.headers["etag"]) == (201, 'W/"1"')
    again = await client.put("/Patient/p1", json=sent)
    assert (again.status_code, again.headers["etag"]) == (200, 'W/"1"')
    second = await client.put("/Patient/p1", json=patient(id="p1", family="Hai"))
    assert (second.status_code, second.headers["etag"]) == (200, 'W/"2"')


async def test_if_match_never_overwrites_an_unseen_version(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))

    async def change(number: int) -> int:
        body = patient(id="p1", family=f"N{number}")
        return (await client.put("/Patient/p1", json=body, headers={"If-Match": 'W/"1"'})).status_code

    statuses = await asyncio.gather(*(change(number) for number in range(8)))
    assert sorted(statuses) == [200] + [412] * 7
    assert (await client.get("/Patient/p1")).headers["etag"] == 'W/"2"'


async def test_delete_is_idempotent_and_leaves_a_version(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    stale = await client.delete("/Patient/p1", headers={"If-Match": 'W/"9"'})
    assert stale.status_code == 412
    deleted = await client.delete("/Patient/p1")
    assert (deleted.status_code, deleted.headers["etag"]) == (204, 'W/"2"')
    assert (await client.delete("/Patient/p1")).status_code == 204
    assert (await client.delete("/Patient/never")).status_code == 204
    revived = await client.put("/Patient/p1", json=patient(id="p1"))
    assert (revived.status_code, revived.headers["etag"]) == (201, 'W/"3"')


async def test_32_parallel_conditional_creates_make_one_resource(client: httpx.AsyncClient) -> None:
    body = patient((MRN, "77"))

    async def create() -> tuple[int, str]:
        answer = await client.post("/Patient", json=body, headers={"If-None-Exist": f"identifier={MRN}|77"})
        return answer.status_code, answer.json()["id"]

    answers = await asyncio.gather(*(create() for _ in range(32)))
    assert sorted(status for status, _ in answers) == [200] * 31 + [201]
    assert len({id for _, id in answers}) == 1
    found = await client.get("/Patient", params={"identifier": f"{MRN}|77"})
    assert len(found.json()["entry"]) == 1


async def test_a_conditional_create_with_many_matches_changes_nothing(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await client.post("/Patient", json=patient(family="Trùng"))
    refused = await client.post("/Patient", json=patient(), headers={"If-None-Exist": "family=Tr%C3%B9ng"})
    assert refused.status_code == 412
    assert refused.json()["issue"][0]["expression"] == ["If-None-Exist"]


async def test_a_conditional_update_creates_updates_or_refuses(client: httpx.AsyncClient) -> None:
    url = f"/Patient?identifier={MRN}|5"
    created = await client.put(url, json=patient((MRN, "5")))
    assert created.status_code == 201
    id = created.json()["id"]
    updated = await client.put(url, json=patient((MRN, "5"), family="Mới"))
    assert (updated.status_code, updated.json()["id"], updated.headers["etag"]) == (200, id, 'W/"2"')
    other = await client.put(url, json=patient((MRN, "5"), id="another"))
    assert (other.status_code, other.json()["issue"][0]["expression"]) == (400, ["Patient.id"])
    chosen = await client.put(f"/Patient?identifier={MRN}|6", json=patient((MRN, "6"), id="chosen"))
    assert (chosen.status_code, chosen.json()["id"]) == (201, "chosen")


async def test_a_conditional_update_never_takes_another_resources_id(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/taken", json=patient((MRN, "1"), id="taken"))
    refused = await client.put(f"/Patient?identifier={MRN}|2", json=patient((MRN, "2"), id="taken"))
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (409, ["Patient.id"])
    assert (await client.get("/Patient/taken")).json()["identifier"][0]["value"] == "1"
    await client.delete("/Patient/taken")
    revived = await client.put(f"/Patient?identifier={MRN}|2", json=patient((MRN, "2"), id="taken"))
    assert (revived.status_code, revived.headers["etag"]) == (201, 'W/"3"')


async def test_if_match_holds_for_conditional_writes(client: httpx.AsyncClient) -> None:
    url, stale = f"/Patient?identifier={MRN}|1", {"If-Match": 'W/"7"'}
    assert (await client.put(url, json=patient((MRN, "1")), headers=stale)).status_code == 412
    assert (await client.delete(url, headers=stale)).status_code == 412
    await client.put(url, json=patient((MRN, "1")))
    assert (await client.put(url, json=patient((MRN, "1"), gender="male"), headers=stale)).status_code == 412
    assert (await client.delete(url, headers=stale)).status_code == 412
    current = {"If-Match": 'W/"1"'}
    assert (await client.put(url, json=patient((MRN, "1"), gender="male"), headers=current)).status_code == 200
    assert (await client.delete(url, headers={"If-Match": 'W/"2"'})).status_code == 204


async def test_an_update_may_insist_that_nothing_is_there(client: httpx.AsyncClient) -> None:
    only_new = {"If-None-Match": "*"}

    async def put(number: int) -> int:
        body = patient(id="p1", family=f"N{number}")
        return (await client.put("/Patient/p1", json=body, headers=only_new)).status_code

    assert sorted(await asyncio.gather(*(put(number) for number in range(8)))) == [201] + [412] * 7
    await client.delete("/Patient/p1")
    assert (await client.put("/Patient/p1", json=patient(id="p1"), headers=only_new)).status_code == 201


async def test_a_conditional_delete_deletes_the_one_match(client: httpx.AsyncClient) -> None:
    for number in ("1", "2"):
        await client.post("/Patient", json=patient((MRN, number)))
    assert (await client.delete("/Patient?gender=female")).status_code == 412
    assert (await client.delete(f"/Patient?identifier={MRN}|1")).status_code == 204
    assert (await client.delete(f"/Patient?identifier={MRN}|1")).status_code == 204
    left = await client.get("/Patient", params={"gender": "female"})
    assert [one["resource"]["identifier"][0]["value"] for one in left.json()["entry"]] == ["2"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_empty_criteria_are_refused(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/Patient", json=patient() if method == "PUT" else None)
    assert answer.status_code == 412


async def test_what_would_not_be_found_again_is_not_made(client: httpx.AsyncClient) -> None:
    """A request that is sent again would make another one each time."""
    criteria = f"identifier={MRN}|1"
    for answer in (
        await client.post("/Patient", json=patient((MRN, "2")), headers={"If-None-Exist": criteria}),
        await client.put(f"/Patient?{criteria}", json=patient()),
    ):
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, ["Patient.identifier"])
    inside = bundle("transaction", entry("POST", "Patient", patient(), request={"ifNoneExist": criteria}))
    refused = await client.post("/", json=inside)
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.identifier"]
    assert (await client.put(f"/Patient?{criteria}", json=patient((MRN, "1")))).status_code == 201
    renumbered = await client.put(f"/Patient?{criteria}", json=patient((MRN, "3")))
    assert renumbered.status_code == 200, "what is found may get another number"


async def test_criteria_that_name_no_condition_do_not_mean_the_only_resource(client: httpx.AsyncClient) -> None:
    """What says how a search is answered says nothing of what matches; one resource of a type is soon the only one."""
    await client.put("/Patient/only", json=patient(id="only"))
    answers = []
    for query in ("_count=1", "_sort=_id&_total=accurate", "_elements=id", "_type=Patient", "_format=json"):
        answers += [
            await client.delete(f"/Patient?{query}"),
            await client.put(f"/Patient?{query}", json=patient(family="Khác")),
            await client.post("/Patient", json=patient(), headers={"If-None-Exist": query}),
            await client.post("/", json=bundle("transaction", entry("DELETE", f"Patient?{query}"))),
        ]
    assert {answer.status_code for answer in answers} == {412}
    assert answers[-1].json()["issue"][0]["expression"] == ["Bundle.entry[0].request.url"]
    (stored,) = (await client.get("/Patient")).json()["entry"]
    assert stored["resource"]["meta"]["versionId"] == "1"


async def test_a_key_gives_the_first_answer_again(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = await client.post("/Patient", json=patient(), headers=key)
    again = await client.post("/Patient", json=patient(), headers=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    other = await client.post("/Patient", json=patient(family="Khác"), headers=key)
    assert other.status_code == 422
    found = await client.get("/Patient", params={"_summary": "count"})
    assert found.json()["total"] == 1


async def test_parallel_requests_with_one_key_do_the_work_once(client: httpx.AsyncClient) -> None:
    body, key = patient((CCCD, "001070000001")), {"Idempotency-Key": "order-2"}
    answers = await asyncio.gather(*(client.post("/Patient", json=body, headers=key) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1


async def test_a_facility_changes_only_its_own(city: City, facilities: list[int]) -> None:
    one, two = (city.system(facility_id=id, name=f"f{id}") for id in facilities)
    created = await one.post("/Patient", json=patient((MRN, "9")))
    id = created.json()["id"]
    assert (await two.put(f"/Patient/{id}", json=patient((MRN, "9"), id=id, family="X"))).status_code == 403
    own = await two.post("/Patient", json=patient((MRN, "9")), headers={"If-None-Exist": f"identifier={MRN}|9"})
    assert own.status_code == 201, "a facility's patient number says nothing in another facility"
