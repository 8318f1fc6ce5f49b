"""Persons: one per national number under any concurrency, nothing merged in silence, every link taken back exactly."""

import asyncio
from typing import Any

import pytest

from ehr import identity
from ehr.access.policy import Caller
from ehr.errors import Duplicate, NotFound
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.validate import validate
from ehr.fhir.vietnam import INSURANCE_NUMBER, NATIONAL_ID, PASSPORT_NUMBER, PATIENT_NUMBER
from ehr.identity import PersonLinker
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

Tree = dict[str, Any]
AN, BINH = "001090000001", "001090000002"


def sent(*numbers: tuple[str, str], name: str = "Nguyễn Văn An", **more: Any) -> Tree:
    identifiers = [{"system": system, "value": value} for system, value in numbers]
    return {"resourceType": "Patient", "identifier": identifiers, "name": [{"text": name}], **more}


async def put(record: Record, facility: int, id: str, tree: Tree) -> None:
    async def work(uow: UnitOfWork) -> None:
        await uow.resources.update("Patient", id, None, {**tree, "id": id})

    await record.run(Caller.of_facility(facility, f"01Z{facility:02}"), work)


async def person_of(record: Record, patient_id: str) -> str | None:
    async with record.database.acquire() as connection:
        return await identity.person_of(connection, patient_id)


async def of_type(record: Record, type_name: str) -> list[Tree]:
    async with record.database.acquire() as connection:
        rows = await connection.fetch(
            "SELECT body FROM resource WHERE type_id = $1 ORDER BY rid",
            TYPE_IDS[type_name],
        )
    trees = [codec.loads(record.bodies.decompress(row["body"])) for row in rows]
    for tree in trees:
        assert validate(tree, type_name=type_name) == [], "what the city writes itself is valid too"
    return trees


def linked(person: Tree) -> list[tuple[str, str]]:
    return [(link["target"]["reference"], link["assurance"]) for link in person.get("link", ())]


async def test_32_facilities_registering_one_number_at_once_make_one_person(record: Record) -> None:
    await asyncio.gather(*(put(record, n, f"p{n}", sent((NATIONAL_ID, AN))) for n in range(1, 33)))
    (person,) = await of_type(record, "Person")
    assert sorted(linked(person)) == sorted((f"Patient/p{n}", "level3") for n in range(1, 33))
    assert person["identifier"] == [{"system": NATIONAL_ID, "value": AN}]
    assert {await person_of(record, f"p{n}") for n in range(1, 33)} == {person["id"]}
    async with record.database.acquire() as connection:
        assert await identity.by_national_id(connection, "001 090 000 001") == person["id"]
        assert len(await identity.shards_of(connection, person["id"])) == 32


async def test_a_card_and_its_ten_digits_are_one_number(record: Record) -> None:
    await put(record, 1, "p1", sent((INSURANCE_NUMBER, "DN4010123456789")))
    await put(record, 2, "p2", sent((INSURANCE_NUMBER, "0123456789"), (NATIONAL_ID, AN)))
    await put(record, 3, "p3", sent((NATIONAL_ID, AN), gender="male", birthDate="1990-02-03"))
    (person,) = await of_type(record, "Person")
    assert linked(person) == [("Patient/p1", "level2"), ("Patient/p2", "level3"), ("Patient/p3", "level3")]
    assert person["gender"] == "male"
    assert person["birthDate"] == "1990-02-03"
    assert {i["value"] for i in person["identifier"]} == {"DN4010123456789", "0123456789", AN}


async def test_numbers_of_two_persons_are_reported_not_merged(record: Record) -> None:
    await put(record, 1, "p1", sent((NATIONAL_ID, AN)))
    await put(record, 2, "p2", sent((INSURANCE_NUMBER, "0123456789")))
    for _ in range(2):
        await put(record, 3, "p3", sent((NATIONAL_ID, AN), (INSURANCE_NUMBER, "0123456789")))
    assert len(await of_type(record, "Person")) == 2
    assert await person_of(record, "p3") == await person_of(record, "p1") != await person_of(record, "p2")
    (task,) = await of_type(record, "Task")
    assert task["code"]["coding"][0]["code"] == "numbers"
    assert task["for"]["reference"] == "Patient/p3"
    assert task["focus"]["reference"] == f"Person/{await person_of(record, 'p2')}"


async def test_a_number_under_another_name_is_not_linked_until_it_agrees(record: Record) -> None:
    await put(record, 1, "p1", sent((NATIONAL_ID, AN), birthDate="1990-02-03"))
    await put(record, 2, "p2", sent((NATIONAL_ID, AN), name="Lê Thị Khác", birthDate="1990-02-03"))
    (person,) = await of_type(record, "Person")
    assert linked(person) == [("Patient/p1", "level3")]
    assert person["name"] == [{"text": "Nguyễn Văn An"}]
    assert await person_of(record, "p2") is None
    (task,) = await of_type(record, "Task")
    assert (task["code"]["coding"][0]["code"], task["status"]) == ("differs", "requested")
    assert AN not in str(task)
    assert "Khác" not in str(task)
    await put(record, 2, "p2", sent((NATIONAL_ID, AN), name="NGUYEN VAN AN", birthDate="1990"))
    assert await person_of(record, "p2") == person["id"]
    (task,) = await of_type(record, "Task")
    assert task["status"] == "completed"
    await put(record, 2, "p2", sent((NATIONAL_ID, AN), name="Lê Thị Khác"))
    assert await person_of(record, "p2") is None
    (task,) = await of_type(record, "Task")
    assert task["status"] == "requested"


async def test_an_operators_unlink_stays_and_link_undoes_it(record: Record, city: Caller) -> None:
    linker = PersonLinker(record.settings)
    await put(record, 1, "p1", sent((NATIONAL_ID, AN)))
    await put(record, 2, "p2", sent((NATIONAL_ID, AN)))
    before = (await of_type(record, "Person"))[0]
    person_id = before["id"]

    async def unlink(uow: UnitOfWork) -> None:
        await linker.unlink(uow, person_id, "p2", reason="another man")

    async def link(uow: UnitOfWork) -> None:
        await linker.link(uow, person_id, "p2")

    await record.run(city, unlink)
    assert await person_of(record, "p2") is None
    await put(record, 2, "p2", sent((NATIONAL_ID, AN), gender="male"))
    assert await person_of(record, "p2") is None, "a message does not undo an operator's decision"
    with pytest.raises(NotFound):
        await record.run(city, unlink)
    await record.run(city, link)
    assert await person_of(record, "p2") == person_id
    await put(record, 2, "p2", sent((NATIONAL_ID, AN), name="Khác hẳn"))
    assert await person_of(record, "p2") == person_id, "nor does it undo a link of an operator"
    (person,) = await of_type(record, "Person")
    assert linked(person) == [("Patient/p1", "level3"), ("Patient/p2", "level4")]


async def test_link_and_unlink_leave_clinical_rows_where_they_are(record: Record, city: Caller) -> None:
    linker = PersonLinker(record.settings)
    await put(record, 1, "p1", sent((NATIONAL_ID, AN)))
    await put(record, 2, "p2", sent((NATIONAL_ID, BINH)))
    async with record.database.acquire() as connection:
        before = await connection.fetch("SELECT id, shard, version FROM resource WHERE id IN ('p1', 'p2') ORDER BY id")
    (one, two) = await of_type(record, "Person")

    async def there(uow: UnitOfWork) -> None:
        await linker.link(uow, one["id"], "p2")

    async def back(uow: UnitOfWork) -> None:
        await linker.unlink(uow, one["id"], "p2", reason="wrong")

    await record.run(city, there)
    assert await person_of(record, "p2") == one["id"]
    await record.run(city, back)
    async with record.database.acquire() as connection:
        after = await connection.fetch("SELECT id, shard, version FROM resource WHERE id IN ('p1', 'p2') ORDER BY id")
    assert after == before
    assert linked((await of_type(record, "Person"))[0]) == [("Patient/p1", "level3")]
    assert two["id"] != one["id"]


async def test_a_corrected_number_moves_the_link(record: Record) -> None:
    await put(record, 1, "p1", sent((NATIONAL_ID, AN)))
    await put(record, 2, "p2", sent((NATIONAL_ID, AN)))
    await put(record, 3, "p3", sent((NATIONAL_ID, BINH)))
    await put(record, 2, "p2", sent((NATIONAL_ID, BINH)))
    one, two = await of_type(record, "Person")
    assert linked(one) == [("Patient/p1", "level3")]
    assert sorted(linked(two)) == [("Patient/p2", "level3"), ("Patient/p3", "level3")]
    await put(record, 1, "p1", sent((NATIONAL_ID, "001090000009")))
    (one, _) = await of_type(record, "Person")
    assert one["identifier"] == [{"system": NATIONAL_ID, "value": "001090000009"}]
    async with record.database.acquire() as connection:
        assert await identity.by_national_id(connection, AN) is None


async def test_a_deleted_source_leaves_its_person_waiting(record: Record) -> None:
    await put(record, 1, "p1", sent((NATIONAL_ID, AN)))
    (person,) = await of_type(record, "Person")

    async def delete(uow: UnitOfWork) -> None:
        await uow.resources.delete("Patient", "p1")

    await record.run(Caller.of_facility(1, "01Z01"), delete)
    (empty,) = await of_type(record, "Person")
    assert (empty["active"], linked(empty)) == (False, [])
    await put(record, 2, "p2", sent((NATIONAL_ID, AN)))
    (again,) = await of_type(record, "Person")
    assert (again["id"], again["active"], linked(again)) == (person["id"], True, [("Patient/p2", "level3")])


async def test_no_number_no_person(record: Record) -> None:
    await put(record, 1, "p1", sent())
    await put(record, 1, "p2", sent((NATIONAL_ID, "12345"), (PASSPORT_NUMBER, "B"), ("urn:other", AN)))
    assert await of_type(record, "Person") == []


async def test_a_facilitys_number_is_one_of_its_patients(record: Record) -> None:
    await put(record, 1, "p1", sent((PATIENT_NUMBER, "77")))
    await put(record, 2, "p2", sent((PATIENT_NUMBER, "77")))
    with pytest.raises(Duplicate):
        await put(record, 1, "p3", sent((PATIENT_NUMBER, "77")))
    await put(record, 1, "p1", sent((PATIENT_NUMBER, "78")))
    await put(record, 1, "p3", sent((PATIENT_NUMBER, "77")))
