"""A confined caller sees its person's rows and open types, through every door of a search; others by their grants."""

from typing import Any

import pytest

from ehr.access.policy import DIRECTORY_TYPES, AccessPredicate, Action, Grants
from ehr.database.engine import Database
from ehr.errors import Forbidden
from tests.search.store import Records

READ = Grants({"*": frozenset[Action](("r", "s"))})
MINE = AccessPredicate(READ, "person-1", DIRECTORY_TYPES)

PEOPLE: tuple[dict[str, Any], ...] = (
    {"resourceType": "Organization", "id": "o1", "name": "Trạm"},
    {"resourceType": "Person", "id": "person-1", "link": [{"target": {"reference": "Patient/p1"}}]},
    {"resourceType": "Person", "id": "person-2", "link": [{"target": {"reference": "Patient/p3"}}]},
    *(
        {
            "resourceType": "Patient",
            "id": f"p{number}",
            "gender": "male",
            "managingOrganization": {"reference": "Organization/o1"},
            "link": [{"other": {"reference": f"Patient/p{number % 3 + 1}"}, "type": "seealso"}],
        }
        for number in (1, 2, 3)
    ),
    *(
        {
            "resourceType": "Observation",
            "id": f"b{number}",
            "status": "final",
            "code": {"coding": [{"code": "x"}]},
            "subject": {"reference": f"Patient/p{number}"},
            "focus": [{"reference": f"Patient/p{other}"} for other in (1, 2, 3)],
        }
        for number in (1, 2, 3)
    ),
    {"resourceType": "Observation", "id": "nobody", "status": "final", "code": {"coding": [{"code": "x"}]}},
    {"resourceType": "ValueSet", "id": "v1", "status": "active"},
)


@pytest.fixture
async def records(database: Database) -> Records:
    made = Records(database)
    await made.put(*PEOPLE)
    await made.link("p1", "person-1")
    await made.link("p2", "person-1")
    await made.link("p3", "person-2")
    return made


async def test_matches(records: Records) -> None:
    assert await records.ids("Patient", access=MINE) == ["p1", "p2"]
    assert await records.ids("Observation", ("code", "x"), access=MINE) == ["b1", "b2"]
    assert await records.ids("Observation", ("patient", "p3"), access=MINE) == []
    assert await records.ids("Observation", ("_id", "b3,nobody,b1"), access=MINE) == ["b1"]
    assert await records.ids("Person", access=MINE) == ["person-1"]
    assert await records.ids("Organization", access=MINE) == ["o1"]
    assert await records.ids("ValueSet", access=MINE) == []
    assert await records.ids(None, ("_type", "Organization,Patient,Person,ValueSet"), access=MINE) == [
        "o1",
        "person-1",
        "p1",
        "p2",
    ]


async def test_chains_and_has_do_not_look_over_the_wall(records: Records) -> None:
    assert await records.ids("Observation", ("focus:Patient._id", "p3"), access=MINE) == []
    assert await records.ids("Observation", ("focus:Patient._id", "p3")) == ["b1", "b2", "b3"]
    assert await records.ids("Patient", ("_has:Observation:focus:_id", "b3"), access=MINE) == []
    assert await records.ids("Patient", ("_has:Observation:focus:_id", "b1"), access=MINE) == ["p1", "p2"]
    assert await records.ids("Organization", ("_has:Patient:organization:_id", "p3"), access=MINE) == []


async def test_includes_do_not_look_over_the_wall(records: Records) -> None:
    page = await records.page("Observation", [("_id", "b2"), ("_include", "*")], access=MINE)
    assert sorted(one.id for one in page.included) == ["p1", "p2"]
    page = await records.page("Organization", [("_revinclude", "*"), ("_revinclude:iterate", "*")], access=MINE)
    assert sorted(one.id for one in page.included) == ["b1", "b2", "p1", "p2", "person-1"]
    page = await records.page("Organization", [("_revinclude", "*"), ("_revinclude:iterate", "*")])
    assert len(page.included) == 8


async def test_totals_count_what_is_seen(records: Records) -> None:
    for mode in ("accurate", "estimate"):
        assert (await records.page("Observation", [("_total", mode)], access=MINE)).total == 2


async def test_the_person_compartment_is_all_its_sources(records: Records) -> None:
    assert await records.ids("Observation", compartment=("Person", "person-1")) == ["b1", "b2"]
    assert await records.ids("Observation", compartment=("Person", "person-2")) == ["b3"]
    assert await records.ids("Observation", compartment=("Person", "person-2"), access=MINE) == []
    assert await records.ids(None, compartment=("Person", "person-2")) == ["person-2", "p3", "b3"]


async def test_a_link_counts_at_once(records: Records) -> None:
    assert "b3" not in await records.ids("Observation", access=MINE)
    async with records.database.acquire() as connection:
        await connection.execute("update person_link set person_id = 'person-1' where patient_id = 'p3'")
    assert await records.ids("Observation", access=MINE) == ["b1", "b2", "b3"]


def only(**actions: str) -> AccessPredicate:
    known: dict[str, Action] = {"r": "r", "s": "s"}
    return AccessPredicate(Grants({name: frozenset(known[one] for one in given) for name, given in actions.items()}))


async def test_grants_bind_matches_chains_has_and_includes(records: Records) -> None:
    with pytest.raises(Forbidden):
        await records.ids("Patient", access=only(Observation="rs"))
    with pytest.raises(Forbidden):
        await records.ids("Observation", ("patient.gender", "male"), access=only(Observation="rs", Patient="r"))
    with pytest.raises(Forbidden):
        await records.ids("Patient", ("_has:Observation:patient:code", "x"), access=only(Patient="rs"))
    with pytest.raises(Forbidden):
        await records.page("Observation", [("_include", "Observation:patient")], access=only(Observation="rs"))
    page = await records.page("Observation", [("_id", "b1"), ("_include", "*")], access=only(Observation="rs"))
    assert page.included == []
    page = await records.page("Patient", [("_id", "p1"), ("_revinclude", "*")], access=only(Patient="rs", Person="s"))
    assert sorted(one.id for one in page.included) == ["p3", "person-1"]
    assert await records.ids(None, ("_id", "p1,b1"), access=only(Patient="rs")) == ["p1"]
