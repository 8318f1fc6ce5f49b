"""A refused access leaves its audit row: who tried what, and of whom. The answer says no more than before."""

import pytest

from tests.api.conftest import City, two_facilities
from tests.api.mothers import CCCD, bundle, entry, observation, patient

MINE, THEIRS = "001070000001", "001070000002"
Row = tuple[str, str | None, bool, int]
"""Action, resource, whether it is of the other person, status."""


class Tried:
    """What is refused to a caller, and the rows that it left."""

    def __init__(self, city: City, person: str) -> None:
        self._city = city
        self._person = person
        self._after = 0

    async def rows(self) -> list[Row]:
        """Those since the last look."""
        async with self._city.record.database.acquire() as connection:
            found = await connection.fetch(
                "SELECT id, action, resource_id, person_id, (detail ->> 'refused')::int AS status FROM audit"
                " WHERE detail ? 'refused' AND id > $1 ORDER BY id",
                self._after,
            )
        self._after = max((row["id"] for row in found), default=self._after)
        return [(row["action"], row["resource_id"], row["person_id"] == self._person, row["status"]) for row in found]


@pytest.fixture
async def persons(city: City) -> tuple[str, str]:
    """Mine, and that of others: their Patient is "theirs", their Observation "seen"."""
    client, found = city.system(), []
    for id, number in (("mine", MINE), ("theirs", THEIRS)):
        await client.put(f"/Patient/{id}", json=patient((CCCD, number), id=id))
        bundled = (await client.get("/Person", params={"link": f"Patient/{id}"})).json()
        found.append(bundled["entry"][0]["resource"]["id"])
    await client.put("/Observation/seen", json=observation("Patient/theirs", id="seen"))
    await client.put("/Observation/gone", json=observation("Patient/theirs", id="gone"))
    await client.delete("/Observation/gone")
    return found[0], found[1]


async def test_what_is_hidden_from_a_citizen_was_tried(city: City, persons: tuple[str, str]) -> None:
    me, tried = city.citizen(persons[0]), Tried(city, persons[1])
    for url, action, id in (
        ("/Patient/theirs", "R", "theirs"),
        ("/Patient/theirs/_history", "R", "theirs"),
        ("/Observation/seen/_history/1", "R", "seen"),
        ("/Observation/gone", "R", "gone"),
        ("/Patient/theirs/$everything", "E", "theirs"),
        (f"/Person/{persons[1]}/$summary", "E", persons[1]),
    ):
        assert (await me.get(url)).status_code == 404
        assert await tried.rows() == [(action, id, True, 404)], url


async def test_what_is_not_there_is_nobodys(city: City, persons: tuple[str, str]) -> None:
    """The same row for who may not know, so that its time tells nothing; no id that may be a person's number."""
    me, tried = city.citizen(persons[0]), Tried(city, persons[1])
    for url in ("/Patient/001070000002", "/Patient/mine/_history/7"):
        assert (await me.get(url)).status_code == 404
        assert await tried.rows() == [("R", None, False, 404)], url
    assert (await city.system().get("/Patient/none")).status_code == 404
    assert (await me.get("/Nothing/none")).status_code == 404
    assert (await me.get("/Patient/mine")).status_code == 200
    assert await tried.rows() == []


async def test_what_a_token_does_not_grant_was_tried(city: City, persons: tuple[str, str]) -> None:
    narrow, tried = city.system("system/Observation.rs"), Tried(city, persons[1])
    for method, url, row in (
        ("GET", "/Patient/theirs", ("R", "theirs", True, 403)),
        ("GET", "/Patient?family=x", ("S", None, False, 403)),
        ("POST", "/Patient/_search", ("S", None, False, 403)),
        ("GET", "/Patient/theirs/$everything", ("E", "theirs", True, 403)),
        ("DELETE", "/Observation/seen", ("D", "seen", True, 403)),
        ("GET", "/Patient/none", ("R", None, False, 403)),
    ):
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if url.endswith("_search") else {}
        assert (await narrow.request(method, url, headers=headers)).status_code == 403, url
        assert await tried.rows() == [row], url


async def test_what_another_facility_sent_was_tried(city: City, persons: tuple[str, str]) -> None:
    facilities = await two_facilities(city)
    one, other = (city.system(facility_id=id, name=f"f{id}") for id in facilities)
    await one.put("/Patient/sent", json=patient((CCCD, THEIRS), id="sent"))
    tried = Tried(city, persons[1])
    assert (await other.put("/Patient/sent", json=patient(id="sent", family="Khác"))).status_code == 403
    assert await tried.rows() == [("U", "sent", True, 403)]


async def test_entries_of_a_bundle_were_tried(city: City, persons: tuple[str, str]) -> None:
    me, tried = city.citizen(persons[0]), Tried(city, persons[1])
    asked = [entry("GET", "Patient/theirs"), entry("GET", "Patient/mine"), entry("DELETE", "Observation/seen")]
    answer = await me.post("/", json=bundle("batch", *asked))
    assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["404", "200", "403"]
    assert sorted(await tried.rows()) == [("D", "seen", True, 403), ("R", "theirs", True, 404)]


async def test_a_health_book_was_tried(city: City, persons: tuple[str, str]) -> None:
    root, tried = city.base.removesuffix("/fhir"), Tried(city, persons[1])
    url = f"{root}/identity/v1/citizens/{{}}/health-book"
    for client, number, status, whose in (
        (city.citizen(persons[0]), THEIRS, 404, True),
        (city.citizen(persons[0]), "001070000009", 404, False),
        (city.system("system/Observation.rs"), THEIRS, 403, True),
    ):
        assert (await client.get(url.format(number))).status_code == status
        assert await tried.rows() == [("E", None, whose, status)]
    assert (await city.system().get(url.format("001070000009"))).status_code == 404
    assert await tried.rows() == []


async def test_a_refusal_that_cannot_be_noted_is_none(city: City, persons: tuple[str, str]) -> None:
    async with city.record.database.acquire() as connection:
        await connection.execute("ALTER TABLE audit ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    try:
        assert (await city.citizen(persons[0]).get("/Patient/theirs")).status_code == 500
    finally:
        async with city.record.database.acquire() as connection:
            await connection.execute("ALTER TABLE audit DROP CONSTRAINT full_disk")
