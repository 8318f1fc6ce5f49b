"""An order of dates from a bound on: what began at it or later, and what began before it and lasts beyond."""

import random
from datetime import date, timedelta
from typing import Any

import pytest

from ehr.database.engine import Database
from ehr.search.page import search
from ehr.search.parse import parse
from ehr.search.plan import plan
from tests.search.store import EVERYTHING, Plain, Records
from tests.search.test_search_coded import walked

FIRST = date(2024, 1, 1)


def day(number: int) -> str:
    return (FIRST + timedelta(number)).isoformat()


def stay(number: int, pick: random.Random) -> dict[str, Any]:
    """A moment, a day, some days, months, without an end, or without a date."""
    begins, tree = pick.randrange(60), {"resourceType": "Encounter", "id": f"e{number:03}", "status": "finished"}
    lasts = pick.choice([0, 0, 1, 2, 9, 45, None])
    if pick.random() < 0.1:
        return tree
    period = {"start": f"{day(begins)}T08:00:00Z"} if pick.random() < 0.5 else {"start": day(begins)}
    return tree | {"period": period | ({} if lasts is None else {"end": day(begins + lasts)})}


def ends_after(tree: dict[str, Any], bound: str, prefix: str) -> bool:
    period = tree.get("period")
    if period is None:
        return False
    end = period.get("end")
    return end is None or (end >= bound if prefix == "ge" else end > bound)


@pytest.mark.parametrize("prefix", ["ge", "gt"])
@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize("more", [[], [("status", "finished")]])
async def test_the_pages_are_those_of_all_that_end_after(
    database: Database, prefix: str, direction: str, more: list[tuple[str, str]]
) -> None:
    records, pick = Records(database), random.Random(f"{prefix}{direction}")
    trees = [stay(number, pick) for number in range(120)]
    await records.put(*trees)
    for bound in (day(0), day(25), day(59), day(200)):
        found = [tree for tree in trees if ends_after(tree, bound, prefix)]
        expected = {tree["id"] for tree in found}
        asked = [("date", f"{prefix}{bound}"), ("_sort", f"{direction}date"), *more]
        seen, page = await walked(records, [*asked, ("_count", "7")], "next", "Encounter")
        assert len(seen) == len(set(seen))
        assert set(seen) == expected
        starts = {tree["id"]: tree["period"]["start"][:10] for tree in found}
        assert [starts[one] for one in seen] == sorted(starts.values(), reverse=bool(direction))
        if page.previous_cursor:
            back, _ = await walked(
                records, [*asked, ("_count", "7"), ("_cursor", page.previous_cursor)], "previous", "Encounter"
            )
            assert back[::-1] == seen[: -len(page.matches)]
        assert seen == await records.ids("Encounter", *asked, ("_count", "200"))


@pytest.mark.parametrize("order", ["date", "-date"])
async def test_nothing_before_the_bound_is_passed(database: Database, order: str) -> None:
    records = Records(database)
    for number in range(600):
        begins = f"{day(number // 3)}T08:00:00Z"
        period = {"start": begins, "end": begins}
        await records.put({"resourceType": "Encounter", "id": f"e{number:04}", "status": "finished", "period": period})
    asked = [("date", f"ge{day(190)}"), ("_sort", order), ("status", "finished")]
    planned = plan(parse("Encounter", asked), EVERYTHING)
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    async with database.acquire() as connection, connection.transaction():
        page = await search(connection, planned, installation=database.installation, bodies=Plain())
        assert len(page.matches) == 20
        read = "select pg_stat_get_xact_tuples_fetched(oid) + pg_stat_get_xact_tuples_returned(oid)"
        assert await connection.fetchval(f"{read} from pg_class where relname = 'resource_encounter'") <= 40, (
            "thirty that match, and a day's before them"
        )
