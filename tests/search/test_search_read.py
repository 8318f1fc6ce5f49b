"""Orders and words that are read from the resources: the same answers as a naive walk, and no more than the bound."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ehr import limits
from ehr.database.engine import Database
from ehr.errors import NotSupported, TooMuch
from ehr.search.matches import match_ids
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.store.body import BodyCodec
from tests.search.store import EVERYTHING, Records

TIMES = ("một", "hai", "ba")
CODES = ("a", "B", "c", "10", "9", "đ")


def observation(pick: random.Random, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"o{number:02}",
        "status": pick.choice(("final", "preliminary")),
        "code": {"coding": [{"system": "urn:s", "code": pick.choice(CODES)} for _ in range(pick.randint(1, 2))]},
        "note": [{"text": pick.choice(("Sốt cao, ho khan", "Không sốt", "đau đầu")) + f" lần {TIMES[number % 3]}"}],
    }
    if pick.random() < 0.8:
        made["subject"] = {"reference": f"{pick.choice(('Patient', 'Group'))}/p{pick.randint(0, 3)}"}
    if pick.random() < 0.5:
        made["valueQuantity"] = {"value": pick.randint(1, 3)}
    if pick.random() < 0.5:
        made["effectiveDateTime"] = f"2026-03-0{pick.randint(1, 3)}"
    return made


def values(tree: dict[str, Any], code: str) -> list[Any]:
    match code:
        case "status":
            return [tree["status"]]
        case "code":
            return [one["code"] for one in tree["code"]["coding"]]
        case "subject":
            return [tree["subject"]["reference"]] if "subject" in tree else []
        case "patient":
            return [text for text in values(tree, "subject") if text.startswith("Patient/")]
        case "value-quantity":
            return [tree["valueQuantity"]["value"]] if "valueQuantity" in tree else []
        case "date":
            return [tree["effectiveDateTime"]] if "effectiveDateTime" in tree else []
        case _:
            return [tree["id"]]


def ordered(trees: list[dict[str, Any]], sort: list[str]) -> list[str]:
    """Stable sorts from the last key to the first, on a list in the order of creation."""
    found = list(reversed(trees)) if sort[-1].startswith("-") else list(trees)
    for one in reversed(sort):
        code, down = one.removeprefix("-"), one.startswith("-")
        there = [tree for tree in found if values(tree, code)]
        there.sort(key=lambda tree: (max if down else min)(values(tree, code)), reverse=down)
        found = there + [tree for tree in found if not values(tree, code)]
    return [tree["id"] for tree in found]


@pytest.fixture
async def records(module_database_url: str) -> AsyncIterator[Records]:
    opened = await Database.open(module_database_url, connections_max=4)
    made = Records(opened)
    async with opened.acquire() as connection:
        if await connection.fetchval("select not exists (select 1 from resource)"):
            await made.put(*WORLD)
    yield made
    await opened.close()


_PICK = random.Random(7)
WORLD = [observation(_PICK, number) for number in range(40)]


@pytest.mark.parametrize("seed", range(12))
async def test_any_order_equals_the_naive_one(records: Records, seed: int) -> None:
    pick = random.Random(seed)
    codes = pick.sample(["status", "code", "subject", "patient", "value-quantity", "date", "_id"], pick.randint(1, 3))
    sort = [pick.choice(("", "-")) + one for one in codes]
    query = [("_sort", ",".join(sort)), ("_total", "accurate")]
    page = await records.page("Observation", [*query, ("_count", "100")])
    assert [one.id for one in page.matches] == ordered(WORLD, sort), sort
    assert page.total == 40


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sot", lambda note: "ốt" in note),
        ("sốt and not cao", lambda note: "ốt" in note and "cao" not in note),
        ("(dau or khan) and hai", lambda note: ("đau" in note or "khan" in note) and note.endswith("hai")),
        ("sot,dau", lambda note: True),
        ("div", lambda note: False),
    ],
)
async def test_content_is_every_word(records: Records, text: str, wanted: Any) -> None:
    expected = [tree["id"] for tree in WORLD if wanted(tree["note"][0]["text"])]
    page = await records.page("Observation", [("_content", text), ("_count", "100"), ("_total", "accurate")])
    assert [one.id for one in page.matches] == expected
    assert page.total == len(expected)
    narrowed = await records.ids("Observation", ("_content", text), ("status", "final"), ("_sort", "-_id"))
    final = [tree["id"] for tree in WORLD if tree["status"] == "final" and tree["id"] in expected]
    assert narrowed == final[::-1][:20]


async def test_more_than_the_bound_is_refused(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "search_read_max", 39)
    for name, value in (("_sort", "code"), ("_content", "x")):
        with pytest.raises(TooMuch) as refused:
            await records.ids("Observation", (name, value))
        assert refused.value.issues[0].at == name
    assert len(await records.ids("Observation", ("_sort", "code"), ("status", "final"))) > 5
    assert len(await records.ids("Observation", ("_sort", "date"))) == 20


async def test_a_condition_is_not_answered_by_reading(records: Records) -> None:
    planned = plan(parse("Observation", [("_content", "sot")]), EVERYTHING)
    async with records.database.acquire() as connection:
        with pytest.raises(NotSupported):
            await match_ids(connection, planned, 2, installation=records.database.installation, bodies=BodyCodec())
