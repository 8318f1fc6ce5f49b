"""Pages in an order that updates change: what was there when the walk began comes once, whatever moves meanwhile."""

import random
from collections import Counter
from typing import Any

import pytest

from ehr import limits
from ehr.access.policy import Caller
from ehr.fhir import codec
from ehr.interactions.search import Searched, search
from ehr.store.record import Record

CALLER = Caller.system("test")
COUNT = 17
SORTS = ("_lastUpdated", "-_lastUpdated", "date", "-date", "-date,_id", "value-quantity,-date", "-combo-value-quantity",
         "status", "-subject,date")  # fmt: skip


def observation(number: int, chance: random.Random, walk: str = "n") -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"{walk}-{number:03}",
        "status": "final",
        "code": {"coding": [{"system": "http://x", "code": walk}]},
    }
    if chance.random() < 0.8:
        made["effectiveDateTime"] = f"2026-03-{1 + chance.randrange(28):02}"
    if chance.random() < 0.8:
        made["valueQuantity"] = {"value": chance.randrange(9)}
    if chance.random() < 0.8:
        made["subject"] = {"reference": f"Patient/p{chance.randrange(5)}"}
        made["status"] = chance.choice(["final", "amended", "corrected"])
    return made


async def put(record: Record, *trees: dict[str, Any]) -> None:
    for tree in trees:
        await record.write(
            CALLER,
            lambda uow, t=tree: uow.resources.update("Observation", t["id"], codec.dumps(t), t),  # type: ignore[misc]
        )


async def page(
    record: Record, sort: str, count: int, cursor: str | None, walk: str = "n", *, include: str | None = None
) -> Searched:
    query = [("code", f"http://x|{walk}"), ("_sort", sort), ("_count", str(count))]
    query += [("_include", include)] if include else []
    return await search(record, CALLER, "Observation", [*query, ("_cursor", cursor)] if cursor else query)


@pytest.mark.parametrize("sort", SORTS)
async def test_everything_that_was_there_comes_once(record: Record, monkeypatch: pytest.MonkeyPatch, sort: str) -> None:
    for walk, (count, moved_max) in enumerate([(1, 1_000), (4, 1_000), (4, 2)]):
        monkeypatch.setattr(limits, "page_moved_max", moved_max)
        await walk_while_others_write(record, sort, count, f"w{walk}", random.Random(f"{sort}{walk}"))


async def walk_while_others_write(record: Record, sort: str, count: int, walk: str, chance: random.Random) -> None:
    await put(record, *(observation(number, chance, walk) for number in range(COUNT)))
    gone: set[str] = set()
    found: list[str] = []
    cursor: str | None = None
    for turn in range(20 * COUNT):
        shown = (await page(record, sort, count, cursor, walk)).page
        assert len(shown.matches) <= count
        found += [one.id for one in shown.matches]
        cursor = shown.next_cursor
        if cursor is None:
            break
        moving = [observation(chance.randrange(COUNT), chance, walk) for _ in range(chance.randrange(5))]
        await put(record, *(one for one in moving if one["id"] not in gone), observation(100 + turn, chance, walk))
        if turn == 2:
            gone.add(f"{walk}-005")
            await record.write(CALLER, lambda uow: uow.resources.delete("Observation", f"{walk}-005"))
    else:
        pytest.fail("the walk never ends")
    counted = Counter(found)
    assert max(counted.values()) == 1
    assert {f"{walk}-{number:03}" for number in range(COUNT)} - set(counted) <= gone


async def test_what_moved_is_shown_as_it_is_now_and_audited(record: Record) -> None:
    chance = random.Random(1)
    trees = [observation(number, chance) | {"subject": {"reference": f"Patient/p{number}"}} for number in range(6)]
    await put(record, *trees)
    first = (await page(record, "_lastUpdated", 2, None)).page
    await put(record, trees[5] | {"status": "entered-in-error"})
    second = (await page(record, "_lastUpdated", 2, first.next_cursor)).page
    assert [(one.id, b'"entered-in-error"' in one.body) for one in second.matches] == [
        ("n-005", True),
        ("n-002", False),
    ]
    shards = {one.shard for one in second.matches}
    async with record.database.acquire() as connection:
        noted = await connection.fetch("SELECT shard FROM audit WHERE action = 'S'")
    assert shards <= {row["shard"] for row in noted}


async def test_includes_shorten_a_page_with_what_moved(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(2)
    patients = [{"resourceType": "Patient", "id": f"p{number}"} for number in range(8)]
    for tree in patients:
        await record.write(CALLER, lambda uow, t=tree: uow.resources.update("Patient", t["id"], codec.dumps(t), t))  # type: ignore[misc]
    trees = [observation(number, chance) | {"subject": {"reference": f"Patient/p{number}"}} for number in range(8)]
    await put(record, *trees)
    monkeypatch.setattr(limits, "include_count_max", 2)
    found: list[str] = []
    cursor: str | None = None
    for turn in range(20):
        shown = (await page(record, "-_lastUpdated", 4, cursor, include="Observation:patient")).page
        found += [one.id for one in shown.matches]
        assert len(shown.included) == len(shown.matches) <= 2
        cursor = shown.next_cursor
        if cursor is None:
            break
        if turn == 0:
            await put(record, *(tree | {"status": "entered-in-error"} for tree in trees[:4]))
    assert sorted(found) == [f"n-{number:03}" for number in range(8)]
