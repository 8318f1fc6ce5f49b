"""A citizen's token shows one person's record through every way of asking, and no other's."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.api.conftest import City, two_facilities
from tests.api.mothers import CCCD, MRN, bundle, entry, observation, organization, patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINE, THEIRS = "001070000001", "001070000002"


@dataclass
class Two:
    """Two people: mine with source Patients in two facilities, theirs with one; a shared organisation."""

    mine: list[str]
    my_observations: list[str]
    theirs: str
    their_observation: str
    my_person: str
    their_person: str
    organization: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(shared_city: City) -> Two:
    async def post(by: httpx.AsyncClient, url: str, resource: dict[str, Any]) -> str:
        answer = await by.post(url, json=resource)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    facilities = await two_facilities(shared_city)
    client = shared_city.system()
    one, other = (shared_city.system(facility_id=id, name=f"f{id}") for id in facilities)
    org = await post(client, "/Organization", organization())
    performer: dict[str, Any] = {"performer": [{"reference": f"Organization/{org}"}]}
    mine = [await post(one, "/Patient", patient((CCCD, MINE), (MRN, "1")))]
    mine.append(await post(other, "/Patient", patient((CCCD, MINE), (MRN, "2"))))
    theirs = await post(one, "/Patient", patient((CCCD, THEIRS), family="Trần", birthDate="1980-01-01"))
    observed = [await post(one, "/Observation", observation(f"Patient/{id}", **performer)) for id in mine]
    their_observation = await post(one, "/Observation", observation(f"Patient/{theirs}", value=77, **performer))
    persons = []
    for id in (mine[0], theirs):
        found = (await client.get("/Person", params={"link": f"Patient/{id}"})).json()
        persons.append(found["entry"][0]["resource"]["id"])
    return Two(mine, observed, theirs, their_observation, persons[0], persons[1], org)


@pytest.fixture
def me(shared_city: City, two: Two) -> httpx.AsyncClient:
    return shared_city.citizen(two.my_person)


def ids(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in answer.json().get("entry", [])}


async def test_my_own_record_is_there_from_both_facilities(me: httpx.AsyncClient, two: Two) -> None:
    for id in two.mine:
        assert (await me.get(f"/Patient/{id}")).status_code == 200
    assert ids(await me.get("/Observation")) == {f"Observation/{id}" for id in two.my_observations}
    assert ids(await me.get(f"/Person/{two.my_person}/Observation")) == {
        f"Observation/{i}" for i in two.my_observations
    }
    assert (await me.get(f"/Person/{two.my_person}")).status_code == 200
    assert (await me.get(f"/Organization/{two.organization}")).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "/Patient/{theirs}",
        "/Patient/{theirs}/_history/1",
        "/Patient/{theirs}/_history",
        "/Observation/{their_observation}",
        "/Observation/{their_observation}/_history/1",
        "/Observation/{their_observation}/_history",
        "/Patient/{theirs}/$everything",
        "/Patient/{theirs}/$meta",
        "/Observation/{their_observation}/_history/1/$meta",
        "/DocumentReference/$docref?patient={theirs}",
        "/Person/{their_person}",
        "/Person/{their_person}/$everything",
        "/Person/{their_person}/$summary",
        "/Patient/{theirs}/$summary",
    ],
)
async def test_what_is_theirs_looks_exactly_like_what_never_was(me: httpx.AsyncClient, two: Two, url: str) -> None:
    theirs = await me.get(url.format(**two.__dict__))
    absent = await me.get(url.format(theirs="never-there", their_observation="never-there", their_person="never-there"))
    assert theirs.status_code == absent.status_code == 404
    said = theirs.text
    for id in (two.theirs, two.their_observation, two.their_person):
        said = said.replace(id, "never-there")
    assert said == absent.text


@pytest.mark.parametrize(
    "url",
    [
        "/Patient",
        "/Patient?family=Tr%E1%BA%A7n",
        "/Patient?_id={theirs}",
        "/Patient?identifier=" + THEIRS,
        "/Patient?_has:Observation:patient:value-quantity=77",
        "/Patient?_sort=-birthdate&_count=1",
        "/Observation?patient={theirs}",
        "/Observation?subject:Patient.family=Tr%E1%BA%A7n",
        "/Observation?value-quantity=77",
        "/Observation?_include=Observation:patient",
        "/Observation?_include=*",
        "/Organization?_revinclude=Observation:performer",
        "/Organization?_id={organization}&_revinclude=*",
        "/Organization?_has:Observation:performer:value-quantity=77",
        "/Patient/{theirs}/Observation",
        "/Person/{their_person}/Observation",
        "/Person?link=Patient/{theirs}",
        "/Person",
        "/_history",
        "/Patient/_history",
        "/Observation/_history",
        "/Person/_history",
        "/?_type=Patient,Observation",
        "/Patient/{mine[0]}/$everything",
        "/Person/{my_person}/$everything",
        "/Patient/$everything",
        "/Observation/$lastn?patient={theirs}&code=2345-7",
        "/Observation/$lastn?patient={mine[0]}&code=2345-7&max=9",
    ],
)
async def test_no_search_history_or_operation_shows_or_counts_theirs(me: httpx.AsyncClient, two: Two, url: str) -> None:
    asked = url.format(**two.__dict__)
    answer = await me.get(asked)
    if answer.status_code in (400, 403, 404):
        assert two.theirs not in answer.text
        return
    shown = ids(answer)
    hidden = {f"Patient/{two.theirs}", f"Observation/{two.their_observation}", f"Person/{two.their_person}"}
    assert not shown & hidden
    assert "Trần" not in answer.text
    if "_history" not in asked and "$" not in asked:
        join = "&" if "?" in asked else "?"
        counted = await me.get(f"{asked}{join}_total=accurate")
        matches = [e for e in counted.json().get("entry", []) if e["search"]["mode"] == "match"]
        assert counted.json()["total"] <= max(len(matches), len(two.mine))


@pytest.mark.parametrize("url", ["/Person/{my_person}/$everything", "/Patient/$everything"])
async def test_everything_of_the_person_spans_both_facilities(me: httpx.AsyncClient, two: Two, url: str) -> None:
    seen: set[str] = set()
    answer = await me.get(url.format(**two.__dict__), params={"_count": 1})
    for _ in range(10):
        seen |= ids(answer)
        following = [link["url"] for link in answer.json()["link"] if link["relation"] == "next"]
        if not following:
            break
        answer = await me.get(following[0])
    expected = {f"Patient/{id}" for id in two.mine} | {f"Observation/{id}" for id in two.my_observations}
    assert expected | {f"Person/{two.my_person}", f"Organization/{two.organization}"} == seen


async def test_a_citizen_writes_nothing(me: httpx.AsyncClient, two: Two) -> None:
    assert (await me.post("/Observation", json=observation(f"Patient/{two.mine[0]}"))).status_code == 403
    assert (await me.put(f"/Patient/{two.mine[0]}", json=patient(id=two.mine[0]))).status_code == 403
    assert (await me.delete(f"/Patient/{two.theirs}")).status_code == 403


async def test_a_bundle_is_no_way_around(me: httpx.AsyncClient, two: Two) -> None:
    asked = bundle(
        "batch",
        entry("GET", f"Patient/{two.theirs}"),
        entry("GET", f"Observation?patient={two.theirs}"),
        entry("GET", f"Patient/{two.mine[0]}"),
    )
    answered = (await me.post("/", json=asked)).json()["entry"]
    assert answered[0]["response"]["status"].startswith("404")
    assert "entry" not in answered[1].get("resource", {})
    assert answered[2]["resource"]["id"] == two.mine[0]


async def test_another_citizens_cursor_is_worth_nothing(shared_city: City, two: Two, me: httpx.AsyncClient) -> None:
    page = (await me.get("/Observation", params={"_count": 1})).json()
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    other = await shared_city.citizen(two.their_person).get(following)
    assert other.status_code in (400, 422)
