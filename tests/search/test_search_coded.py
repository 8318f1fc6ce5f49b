"""A search by one code alone: its rows from the index of codes, whichever coding of a concept says it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ehr.database.connection import Connection
from ehr.database.engine import Database
from ehr.index import formats, rebuild
from ehr.index.hashing import Hasher
from ehr.search import coded
from ehr.search.lower import Lowering
from ehr.search.page import Page, search
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.search.settled import settled
from tests.search.store import EVERYTHING, Plain, Records

LOINC, LOCAL = "http://loinc.org", "urn:lab"
ASKED = ("code", f"{LOINC}|1-8")
DATES = ("2024", "2025-06", "2026-01-05", "2026-01-05T08:00:00+07:00", "2026-01-05T08:00:00.250+07:00", None)


def observation(number: int, pick: random.Random) -> dict[str, Any]:
    """Some are coded so first, some beside another code, some twice, and some not at all."""
    codings = [{"system": LOINC, "code": "1-8"}, {"system": LOCAL, "code": "1-8"}, {"system": LOINC, "code": "2-7"},
               {"code": "1-8"}, {"system": LOINC, "display": "no code"}]  # fmt: skip
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"o{number:03}",
        "code": {"coding": [pick.choice(codings) for _ in range(pick.randint(1, 3))]},
    }
    date = pick.choice(DATES)
    return made | ({"effectiveDateTime": date} if date else {})


def is_asked(tree: dict[str, Any]) -> bool:
    return any(one.get("system") == LOINC and one.get("code") == "1-8" for one in tree["code"]["coding"])


def newest_first(trees: Sequence[dict[str, Any]]) -> list[str]:
    asked = [(tree.get("effectiveDateTime"), tree["id"]) for tree in trees if is_asked(tree)]
    order = {date: at for at, date in enumerate(DATES)}
    asked.sort(key=lambda one: (-1 if one[0] is None else order[one[0]], one[1]), reverse=True)
    return [id for _, id in asked]


async def lowered(connection: Connection, records: Records, *query: tuple[str, str]) -> Lowering | None:
    planned = plan(parse("Observation", list(query)), EVERYTHING)
    return await coded.listed(connection, planned, records.database.installation, records.hasher)


@pytest.mark.parametrize(("further_max", "is_listed"), [(coded.FURTHER_MAX, True), (5, False)])
async def test_the_pages_are_those_of_all_codings(
    database: Database, monkeypatch: pytest.MonkeyPatch, further_max: int, is_listed: bool
) -> None:
    monkeypatch.setattr(coded, "FURTHER_MAX", further_max)
    records, pick = Records(database), random.Random(7)
    trees = [observation(number, pick) for number in range(150)]
    await records.put(*trees)
    async with database.acquire() as connection:
        assert bool(await lowered(connection, records, ASKED)) == is_listed
    expected = newest_first(trees)
    assert len(expected) > 40
    forward, page = await walked(records, [ASKED, ("_count", "7")], "next")
    assert forward == expected
    backward, _ = await walked(records, [ASKED, ("_count", "7"), ("_cursor", page.previous_cursor or "")], "previous")
    assert backward[::-1] == expected[: -len(page.matches)]
    oldest, _ = await walked(records, [ASKED, ("_sort", "date"), ("_count", "11")], "next")
    assert set(oldest) == set(expected)


async def test_what_is_kept_of_a_plan_is_of_one_installation(database: Database) -> None:
    """Plans are kept for a process, which may have two records, each with hashes of its own."""
    planned = plan(parse("Observation", [ASKED]), EVERYTHING)
    async with database.acquire() as connection:
        found = [await coded.listed(connection, planned, database.installation, Hasher(key)) for key in (1, 2, 1)]
    first, other, again = (one.coded if one else None for one in found)
    assert first == again
    assert first
    assert other
    assert not set(first) & set(other)


async def walked(
    records: Records, query: list[tuple[str, str]], to: str, type_name: str = "Observation"
) -> tuple[list[str], Page]:
    """All ids in the order they came, each page from its last row where it is walked back; and the last page."""
    found: list[str] = []
    while True:
        page = await records.page(type_name, query)
        ids = [one.id for one in page.matches]
        found += ids if to == "next" else ids[::-1]
        cursor = page.next_cursor if to == "next" else page.previous_cursor
        if cursor is None:
            return found, page
        query = [*(pair for pair in query if pair[0] != "_cursor"), ("_cursor", cursor)]


@pytest.mark.parametrize(
    "query",
    [
        [("code", "1-8")],
        [("code", f"{LOINC}|1-8,{LOINC}|2-7")],
        [("code", f"{LOINC}|")],
        [("code:not", f"{LOINC}|1-8")],
        [ASKED, ("status", "final")],
        [ASKED, ("_sort", "_lastUpdated")],
        [ASKED, ("_contained", "both")],
        [("combo-code", f"{LOINC}|1-8")],
    ],
)
async def test_what_asks_for_more_or_less_is_found_in_another_way(
    database: Database, query: list[tuple[str, str]]
) -> None:
    async with database.acquire() as connection:
        assert await lowered(connection, Records(database), *query) is None


@pytest.mark.parametrize("query", [[ASKED], [ASKED, ("_sort", "date")]])
async def test_the_index_of_codes_is_walked(database: Database, query: list[tuple[str, str]]) -> None:
    """Planned once for all values, as the first page is: no code's frequency leads elsewhere."""
    records, planned = Records(database), plan(parse("Observation", query), EVERYTHING)
    assert settled(planned, records.hasher)
    await records.put(*(observation(number, random.Random(number)) for number in range(900)))
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    async with database.acquire(plans="once") as connection, connection.transaction():
        await search(connection, planned, installation=database.installation, bodies=Plain())
        scans = "select pg_stat_get_xact_numscans($1::text::regclass)"
        assert await connection.fetchval(scans, "resource_observation_code_ix") == 1
        assert await connection.fetchval(scans, "resource_observation") == 0, "never from one end to the other"


async def test_rows_of_an_earlier_format_are_found_in_another_way_until_they_are_indexed_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, pick = Records(database), random.Random(3)
    trees = [observation(number, pick) for number in range(60)]
    await records.put(*trees)
    before = "update resource set tokens = tokens[1:1] || tokens[3:] || tokens[2:2]"
    async with database.acquire() as connection:
        await connection.execute(before)
        await connection.execute("update installation set index_format = $1", formats.CODES - 1)
    earlier = replace(database.installation, index_format=formats.CODES - 1)
    monkeypatch.setattr(database, "installation", earlier)
    page = await records.page("Observation", [ASKED, ("_count", "100")])
    assert [one.id for one in page.matches] == newest_first(trees)
    async with database.acquire() as connection, connection.transaction():
        done = await rebuild.rebuild_page(connection, records.extractor, Plain(), "Observation", after_rid=0)
        assert done.changed > 30
        await formats.raised(connection, formats.CODES)
        again = await rebuild.rebuild_page(connection, records.extractor, Plain(), "Observation", after_rid=0)
        assert again.changed == 0
        assert await lowered(connection, records, ASKED) is not None
    page = await records.page("Observation", [ASKED, ("_count", "100")])
    assert [one.id for one in page.matches] == newest_first(trees)
