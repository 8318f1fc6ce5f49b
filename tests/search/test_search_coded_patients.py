"""_has of patients by one code: the same patients as any other way finds, however few or many, wherever they lie."""

import random
from dataclasses import replace
from typing import Any

import pytest

from ehr.access.policy import ALL_GRANTS, AccessPredicate
from ehr.database.connection import Connection
from ehr.database.engine import Database
from ehr.index import formats
from ehr.index.hashing import hasher_of
from ehr.search import coded, coded_patients, expect, pace
from ehr.search import lowered as keeping
from ehr.search.lower import Lowering
from ehr.search.page import search
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.search.settled import settled
from tests.search.store import EVERYTHING, Plain, Records
from tests.search.test_search_coded import LOINC, is_asked, observation, walked

ASKED = ("_has:Observation:patient:code", f"{LOINC}|1-8")
PATIENTS = 60


def patients() -> list[dict[str, Any]]:
    known = {"resourceType": "Patient", "active": True, "birthDate": "1950-03-01"}
    return [known | {"id": f"p{number:02}"} for number in range(PATIENTS)]


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


def by_shard(records: Records, ids: list[str]) -> list[str]:
    return sorted(ids, key=lambda id: records.hasher.shard("Patient", id))


async def lowered(
    connection: Connection, records: Records, *query: tuple[str, str], access: AccessPredicate = EVERYTHING
) -> Lowering | None:
    planned = plan(parse("Patient", list(query)), access)
    return await coded_patients.pointed_at(connection, planned, None, records.database.installation, records.hasher)


SORTED = ("_sort", "birthdate")
"""All are born on one day: in the order in which they came."""
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
        found = await lowered(connection, records, ASKED, SORTED)
    assert found is not None
    assert bool(found.few) == (way == "few")
    assert not found.by_shard
    expected = pointed_at(trees)
    assert expected
    await look_through(records, [ASKED, SORTED], expected)


async def look_through(records: Records, query: list[tuple[str, str]], expected: list[str]) -> None:
    """All pages of some lengths, forward and back, and totals."""
    for count in ("1", "3", "100"):
        forward, page = await walked(records, [*query, ("_count", count)], "next", "Patient")
        assert forward == expected
        if page.previous_cursor:
            backward, _ = await walked(
                records, [*query, ("_count", count), ("_cursor", page.previous_cursor)], "previous", "Patient"
            )
            assert backward[::-1] == expected[: -len(page.matches)]
    for total in ("accurate", "estimate"):
        page = await records.page("Patient", [*query, ("_total", total), ("_count", "2")])
        assert page.total == len(expected)
    assert (await records.page("Patient", [*query, ("_summary", "count")])).total == len(expected)


@pytest.mark.parametrize("often", [12, 60, 200])
async def test_without_an_order_patients_come_in_that_of_their_shards(database: Database, often: int) -> None:
    records, pick = Records(database), random.Random(often)
    trees = observations(pick, often, latest=False)
    await records.put(*patients(), *trees)
    async with database.acquire() as connection:
        found = await lowered(connection, records, ASKED)
    assert found is not None
    assert found.by_shard
    await look_through(records, [ASKED], by_shard(records, pointed_at(trees)))


async def test_a_walk_goes_on_in_its_order_whatever_is_written_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patients come and go, and the code becomes one that many have beside another first one."""
    records, pick = Records(database), random.Random(3)
    trees = observations(pick, 200, latest=False)
    await records.put(*patients(), *trees)
    expected = by_shard(records, pointed_at(trees))
    page = await records.page("Patient", [ASKED, ("_count", "4")])
    seen = [one.id for one in page.matches]
    gone, *stay = expected[8:]
    later = [{"resourceType": "Patient", "id": f"later{n}"} for n in range(20)]
    of_later = [
        observation(1_000 + n, pick) | {"code": {"coding": [{"system": LOINC, "code": "1-8"}]}} for n in range(20)
    ]
    named = [tree | {"subject": {"reference": f"Patient/later{n}"}} for n, tree in enumerate(of_later)]
    await records.put(*later, *named)
    async with database.acquire() as connection:
        await connection.execute("delete from resource where id = $1", gone)
    monkeypatch.setattr(coded, "FURTHER_MAX", 3)
    while page.next_cursor:
        page = await records.page("Patient", [ASKED, ("_count", "4"), ("_cursor", page.next_cursor)])
        seen += [one.id for one in page.matches]
    assert seen == [*expected[:8], *stay]


async def test_a_walk_that_began_in_another_order_goes_on_in_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, pick = Records(database), random.Random(4)
    trees = observations(pick, 200, latest=False)
    await records.put(*patients(), *trees)
    with monkeypatch.context() as few:
        few.setattr(coded, "FURTHER_MAX", 3)
        page = await records.page("Patient", [ASKED, ("_count", "4")])
    seen = [one.id for one in page.matches]
    while page.next_cursor:
        page = await records.page("Patient", [ASKED, ("_count", "4"), ("_cursor", page.next_cursor)])
        seen += [one.id for one in page.matches]
    assert seen == pointed_at(trees)


async def test_what_is_changed_and_deleted_points_no_more(database: Database) -> None:
    records = Records(database)
    coding = {"coding": [{"system": LOINC, "code": "2-7"}, {"system": LOINC, "code": "1-8"}]}
    tree = {"resourceType": "Observation", "id": "o", "code": coding, "subject": {"reference": "Patient/p01"}}
    first = tree | {"id": "f", "code": {"coding": coding["coding"][1:]}, "subject": {"reference": "Patient/p02"}}
    await records.put(*patients(), tree, first)
    assert await records.ids("Patient", ASKED) == by_shard(records, ["p01", "p02"])
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


@pytest.mark.parametrize(("worth", "order"), [(0, [SORTED]), (1_000, [SORTED]), (0, [])])
async def test_of_one_patient_only_the_first_row_is_read(
    database: Database, monkeypatch: pytest.MonkeyPatch, worth: int, order: list[tuple[str, str]]
) -> None:
    """Three patients have thirty each, of nine hundred rows of thirty codes."""
    monkeypatch.setattr(coded_patients, "isqrt", lambda _: worth)
    records = Records(database)
    for n in range(900):
        code = {"coding": [{"system": LOINC, "code": f"{n % 30 // 3}-8"}]}
        subject = {"reference": f"Patient/p{n % 3:02}"}
        await records.put({"resourceType": "Observation", "id": f"o{n}", "code": code, "subject": subject})
    await records.put(*patients())
    planned = plan(parse("Patient", [ASKED, ("_count", "2"), *order]), EVERYTHING)
    expected = ["p00", "p01"] if order else by_shard(records, ["p00", "p01", "p02"])[:2]
    index = "resource_observation_code_shard_ix"
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    async with database.acquire() as connection, connection.transaction():
        page = await search(connection, planned, installation=database.installation, bodies=Plain())
        assert [one.id for one in page.matches] == expected
        assert await connection.fetchval("select pg_stat_get_xact_numscans('resource_observation'::regclass)") == 0
        assert await connection.fetchval("select pg_stat_get_xact_numscans($1::text::regclass)", index) > 0
        fetched = await connection.fetchval("select pg_stat_get_xact_tuples_fetched($1::text::regclass)", index)
        assert 0 < fetched <= 3 * 3, "each patient's first: to count, to find and to ask"


async def test_it_is_planned_once_as_long_as_the_index_can_be_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(database)
    trees = observations(random.Random(6), 100, latest=False)
    await records.put(*patients(), *trees)
    planned = plan(parse("Patient", [ASKED]), EVERYTHING)
    assert not settled(planned, hasher_of(database.installation.hash_key)), (
        "nobody knows yet whether the index can be read"
    )

    async def asked() -> list[str]:
        async with database.acquire() as connection:
            page = await search(connection, planned, installation=database.installation, bodies=Plain())
        return [one.id for one in page.matches]

    assert await asked() == by_shard(records, pointed_at(trees))[:20]
    assert settled(planned, hasher_of(database.installation.hash_key))
    monkeypatch.setattr(coded, "FURTHER_MAX", 0)
    assert await asked() == by_shard(records, pointed_at(trees))[:20], "what is known is used"
    for module in (expect, keeping):
        monkeypatch.setattr(module, "KEPT_S", 0.0)
    assert await asked() == pointed_at(trees)[:20]
    assert not settled(planned, hasher_of(database.installation.hash_key))
