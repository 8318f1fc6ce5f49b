"""_contained and _containedType against a model; who sees what is contained; chains into it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehr.access.policy import DIRECTORY_TYPES, AccessPredicate, Action, Grants
from ehr.database.engine import Database
from ehr.errors import Forbidden, Invalid, NotSupported
from ehr.search import probe
from ehr.search.found import Found
from tests.search.store import Records

CODES = ("a", "b", "c")
MINE = AccessPredicate(Grants({"*": frozenset[Action](("r", "s"))}), "person-1", DIRECTORY_TYPES)


def medication(id: str, code: str, amount: int = 1) -> dict[str, Any]:
    return {
        "resourceType": "Medication",
        "id": id,
        "code": {"coding": [{"system": "http://city/drug", "code": code}]},
        "amount": {"numerator": {"value": amount}},
    }


def ordered(id: str, codes: Iterable[str], patient: str = "p1") -> dict[str, Any]:
    """A request that contains a Medication for each code, and asks for the first."""
    inside = [medication(f"m{place}", code) for place, code in enumerate(codes)]
    made = {
        "resourceType": "MedicationRequest",
        "id": id,
        "status": "active",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "medicationReference": {"reference": "#m0"},
    }
    return {**made, "contained": inside} if inside else made


def kit(id: str, code: str, inside: str) -> dict[str, Any]:
    """A Medication of its own that contains one."""
    return {**medication(id, code), "contained": [medication("part", inside)]}


Stored = list[dict[str, Any]]
stores = st.tuples(
    st.lists(st.lists(st.sampled_from(CODES), max_size=3), max_size=5),
    st.lists(st.tuples(st.sampled_from(CODES), st.sampled_from(CODES)), max_size=4),
).map(
    lambda drawn: (
        [ordered(f"r{n}", codes) for n, codes in enumerate(drawn[0])]
        + [kit(f"k{n}", *codes) for n, codes in enumerate(drawn[1])]
    )
)


def of_code(tree: dict[str, Any], code: str) -> bool:
    return bool(tree["resourceType"] == "Medication" and tree["code"]["coding"][0]["code"] == code)


def expected(stored: Stored, code: str, contained: str, shown: str, *, content: bool) -> set[str]:
    """Addresses of the matches, without the order. content: what it contains is content of the container, too."""
    found = set()
    for tree in stored:
        address = f"{tree['resourceType']}/{tree['id']}"
        own = [tree, *(tree.get("contained", ()) if content and tree["resourceType"] == "Medication" else ())]
        if contained != "true" and any(of_code(one, code) for one in own):
            found.add(address)
        for inside in tree.get("contained", ()):
            if contained != "false" and of_code(inside, code):
                found.add(address if shown == "container" else f"{address}#{inside['id']}")
    return found


async def walked(records: Records, query: list[tuple[str, str]], type_name: str = "Medication") -> list[Found]:
    page = await records.page(type_name, query)
    found = [*page.matches]
    while page.next_cursor:
        page = await records.page(type_name, [*query, ("_cursor", page.next_cursor)])
        found += page.matches
        assert len(found) < 100
    return found


@given(store=stores, code=st.sampled_from(CODES), contained=st.sampled_from(("false", "true", "both")),
       shown=st.sampled_from(("container", "contained")), count=st.sampled_from((1, 2, 50)),
       sort=st.sampled_from(("", "_id", "-_lastUpdated", "code", "-code,-_id", "_lastUpdated,code")),
       content=st.booleans())  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_match_is_on_one_page(
    database: Database, store: Stored, code: str, contained: str, shown: str, count: int, sort: str, content: bool
) -> None:
    records = Records(database)
    async with database.acquire() as connection:
        for table in ("resource", "contained", "string_index", "date_index", "quantity_index"):
            await connection.execute(f"delete from {table}")
    await records.put(*store)
    query = [("_content" if content else "code", code), ("_contained", contained), ("_containedType", shown)]
    whole = expected(store, code, contained, shown, content=content)
    sorting = [("_sort", sort)] if sort else []
    found = await walked(records, [*query, *sorting, ("_count", str(count))])
    assert len(found) == len(whole)
    assert {one.reference for one in found} == whole
    counted = await records.page("Medication", [*query, ("_total", "accurate"), ("_count", "0")])
    assert counted.total == len(whole)


@pytest.fixture
async def records(database: Database) -> Records:
    made = Records(database)
    await made.put(
        {"resourceType": "Patient", "id": "p1"},
        {"resourceType": "Patient", "id": "p2"},
        ordered("r1", ["a", "b"]),
        ordered("r2", ["b", "b"], "p2"),
        kit("k1", "a", "b"),
    )
    await made.link("p1", "person-1")
    return made


async def test_a_contained_resource_is_shown_as_it_was_sent(records: Records) -> None:
    (found,) = (await records.page("Medication", [*_CONTAINED, ("code", "a")])).matches
    assert found.reference == "MedicationRequest/r1#m0"
    assert b'"amount":{"numerator":{"value":1}}' in found.body
    assert b"MedicationRequest" not in found.body


_CONTAINED = [("_contained", "true"), ("_containedType", "contained")]


async def test_who_sees_the_container_sees_what_it_contains(records: Records) -> None:
    """Medication is open to all, but not the one in another one's prescription."""
    found = (await records.page("Medication", _CONTAINED, access=MINE)).matches
    assert [one.reference for one in found] == [
        "MedicationRequest/r1#m0",
        "MedicationRequest/r1#m1",
        "Medication/k1#part",
    ]
    medications = AccessPredicate(Grants({"Medication": frozenset[Action](("s",))}))
    found = (await records.page("Medication", _CONTAINED, access=medications)).matches
    assert [one.reference for one in found] == ["Medication/k1#part"]


async def test_an_id_chosen_by_the_sender_opens_nothing(records: Records) -> None:
    inside = {"resourceType": "Person", "id": "person-1"}
    await records.put({"resourceType": "Basic", "id": "x", "code": {"text": "x"}, "contained": [inside]})
    assert [one.id for one in (await records.page("Person", _CONTAINED)).matches] == ["x#person-1"]
    assert await records.ids("Person", *_CONTAINED, access=MINE) == []


async def test_other_conditions_hold_of_the_contained_resource(records: Records) -> None:
    request = {
        "resourceType": "MedicationRequest",
        "id": "r3",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "contained": [
            {
                "resourceType": "Observation",
                "id": "o",
                "status": "final",
                "code": {"coding": [{"code": "weight"}]},
                "subject": {"reference": "Patient/p2"},
                "effectiveDateTime": "2026-03-04",
                "valueQuantity": {"value": 70, "code": "kg", "system": "http://unitsofmeasure.org"},
            }
        ],
    }
    await records.put(request)
    for name, value in (
        ("code", "weight"), ("date", "2026-03-04"), ("value-quantity", "gt69"), ("subject", "Patient/p2"),
        ("patient", "p2"), ("_id", "o"), ("code:missing", "false"), ("code:not", "x"),
        ("_lastUpdated", "lt2200"),
    ):  # fmt: skip
        assert await records.ids("Observation", ("_contained", "both"), (name, value)) == ["r3"], name
    assert await records.ids("Observation", ("_contained", "true"), ("patient", "p1")) == []
    assert await records.ids("Observation", ("_contained", "true"), ("_sort", "-date,value-quantity")) == ["r3"]
    assert await records.ids("Observation", ("patient", "p2")) == []


async def test_a_reference_into_the_container_is_followed(records: Records) -> None:
    """R4: "a chained condition will be evaluated inside contained resources"; and so is a reverse one."""
    assert await records.ids("MedicationRequest", ("medication.code", "a")) == ["r1"]
    assert await records.ids("MedicationRequest", ("medication.code", "b")) == ["r2"]
    assert await records.ids("MedicationRequest", ("medication.code:not", "a")) == ["r2"]
    pointed = ("_has:MedicationRequest:medication:status", "active")
    assert await records.ids("Medication", *_CONTAINED, pointed) == ["r1#m0", "r2#m0"]


async def test_a_reference_into_the_container_has_the_type_of_what_is_there(records: Records) -> None:
    """R4: Appointment.participant.actor.where(resolve() is Location)."""
    room = {"resourceType": "Location", "id": "room", "name": "Phòng 3"}
    inside = {"reference": "#room", "type": "Practitioner"}  # what is there is known, so nobody's word is needed
    made = {"resourceType": "Appointment", "id": "a", "status": "booked", "contained": [room]}
    await records.put({**made, "participant": [{"actor": inside, "status": "accepted"}]}, of_stranger("s", "Stranger"))
    assert await records.ids("Appointment", ("location.name", "phong")) == ["a"]
    for type_name, code, missing in (
        ("Appointment", "location", []),
        ("Appointment", "practitioner", ["a"]),
        ("Observation", "patient", []),
    ):
        assert await records.ids(type_name, (f"{code}:missing", "true")) == missing, code


async def test_what_is_read_is_read_of_the_contained_resource(records: Records) -> None:
    """Words, and orders that no index has."""
    ordered_by = [*_CONTAINED, ("_sort", "-code,_id")]
    found = (await records.page("Medication", ordered_by)).matches
    assert [one.id for one in found] == ["r2#m0", "r1#m1", "r2#m1", "k1#part", "r1#m0"]
    assert await records.ids("Medication", *_CONTAINED, ("_content", "active")) == []
    both = [("_contained", "both"), ("_sort", "code"), ("_content", "a or b")]
    assert await records.ids("Medication", *both) == ["k1", "r1", "r2"]
    assert await records.ids("Medication", *both, access=MINE) == ["k1", "r1"]
    page = await records.page("Medication", [*ordered_by, ("_count", "2")])
    last = await records.page("Medication", [*ordered_by, ("_count", "2"), ("_cursor", page.next_cursor or "")])
    assert [one.id for one in last.matches] == ["r2#m1", "k1#part"]


async def test_includes_are_those_of_what_is_shown(records: Records) -> None:
    page = await records.page(
        "Medication", [("_contained", "true"), ("code", "a"), ("_include", "MedicationRequest:subject")]
    )
    assert [one.reference for one in page.included] == ["Patient/p1"]
    made_by = {**medication("m", "z"), "manufacturer": {"reference": "Organization/o"}}
    await records.put({"resourceType": "Organization", "id": "o"}, {**ordered("r9", []), "contained": [made_by]})
    page = await records.page("Medication", [*_CONTAINED, ("code", "z"), ("_include", "Medication:manufacturer")])
    assert [one.reference for one in page.included] == ["Organization/o"]


async def test_what_is_not_served_is_refused_by_name(records: Records) -> None:
    for query, error in (
        ([("_contained", "yes")], Invalid),
        ([("_containedType", "yes")], Invalid),
        ([("_contained:x", "true")], Invalid),
    ):
        with pytest.raises(error) as refused:
            await records.page("Medication", query)
        assert (refused.value.issues[0].at or "").startswith("_")
    async with records.database.acquire() as connection:
        await connection.execute("update installation set index_format = 1")
    records.database.installation = replace(records.database.installation, index_format=1)
    with pytest.raises(NotSupported, match="earlier version"):
        await records.page("Medication", _CONTAINED)


def of_stranger(id: str, name: str, focus: str | None = None) -> dict[str, Any]:
    """Of a patient who has no address here."""
    made = {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "#who"},
        "contained": [{"resourceType": "Patient", "id": "who", "gender": "other", "name": [{"family": name}]}],
    }
    return made | ({"focus": [{"reference": f"Patient/{focus}"}]} if focus else {})


async def test_a_chain_to_patients_reaches_those_inside(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PATIENTS_INSIDE_S", 0)
    name = ("patient.name", "stranger")
    assert await records.ids("Observation", name) == []
    weight = {"resourceType": "Observation", "id": "w", "status": "final", "code": {"text": "x"}}
    named = {"resourceType": "Patient", "id": "p3", "gender": "other", "name": [{"family": "Stranger"}]}
    await records.put(
        named,
        {**weight, "subject": {"reference": "Patient/p3"}},
        {**weight, "id": "v", "subject": {"reference": "Patient/p1"}},
        of_stranger("s1", "Stranger"),
        of_stranger("s2", "Else"),
        of_stranger("s3", "Stranger", "p1"),
    )
    for most in (50, 0):  # few patients are looked up, of many each row is asked
        monkeypatch.setattr(probe, "PATIENTS_MAX", most)
        for query in ((name,), (name, ("_sort", "-_id")), (name, ("patient.gender", "other")), (name, ("_count", "2"))):
            page = await records.page("Observation", [*query, ("_total", "accurate")])
            assert page.total == 3, query
            assert {one.id for one in page.matches} <= {"w", "s1", "s3"}, query
        assert await records.ids("Observation", name, ("subject", "Patient/p3")) == ["w"]
        assert await records.ids("Observation", ("patient.gender", "other"), ("_count", "50")) == [
            "w",
            "s1",
            "s2",
            "s3",
        ]
        pointed = ("_has:Observation:patient:_id", "w")
        assert await records.ids("Patient", pointed) == ["p3"]
    patients = AccessPredicate(Grants({"Observation": frozenset[Action](("r", "s")), "Patient": frozenset[Action]()}))
    with pytest.raises(Forbidden):
        await records.ids("Observation", name, access=patients)
    assert await records.ids("Observation", ("patient.name", "stranger"), access=MINE) == []
