"""`:missing` over outlines: for every parameter of many types, beside rows that were indexed before there were any."""

from collections.abc import Mapping
from typing import Any

import pytest

from ehr.database.engine import Database
from ehr.fhir import parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.lower import stored_in
from ehr.search.served import served
from tests.search.store import Records
from tests.unit.index_expectations import EXPECTED

CHECKED = sorted(EXPECTED)


async def asked(records: Records, type_name: str, code: str) -> tuple[list[str], list[str]]:
    """Ids of those that have a value, and of those that have none."""
    missing = f"{code}:missing"
    return await records.ids(type_name, (missing, "false")), await records.ids(type_name, (missing, "true"))


async def test_every_parameter_is_there_or_missing(database: Database) -> None:
    records = Records(database)
    empty = {name: {"resourceType": name, "id": "empty"} for name in CHECKED}
    await records.put(*(tree for tree, _ in EXPECTED.values()), *empty.values())
    for name in CHECKED:
        tree, expected = EXPECTED[name]
        for code, parameter in parameters.of(name).items():
            if served(parameter) and parameter.kind != "composite":
                stored = {one.code for one in stored_in(parameter)}
                has = not expected.keys().isdisjoint(stored) or code in {"_id", "_lastUpdated"}
                there, gone = await asked(records, name, code)
                assert (tree["id"] in there, tree["id"] in gone) == (has, not has), (name, code)
                assert ("empty" in there) != ("empty" in gone), (name, code)


def patient(id: str, **members: Any) -> Mapping[str, Any]:
    return {"resourceType": "Patient", "id": id, **members}


@pytest.fixture
async def before(database: Database) -> Records:
    """Rows as an earlier program left them: a hash for each parameter, and no outline."""
    records = Records(database)
    await records.put(patient("old", gender="male"), patient("bare"))
    gender = records.hasher.present(parameters.of("Patient")["gender"].id)
    async with database.acquire() as connection:
        outlines = "select value::bigint from term where param_id < 0"
        await connection.execute(
            f"update resource set tokens = array(select unnest(tokens) except ({outlines})) || $2::bigint"
            " where type_id = $1 and id = 'old'",
            TYPE_IDS["Patient"],
            gender,
        )
        await connection.execute("delete from term where param_id < 0")
    return records


async def test_rows_without_an_outline_are_found_all_the_same(before: Records) -> None:
    await before.put(patient("new", gender="female"), patient("other", active=True))
    assert await asked(before, "Patient", "gender") == (["old", "new"], ["bare", "other"])
    assert await before.ids("Patient", ("_filter", "not (gender pr true)")) == ["bare", "other"]
    assert await before.ids("Patient", ("_filter", "gender pr true or active eq true")) == ["old", "new", "other"]
