"""Above and below a resource: circles end, bounds hold, and a confined caller walks in its own record only."""

from typing import Any

import pytest

from ehr import limits
from ehr.access.policy import DIRECTORY_TYPES, AccessPredicate, Action, Grants
from ehr.database.engine import Database
from ehr.errors import Forbidden, TooMuch
from tests.search.store import Records

MINE = AccessPredicate(Grants({"*": frozenset[Action](("r", "s"))}), "person-1", DIRECTORY_TYPES)


def encounter(id: str, patient: str, whole: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Encounter", "id": id, "subject": {"reference": f"Patient/{patient}"}}
    return made | ({"partOf": {"reference": f"Encounter/{whole}"}} if whole else {})


def seen(id: str, patient: str, encounter_id: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient}"},
        "encounter": {"reference": f"Encounter/{encounter_id}"},
    }


@pytest.fixture
async def records(database: Database) -> Records:
    """a ← b ← c of one patient, where b is the other patient's; and x ⇄ y."""
    made = Records(database)
    await made.put(
        {"resourceType": "Patient", "id": "p1"},
        {"resourceType": "Patient", "id": "p2"},
        encounter("a", "p1"),
        encounter("b", "p2", "a"),
        encounter("c", "p1", "b"),
        encounter("x", "p1", "y"),
        encounter("y", "p1", "x"),
        *(seen(f"o{id}", "p1", id) for id in "acxy"),
    )
    await made.link("p1", "person-1")
    return made


async def test_a_walk_is_of_what_the_caller_sees(records: Records) -> None:
    for asked, all_, mine in (
        (("encounter:below", "a"), ["oa", "oc"], ["oa"]),
        (("encounter:above", "c"), ["oa", "oc"], ["oc"]),
        (("encounter:below", "x"), ["ox", "oy"], ["ox", "oy"]),
        (("encounter:above", "nowhere"), [], []),
    ):
        assert await records.ids("Observation", asked) == all_, asked
        assert await records.ids("Observation", asked, access=MINE) == mine, asked


async def test_the_types_that_are_walked_must_be_granted(records: Records) -> None:
    observations = AccessPredicate(Grants({"Observation": frozenset[Action](("r", "s"))}))
    with pytest.raises(Forbidden):
        await records.ids("Observation", ("encounter:below", "a"), access=observations)
    assert await records.ids("Observation", ("encounter", "a"), access=observations) == ["oa"]


async def test_a_hierarchy_beyond_the_bound_is_refused(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "search_codes_max", 2)
    with pytest.raises(TooMuch) as refused:
        await records.ids("Observation", ("encounter:below", "a"))
    assert refused.value.issues[0].at == "encounter:below"
