"""What few resources have is looked up before any order is tried, and gives the same pages."""

from typing import Any

import pytest
from msgspec.structs import replace

from ehr.database.engine import Database
from ehr.search import expect, pace, probe
from ehr.search.lower import Lowering
from ehr.search.parse import parse
from ehr.search.plan import SearchPlan, plan
from ehr.search.shape import Values
from tests.search.store import EVERYTHING, Records

NEWEST = ("_sort", "-date")


def observation(number: int) -> dict[str, Any]:
    """One in ten has the rare code, and all of those are the oldest."""
    code = "rare" if number < 8 else "common"
    return {
        "resourceType": "Observation",
        "id": f"o{number:03}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/p{number % 4}"},
        "effectiveDateTime": f"2026-01-{number // 3 + 1:02}",
    }


async def lowered(records: Records, query: list[tuple[str, str]], type_name: str = "Observation") -> Lowering:
    async with records.database.acquire() as connection:
        return await probe.lowering_of(connection, plan(parse(type_name, query), EVERYTHING), records.hasher)


async def test_tokens_of_few_are_told_from_those_of_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "GATHERED_MAX", 20)
    records = Records(database)
    await records.put(*(observation(number) for number in range(80)))
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    rare, common = [("code", "rare"), NEWEST], [("code", "common"), NEWEST]
    assert [one.parameter.code for one in (await lowered(records, rare)).few if hasattr(one, "parameter")] == ["code"]
    assert (await lowered(records, common)).few == ()
    assert await records.ids("Observation", *rare) == [f"o{n:03}" for n in (7, 6, 5, 4, 3, 2, 1, 0)]
    assert await records.ids("Observation", *common, ("_count", "2")) == ["o079", "o078"]


async def test_what_grew_meanwhile_is_expected_anew(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "GATHERED_MAX", 20)
    records, asked = Records(database), [("code", "rare"), NEWEST]
    for first in (0, 100):
        await records.put(*(observation(number % 8) | {"id": f"o{first + number}"} for number in range(first // 2 + 8)))
        async with database.acquire() as connection:
            await connection.execute("analyze resource")
        assert (await lowered(records, asked)).few, "it was expected of eight"
    monkeypatch.setattr(expect, "KEPT_S", 0.0)
    assert not (await lowered(records, asked)).few


async def test_a_page_that_the_next_rows_fill_is_passed_for_and_any_other_is_looked_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "GATHERED_MAX", 20)
    records = Records(database)
    await records.put(*(observation(number) for number in range(80)))
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    rare, common, few = ("code", "rare"), ("code", "common"), ("_count", "2")
    assert (await lowered(records, [common, NEWEST, few])).pass_rows == 256 < 72 * pace.PASSED
    assert (await lowered(records, [rare, NEWEST, ("_count", "20")])).pass_rows == 0, "there are not so many"
    assert (await lowered(records, [common, ("_sort", "value-quantity"), few])).pass_rows == 0, "no index has the order"
    assert (await lowered(records, [common, ("_sort", "_id"), few])).pass_rows == 0, "rows lie anywhere in it"
    assert (await lowered(records, [common, ("date", "ge2026-01-20"), few])).pass_rows == 0, "the date finds rows too"
    for asked in ([common], [rare], [rare, common], [common, ("status", "final")]):
        whole = await records.ids("Observation", *asked, ("_count", "100"))
        newest = await records.ids("Observation", *asked, ("_count", "100"), NEWEST)
        assert sorted(newest) == whole
        for pass_rows in (0, 1, 3, 40, 80):
            always = AlwaysPassing(pass_rows)
            monkeypatch.setattr(pace, "paced", always)
            assert await walked(records, [*asked, few]) == whole
            assert await walked(records, [*asked, few, NEWEST]) == newest
            assert always.asked


class AlwaysPassing:
    """So many rows are passed, whatever is expected."""

    def __init__(self, pass_rows: int) -> None:
        self.pass_rows, self.asked = pass_rows, 0

    async def __call__(self, _: Any, lowering: Lowering, asked: SearchPlan) -> Lowering:
        self.asked += 1
        return replace(lowering, lead=asked.conditions[0], pass_rows=self.pass_rows)


async def walked(records: Records, query: list[tuple[str, str]], type_name: str = "Observation") -> list[str]:
    """Ids of all pages, forward; each page back shows what the one before it did."""
    found: list[list[str]] = []
    page = await records.page(type_name, query)
    while True:
        found.append([one.id for one in page.matches])
        if page.previous_cursor and len(found) > 1:
            before = await records.page(type_name, [*query, ("_cursor", page.previous_cursor)])
            assert [one.id for one in before.matches] == found[-2]
        if page.next_cursor is None:
            return [one for ids in found for one in ids]
        page = await records.page(type_name, [*query, ("_cursor", page.next_cursor)])


async def test_patients_by_chain_and_by_has_are_told_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(database)
    people = [{"resourceType": "Patient", "id": f"p{n}", "gender": ("female", "male")[n % 2]} for n in range(4)]
    await records.put(*people, *(observation(number) for number in range(80)))
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    chain, has = [("patient.gender", "male")], [("_has:Observation:patient:code", "rare")]
    assert len((await lowered(records, chain)).few) == len((await lowered(records, has, "Patient")).few) == 1
    narrow = await records.ids("Observation", *chain, NEWEST), await records.ids("Patient", *has)
    monkeypatch.setattr(probe, "PATIENTS_MAX", 1)
    monkeypatch.setattr(pace, "POINTING_MAX", 1)
    assert (await lowered(records, chain)).few == (await lowered(records, has, "Patient")).few == ()
    assert (await records.ids("Observation", *chain, NEWEST), await records.ids("Patient", *has)) == narrow
    for pass_rows in (0, 1, 2, 4):
        monkeypatch.setattr(pace, "paced", AlwaysPassing(pass_rows))
        assert await walked(records, [*has, ("_count", "1")], "Patient") == narrow[1]


async def test_names_are_taken_from_their_list_in_its_order(database: Database) -> None:
    records = Records(database)
    names = [["Nguyễn", "Ngô"], ["Ngô"], ["Trần"], ["Nguyễn"], ["Ngọc"]]
    people = [
        {"resourceType": "Patient", "id": f"p{n}", "name": [{"family": one} for one in names[n]]} for n in range(5)
    ]
    await records.put(*people, {"resourceType": "Person", "id": "p9", "name": [{"family": "Ngô"}]})
    asked = [("family", "ng"), ("_count", "1")]
    assert await walked(records, asked, "Patient") == ["p0", "p1", "p3", "p4"]
    assert await walked(records, [*asked, ("_sort", "-_id")], "Patient") == ["p4", "p3", "p1", "p0"]
    assert await walked(records, [*asked, ("family", "ngu")], "Patient") == ["p0", "p3"]


def patient(number: int) -> dict[str, Any]:
    """A third have one family name, which nobody has for a given name or a street; the other names are few's."""
    return {
        "resourceType": "Patient",
        "id": f"p{number:03}",
        "name": [{"family": "Nguyễn" if number % 3 == 0 else f"Họ{number}", "given": ["Văn", f"Tên{number}"]}],
        "address": [{"line": [f"{number} Hàng Bạc"], "district": f"Quận {number % 12}", "city": "Hà Nội"}],
    }


async def test_a_name_of_many_is_expected_of_many(database: Database) -> None:
    records = Records(database)
    await records.put(*(patient(number) for number in range(300)))
    asked = plan(parse("Patient", [("family", "nguyen")]), EVERYTHING)
    async with database.acquire() as connection:
        await connection.execute("analyze")
        to = Values()
        lowering = Lowering(records.hasher, EVERYTHING)
        expected = await expect.rows(connection, lowering.inner(to, "Patient", asked.conditions[0]), to)
    assert 80 <= expected <= 120, "a hundred have it"
