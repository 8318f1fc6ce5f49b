"""What few resources have is looked up before any order is tried, and gives the same pages."""

from typing import Any

import pytest

from ehr.database.engine import Database
from ehr.search import probe
from ehr.search.lower import Lowering
from ehr.search.parse import parse
from ehr.search.plan import plan
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
    monkeypatch.setattr(probe, "GATHERED_MAX", 20)
    records = Records(database)
    await records.put(*(observation(number) for number in range(80)))
    async with database.acquire() as connection:
        await connection.execute("analyze resource")
    rare, common = [("code", "rare"), NEWEST], [("code", "common"), NEWEST]
    assert [one.parameter.code for one in (await lowered(records, rare)).few if hasattr(one, "parameter")] == ["code"]
    assert (await lowered(records, common)).few == ()
    assert await records.ids("Observation", *rare) == [f"o{n:03}" for n in (7, 6, 5, 4, 3, 2, 1, 0)]
    assert await records.ids("Observation", *common, ("_count", "2")) == ["o079", "o078"]


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
    monkeypatch.setattr(probe, "POINTING_MAX", 1)
    assert (await lowered(records, chain)).few == (await lowered(records, has, "Patient")).few == ()
    assert (await records.ids("Observation", *chain, NEWEST), await records.ids("Patient", *has)) == narrow
