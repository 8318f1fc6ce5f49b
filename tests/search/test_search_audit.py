"""A page and the audit rows of what it shows are one statement: a row for each patient shown, for no other."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from ehr.access.policy import ALL_GRANTS, Caller
from ehr.database.engine import Database
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.page import Note, Page, search
from ehr.search.parse import parse
from ehr.search.plan import plan
from tests.search.store import EVERYTHING, Plain, Records

CLIENT = Caller("client", "clinic-7", ALL_GRANTS, facility_id=4, purpose="ETREAT")
PATIENTS = 6
WORLD: tuple[dict[str, Any], ...] = (
    {"resourceType": "Organization", "id": "o1", "name": "Trạm"},
    *({"resourceType": "Patient", "id": f"p{number}"} for number in range(PATIENTS)),
    *(
        {
            "resourceType": "Observation",
            "id": f"b{number:02}",
            "status": "final",
            "code": {"coding": [{"code": "x"}]},
            "subject": {"reference": f"Patient/p{number % PATIENTS}"},
            **({"effectiveDateTime": f"2026-03-{number + 1:02}"} if number < PATIENTS + 2 else {}),
        }
        for number in range(2 * PATIENTS)
    ),
)


@pytest.fixture
async def records(database: Database) -> Records:
    made = Records(database)
    await made.put(*WORLD)
    await made.link("p1", "person-1")
    return made


async def noted(records: Records, type_name: str | None, *query: tuple[str, str]) -> tuple[Page, list[dict[str, Any]]]:
    """A page, and the audit rows it left."""
    planned = plan(parse(type_name, query), EVERYTHING)
    async with records.database.acquire() as connection:
        before = await connection.fetchval("select coalesce(max(id), 0) from audit")
        page = await search(
            connection,
            planned,
            installation=records.database.installation,
            bodies=Plain(),
            note=Note(CLIENT, '{"parameters": ["code"]}'),
        )
        rows = await connection.fetch("select * from audit where id > $1", before)
    return page, [dict(row) for row in rows]


def patients(records: Records, page: Page) -> list[int]:
    shards = {found.shard for found in page.matches if found.type_name in {"Patient", "Observation"}}
    return sorted(shards)


def shards_of(rows: Sequence[dict[str, Any]]) -> list[int]:
    return sorted(row["shard"] for row in rows)


async def test_one_row_a_patient_shown_and_who_looked(records: Records) -> None:
    page, rows = await noted(records, "Observation", ("code", "x"), ("_count", "2"))
    assert page.noted
    assert (
        shards_of(rows) == patients(records, page) == sorted(records.hasher.shard("Patient", p) for p in ("p0", "p1"))
    )
    for row in rows:
        said = {name: row[name] for name in ("actor_kind", "actor", "facility_id", "purpose", "action", "type_id")}
        assert said == {
            "actor_kind": "client",
            "actor": "clinic-7",
            "facility_id": 4,
            "purpose": "ETREAT",
            "action": "S",
            "type_id": TYPE_IDS["Observation"],
        }
        assert row["detail"] == '{"parameters": ["code"]}'
        assert row["resource_id"] is None
        linked = row["shard"] == records.hasher.shard("Patient", "p1")
        assert row["person_id"] == ("person-1" if linked else None)


@pytest.mark.parametrize(
    ("sort", "count"),
    [*itertools.product(("", "-date", "date", "_lastUpdated", "-_id"), (1, 3, 5, 8, 12)), ("-date,_id", 5)],
)
async def test_every_page_in_both_directions_notes_what_it_shows(records: Records, sort: str, count: int) -> None:
    query = [("code", "x"), ("_count", str(count)), *([("_sort", sort)] if sort else [])]
    page, rows = await noted(records, "Observation", *query)
    pages = 1
    assert page.noted
    assert shards_of(rows) == patients(records, page)
    while page.next_cursor:
        page, rows = await noted(records, "Observation", *query, ("_cursor", page.next_cursor))
        assert shards_of(rows) == patients(records, page)
        pages += 1
    while page.previous_cursor:
        page, rows = await noted(records, "Observation", *query, ("_cursor", page.previous_cursor))
        assert shards_of(rows) == patients(records, page) or (not page.matches and shards_of(rows) == [None])
        pages -= 1
    assert pages <= 1


async def test_a_search_that_shows_no_patient_leaves_one_row(records: Records) -> None:
    for type_name, query in (("Observation", ("code", "absent")), ("Organization", ("name", "tram"))):
        page, rows = await noted(records, type_name, query)
        assert page.noted
        assert [row["shard"] for row in rows] == [None]
        assert rows[0]["type_id"] == TYPE_IDS[type_name]
    _, rows = await noted(records, "Observation", ("code", "absent"), ("_sort", "-date"))
    assert [row["shard"] for row in rows] == [None]


async def test_of_several_types_only_those_of_patients_count(records: Records) -> None:
    page, rows = await noted(records, None, ("_type", "Organization,Patient"), ("_count", "3"))
    assert [found.id for found in page.matches] == ["o1", "p0", "p1"]
    assert shards_of(rows) == patients(records, page)
    assert len(rows) == 2
    assert rows[0]["type_id"] is None


async def test_what_the_statement_cannot_know_is_left_to_the_caller(records: Records) -> None:
    for query in ([("_include", "Observation:patient")], [("_count", "0")]):
        page, rows = await noted(records, "Observation", ("code", "x"), *query)
        assert not page.noted
        assert rows == []


@pytest.mark.parametrize(
    ("type_name", "query"),
    [
        ("Observation", [("patient", "p3"), ("code", "y")]),
        ("Observation", [("patient", "p3"), ("code", "x")]),
        ("Observation", [("subject", "Patient/p3"), ("date", "2020")]),
        ("Observation", [("patient", "p3"), ("_sort", "-date"), ("date", "2020")]),
        ("Patient", [("_id", "p3"), ("gender", "male")]),
    ],
)
async def test_who_is_named_is_told_of_whatever_is_found(
    records: Records, type_name: str, query: list[tuple[str, str]]
) -> None:
    """That a patient has no such result is told, too."""
    for _ in range(2):  # the statement is kept
        _, rows = await noted(records, type_name, *query)
        assert shards_of(rows) == [records.hasher.shard("Patient", "p3")]
    _, rows = await noted(records, type_name, *((name, value.replace("p3", "p1")) for name, value in query))
    assert [(row["shard"], row["person_id"]) for row in rows] == [(records.hasher.shard("Patient", "p1"), "person-1")]


async def test_all_who_are_named_are_told_of(records: Records) -> None:
    _, rows = await noted(records, "Observation", ("patient", "p1,p2"), ("code", "y"))
    assert shards_of(rows) == sorted(records.hasher.shard("Patient", id) for id in ("p1", "p2"))
