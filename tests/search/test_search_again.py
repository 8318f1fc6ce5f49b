"""A search that is asked again is not worked out again, and answers as if it were: for who asks, in what stands now."""

from collections.abc import Sequence
from typing import Any

import pytest

from ehr import limits
from ehr.access.policy import ALL_GRANTS, DIRECTORY_TYPES, AccessPredicate, Caller, Grants
from ehr.database.engine import Database
from ehr.errors import Forbidden
from ehr.fhir.parameters import Parameters
from ehr.search.page import FIRSTS_MAX, Note, Page, search
from ehr.search.parse import understood
from ehr.search.plan import PLANS_MAX, plan
from tests.search.store import EVERYTHING, Plain, Records

QUERY = [("code", "x"), ("_sort", "-date")]


def observation(number: int, **more: Any) -> dict[str, Any]:
    subject = {"reference": f"Patient/p{number % 2}"}
    code = {"coding": [{"code": "x"}]}
    return {
        "resourceType": "Observation",
        "id": f"b{number}",
        "status": "final",
        "code": code,
        "subject": subject,
    } | more


@pytest.fixture
async def records(database: Database) -> Records:
    made = Records(database)
    await made.put(*({"resourceType": "Patient", "id": f"p{number}"} for number in range(2)))
    await made.put(*(observation(number, effectiveDateTime=f"2026-03-0{number + 1}") for number in range(4)))
    await made.link("p1", "person-1")
    return made


async def asked(
    records: Records, caller: Caller, access: AccessPredicate = EVERYTHING, query: Sequence[tuple[str, str]] = QUERY
) -> tuple[list[str], set[str]]:
    """Ids, and whom the audit names."""
    planned = plan(understood("Observation", query), access)
    async with records.database.acquire() as connection:
        before = await connection.fetchval("select coalesce(max(id), 0) from audit")
        page: Page = await search(
            connection,
            planned,
            installation=records.database.installation,
            bodies=Plain(),
            note=Note(caller, '{"parameters": []}'),
        )
        rows = await connection.fetch("select actor from audit where id > $1", before)
    return [found.id for found in page.matches], {row["actor"] for row in rows}


def client(id: str) -> Caller:
    return Caller("client", id, ALL_GRANTS)


async def test_each_caller_is_noted_and_sees_what_stands_now(records: Records) -> None:
    assert await asked(records, client("one")) == (["b3", "b2", "b1", "b0"], {"one"})
    await records.put(observation(4, effectiveDateTime="2026-03-09"), observation(5))
    assert await asked(records, client("two")) == (["b4", "b3", "b2", "b1", "b0", "b5"], {"two"})
    assert await asked(records, client("one")) == (["b4", "b3", "b2", "b1", "b0", "b5"], {"one"})


async def test_rights_are_those_of_who_asks(records: Records) -> None:
    mine = AccessPredicate(ALL_GRANTS, "person-1", DIRECTORY_TYPES)
    for _ in range(2):
        assert (await asked(records, client("all")))[0] == ["b3", "b2", "b1", "b0"]
        assert (await asked(records, client("mine"), mine))[0] == ["b3", "b1"]
        with pytest.raises(Forbidden):
            await asked(records, client("none"), AccessPredicate(Grants({})))


async def test_another_database_has_hashes_of_its_own(records: Records) -> None:
    await asked(records, client("one"))
    async with records.database.acquire() as connection:
        await connection.execute("update installation set hash_key = hash_key + 1")
    other = await Database.open(records.database.url, connections_max=2)
    try:
        assert (await asked(Records(other), client("one")))[0] == []
    finally:
        await other.close()


async def test_few_are_remembered_of_one_search(records: Records) -> None:
    request = understood("Observation", QUERY)
    for number in range(FIRSTS_MAX + 2):
        await asked(records, client(f"c{number}"))
    assert len(plan(request, EVERYTHING).kept.firsts) <= FIRSTS_MAX
    for number in range(PLANS_MAX + 2):
        plan(request, AccessPredicate(ALL_GRANTS, f"person-{number}", DIRECTORY_TYPES))
    assert len(request.plans) <= PLANS_MAX


def test_a_query_is_understood_once_for_a_table_of_parameters() -> None:
    first = understood("Patient", [("name", "Đào")])
    assert understood("Patient", [("name", "Đào")]) is first
    assert understood("Patient", [("name", "đào")]) is not first
    assert understood("Patient", [("name", "Đào")], known=Parameters()) is not first
    assert understood("Patient", [("name", "Đào")], strict=False) is not first


def test_what_is_long_or_long_ago_is_not_kept() -> None:
    name = "x" * (limits.search_kept_characters_max - len("name"))
    for length, kept in ((0, True), (1, False)):
        query = [("name", name + "x" * length)]
        assert (understood("Patient", query) is understood("Patient", query)) is kept
    first = understood("Patient", [("name", "first")])
    for number in range(limits.searches_kept_max):
        understood("Patient", [("name", f"n{number}")])
    assert understood("Patient", [("name", "first")]) is not first
