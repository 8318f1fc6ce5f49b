"""_has of patients by one code: the same patients as any other way finds, however few or many, wherever they lie."""

import random
from dataclasses import replace
from typing import Any

import pytest

from ehr.access.policy import ALL_GRANTS, AccessPredicate
from ehr.database.connection import Connection
from ehr.database.engine import Database
from ehr.index import formats
from ehr.search import coded, coded_patients, pace
from ehr.search.lower import Lowering
from ehr.search.page import search
from ehr.search.parse import parse
from ehr.search.plan import plan
from tests.search.store import EVERYTHING, Plain, Records
from tests.search.test_search_coded import LOINC, is_asked, observation, walked

ASKED = ("_has:Observation:patient:code", f"{LOINC}|1-8")
PATIENTS = 60


def patients() -> list[dict[str, Any]]:
    return [{"resourceType": "Patient", "id": f"p{number:02}", "active": True} for number in range(PATIENTS)]


def observations(pick: random.Random, often: int, *, latest: bool) -> list[dict[str, Any]]:
    """Of some patients many; also of nobody, of a group, and of a patient who is not there."""
    made = []
    for number in range(often):
        tree = observation(number, pick)
        of = (
            pick.randrange(PATIENTS // 2, PATIENTS)
            if latest
            else min(pick.randrange(PATIENTS), pick.randrange(PATIENTS))
        )
        subject = pick.choice([f"Patient/p{of:02}"] * 8 + ["Patient/absent", "Group/p01", ""])
        made.append(tree | ({"subject": {"reference": subject}} if subject else {}))
    return made


def pointed_at(trees: list[dict[str, Any]]) -> list[str]:
    found = {tree.get("subject", {}).get("reference", "") for tree in trees if is_asked(tree)}
    return [patient["id"] for patient in patients() if f"Patient/{patient['id']}" in found]


async def lowered(
    connection: Connection, records: Records, *query: tuple[str, str], access: AccessPredicate = EVERYTHING
) -> Lowering | None:
    planned = plan(parse("Patient", list(query)), access)
    return await coded_patients.pointed_at(connection, planned, records.database.installation, records.hasher)


WAYS = {"few": 1_000, "passed": 0, "passed in vain": 0}
"""How many patients are looked up at once."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("often", [12, 200])
async def test_the_pages_are_those_of_all_who_are_pointed_at(
    database: Database, monkeypatch: pytest.MonkeyPatch, way: str, often: int
) -> None:
    monkeypatch.setattr(coded_patients, "isqrt", lambda _: WAYS[way])
    latest = way == "passed in vain"
    if latest:
        monkeypatch.setattr(pace, "rounded", lambda _: 25)
    records, pick = Records(database), random.Random(often)
    trees = observations(pick, often, latest=latest)
    await records.put(*patients(), *trees)
    async with database.acquire() as connection:
        found = await lowered(connection, records, ASKED)
    assert found is not None
    assert bool(found.few) == (way == "few")
    expected = pointed_at(trees)
    assert expected
    for count in ("3", "100"):
        forward, page = await walked(records, [ASKED, ("_count", count)], "next", "Patient")
        assert forward == expected
        if page.previous_cursor:
            backward, _ = await walked(
                records, [ASKED, ("_count", count), ("_cursor", page.previous_cursor)], "previous", "Patient"
            )
            assert backward[::-1] == expected[: -len(page.matches)]
    for total in ("accurate", "estimate"):
        page = await records.page("Patient", [ASKED, ("_total", total), ("_count", "2")])
        assert page.total == len(expected)
    assert (await records.page("Patient", [ASKED, ("_summary", "count")])).total == len(expected)


async def test_what_is_changed_and_deleted_points_no_more(database: Database) -> None:
    records = Records(database)
    coding = {"coding": [{"system": LOINC, "code": "2-7"}, {"system": LOINC, "code": "1-8"}]}
    tree = {"resourceType": "Observation", "id": "o", "code": coding, "subject": {"reference": "Patient/p01"}}
    first = tree | {"id": "f", "code": {"coding": coding["coding"][1:]}, "subject": {"reference": "Patient/p02"}}
    await records.put(*patients(), tree, first)
    assert await records.ids("Patient", ASKED) == ["p01", "p02"]
    async with database.acquire() as connection:
        await connection.execute("delete from resource where id = 'o'")
        moved = records.extractor.extract(first | {"subject": {"reference": "Patient/p03"}}, "Observation", "f")
        await connection.execute(
            "update resource set tokens = $1, shard = $2 where id = 'f'", moved.tokens, moved.shard
        )
    assert await records.ids("Patient", ASKED) == ["p03"]


@pytest.mark.parametrize(
    "query",
    [
        [("_has:Observation:patient:code", "1-8")],
        [("_has:Observation:patient:code", f"{LOINC}|1-8,{LOINC}|2-7")],
        [("_has:Observation:patient:code:not", f"{LOINC}|1-8")],
        [("_has:Observation:performer:code", f"{LOINC}|1-8")],
        [("_has:Encounter:patient:type", f"{LOINC}|1-8")],
        [ASKED, ("active", "true")],
        [ASKED, ("_sort", "name")],
        [ASKED, ("_contained", "both")],
        [ASKED, ("_summary", "count")],
    ],
)
async def test_what_asks_for_more_or_less_is_found_in_another_way(
    database: Database, query: list[tuple[str, str]]
) -> None:
    async with database.acquire() as connection:
        assert await lowered(connection, Records(database), *query) is None


async def test_who_may_not_see_all_is_answered_in_another_way(database: Database) -> None:
    records = Records(database)
    tree = {"resourceType": "Observation", "id": "o", "code": {"coding": [{"system": LOINC, "code": "1-8"}]}}
    await records.put(
        *patients(), *(tree | {"id": f"o{n}", "subject": {"reference": f"Patient/p0{n}"}} for n in (1, 2))
    )
    await records.link("p02", "person")
    mine = AccessPredicate(ALL_GRANTS, person_id="person")
    async with database.acquire() as connection:
        assert await lowered(connection, records, ASKED, access=mine) is None
    assert await records.ids("Patient", ASKED, access=mine) == ["p02"]


async def test_rows_of_an_earlier_format_are_found_in_another_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, pick = Records(database), random.Random(5)
    trees = observations(pick, 60, latest=False)
    await records.put(*patients(), *trees)
    async with database.acquire() as connection:
        await connection.execute("update resource set tokens = tokens[1:1] || tokens[3:] || tokens[2:2]")
        await connection.execute("update installation set index_format = $1", formats.CODES - 1)
        monkeypatch.setattr(database, "installation", replace(database.installation, index_format=formats.CODES - 1))
        assert await lowered(connection, records, ASKED) is None
    assert await records.ids("Patient", ASKED, ("_count", "100")) == pointed_at(trees)


async def test_many_that_have_it_beside_another_are_found_in_another_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded, "FURTHER_MAX", 3)
    records = Records(database)
    await records.put(*patients(), *observations(random.Random(2), 100, latest=False))
    async with database.acquire() as connection:
        assert await lowered(connection, records, ASKED) is None


@pytest.mark.parametrize("worth", [0, 1_000])
async def test_of_one_patient_only_the_first_row_is_read(
    database: Database, monkeypatch: pytest.MonkeyPatch, worth: int
) -> None:
    """Three patients have thirty each, of nine hundred rows of thirty codes."""
    monkeypatch.setattr(coded_patients, "isqrt", lambda _: worth)
    records = Records(database)
    for n in range(900):
        code = {"coding": [{"system": LOINC, "code": f"{n % 30 // 3}-8"}]}
        subject = {"reference": f"Patient/p{n % 3:02}"}
        await records.put({"resourceType": "Observation", "id": f"o{n}", "code": code, "subject": subject})
    await records.put(*patients())
    planned = plan(parse("Patient", [ASKED, ("_count", "2")]), EVERYTHING)
    index = "resource_observation_code_shard_ix"
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    async with database.acquire() as connection, connection.transaction():
        page = await search(connection, planned, installation=database.installation, bodies=Plain())
        assert [one.id for one in page.matches] == ["p00", "p01"]
        assert await connection.fetchval("select pg_stat_get_xact_numscans('resource_observation'::regclass)") == 0
        assert await connection.fetchval("select pg_stat_get_xact_numscans($1::text::regclass)", index) > 0
        fetched = await connection.fetchval("select pg_stat_get_xact_tuples_fetched($1::text::regclass)", index)
        assert 0 < fetched <= 3 * 3, "each patient's first: to count, to find and to ask"
