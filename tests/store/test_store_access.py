"""What a confined caller may see, and that every access leaves its audit row."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from ehr.access.policy import Action, Caller, Grants
from ehr.errors import EhrError, Forbidden, Gone, NotFound
from ehr.fhir import codec
from ehr.interactions.search import search
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

CCCD = "http://fhir.ehealth.gov.vn/core/sid/national_id"
READS = Grants({"*": frozenset[Action](("r", "s"))})


def citizen(person_id: str, grants: Grants = READS) -> Caller:
    return Caller("citizen", person_id, grants, person_id=person_id)


async def put(record: Record, caller: Caller, type_name: str, id: str, **more: Any) -> None:
    async def work(uow: UnitOfWork) -> None:
        await uow.resources.update(type_name, id, None, {"resourceType": type_name, "id": id, **more})

    await record.run(caller, work)


async def patient(record: Record, caller: Caller, id: str, number: str, name: str) -> str:
    """Register a patient with an observation and an encounter; give the person."""
    await put(record, caller, "Patient", id, identifier=[{"system": CCCD, "value": number}], name=[{"text": name}])
    subject = {"reference": f"Patient/{id}"}
    for number_ in ("1", "2"):
        await put(record, caller, "Observation", f"o-{id}", status="final", code={"text": number_}, subject=subject)
    async with record.database.acquire() as connection:
        found: str = await connection.fetchval("SELECT person_id FROM person_link WHERE patient_id = $1", id)
        return found


async def audit(record: Record, where: str = "true") -> list[dict[str, Any]]:
    async with record.database.acquire() as connection:
        rows = await connection.fetch(f"SELECT * FROM audit WHERE {where} ORDER BY id")
        return [dict(row) for row in rows]


async def refused(record: Record, caller: Caller, look: Any) -> EhrError:
    with pytest.raises(EhrError) as error:
        async with record.reading(caller) as uow:
            await look(uow)
    return error.value


async def test_a_citizen_sees_their_own_person_only(record: Record, city: Caller) -> None:
    an = await patient(record, city, "an", "001090000001", "Nguyễn Văn An")
    binh = await patient(record, city, "binh", "001090000002", "Trần Bình")
    await put(record, city, "Organization", "hospital", name="Bệnh viện")
    await put(record, city, "Basic", "note", code={"text": "of nobody"})
    me = citizen(an)
    async with record.reading(me) as uow:
        assert (await uow.resources.read("Observation", "o-an")).version == 2
        assert (await uow.resources.vread("Observation", "o-an", 1)).version == 1
        assert (await uow.resources.read("Person", an)).id == an
        assert (await uow.resources.read("Organization", "hospital")).id == "hospital"
        assert [v.version for v in (await uow.resources.history("Observation", "o-an")).entries] == [2, 1]
        of_type = await uow.resources.history("Observation", count=50)
        everything = await uow.resources.history(count=200)
    assert {v.id for v in of_type.entries} == {"o-an"}
    assert {v.id for v in everything.entries} == {"an", "o-an", an, "hospital"}
    for look in (
        lambda uow: uow.resources.read("Observation", "o-binh"),
        lambda uow: uow.resources.vread("Observation", "o-binh", 1),
        lambda uow: uow.resources.history("Observation", "o-binh"),
        lambda uow: uow.resources.read("Patient", "binh"),
        lambda uow: uow.resources.read("Person", binh),
        lambda uow: uow.resources.read("Basic", "note"),
    ):
        there, nowhere = (
            await refused(record, me, look),
            await refused(record, me, lambda uow: uow.resources.read("Observation", "never-was")),
        )
        assert isinstance(there, NotFound)
        assert there.http_status == nowhere.http_status


async def test_who_reads_together_sees_and_is_noted_apart(record: Record, city: Caller) -> None:
    an = await patient(record, city, "an", "001090000001", "An")
    binh = await patient(record, city, "binh", "001090000002", "Bình")
    asked = [
        (citizen(an), "o-an"),
        (citizen(binh), "o-an"),
        (citizen(binh), "o-binh"),
        (Caller("client", "clinic", READS, facility_id=1), "o-an"),
    ] * 10

    async def read(caller: Caller, id: str) -> bytes | None:
        async with record.reading(caller, plans="once") as uow:
            try:
                return (await uow.resources.read("Observation", id)).body
            except NotFound:
                return None

    bodies = await asyncio.gather(*(read(caller, id) for caller, id in asked))
    for (caller, id), body in zip(asked, bodies, strict=True):
        shown = caller.person_id is None or (caller.person_id == an) == (id == "o-an")
        assert (body is not None) == shown
        assert body is None or f'Patient/{id.removeprefix("o-")}"'.encode() in body
    rows = await audit(record, "action = 'R' AND resource_id LIKE 'o-%'")
    assert Counter((row["actor"], row["resource_id"]) for row in rows) == {
        (an, "o-an"): 10,
        (binh, "o-binh"): 10,
        ("clinic", "o-an"): 10,
    }
    async with record.database.acquire() as connection:
        commits = await connection.fetchval("SELECT count(DISTINCT xmin::text) FROM audit WHERE action = 'R'")
    assert commits < len(rows), "reads that wait for each other go together"


async def test_a_deletion_is_not_told_to_others(record: Record, city: Caller) -> None:
    an = await patient(record, city, "an", "001090000001", "An")
    await patient(record, city, "binh", "001090000002", "Bình")
    for id in ("o-an", "o-binh"):
        async with record.unit_of_work(city) as uow:
            await uow.resources.delete("Observation", id)
    me = citizen(an)
    assert isinstance(await refused(record, me, lambda uow: uow.resources.read("Observation", "o-an")), Gone)
    assert type(await refused(record, me, lambda uow: uow.resources.read("Observation", "o-binh"))) is NotFound


async def test_a_confined_caller_writes_into_its_own_record_only(record: Record, city: Caller) -> None:
    an = await patient(record, city, "an", "001090000001", "An")
    await patient(record, city, "binh", "001090000002", "Bình")
    me = citizen(an, Grants({"*": frozenset[Action](("c", "r", "u", "d", "s"))}))
    mine = {"status": "final", "code": {"text": "home"}, "subject": {"reference": "Patient/an"}}
    await put(record, me, "Observation", "home", **mine)
    with pytest.raises(Forbidden):
        await put(record, me, "Observation", "theirs", **mine | {"subject": {"reference": "Patient/binh"}})
    with pytest.raises(NotFound):
        await put(record, me, "Observation", "o-binh", **mine)
    with pytest.raises(Forbidden):
        await put(record, me, "Organization", "hospital", name="mine now")


async def test_nothing_is_granted_that_is_not_named(record: Record, city: Caller) -> None:
    await patient(record, city, "an", "001090000001", "An")
    client = Caller("client", "lab", Grants({"Observation": frozenset[Action](("r",))}))
    async with record.reading(client) as uow:
        assert (await uow.resources.read("Observation", "o-an")).version == 2
        assert {v.type_name for v in (await uow.resources.history(count=50)).entries} == {"Observation"}
    for look in (
        lambda uow: uow.resources.read("Patient", "an"),
        lambda uow: uow.resources.history("Patient", "an"),
        lambda uow: uow.resources.history("Patient"),
    ):
        assert isinstance(await refused(record, client, look), Forbidden)
    with pytest.raises(Forbidden):
        await put(record, client, "Observation", "o-an", status="final", code={"text": "3"})
    nobody = Caller("client", "none", Grants({}))
    assert isinstance(await refused(record, nobody, lambda uow: uow.resources.history()), Forbidden)


async def test_audit_rows_equal_accesses(record: Record, city: Caller) -> None:
    an = await patient(record, city, "an", "001090000001", "An")
    await put(record, city, "Organization", "hospital", name="Bệnh viện")
    before = len(await audit(record))
    client = Caller("client", "clinic-7", READS, facility_id=4, purpose="ETREAT")
    async with record.reading(client) as uow:
        for _ in range(3):
            await uow.resources.read("Observation", "o-an")
        await uow.resources.vread("Observation", "o-an", 1)
        await uow.resources.history("Observation", "o-an")
        await uow.resources.read("Organization", "hospital")
        await uow.audit.search("Observation", [], detail={"count": 0})
        with pytest.raises(NotFound):
            await uow.resources.read("Observation", "never-was")
    rows = (await audit(record))[before:]
    assert [row["action"] for row in rows] == ["R", "R", "R", "R", "R", "S"]
    shard = record.hasher.shard("Patient", "an")
    for row in rows[:5]:
        assert (row["actor_kind"], row["actor"], row["facility_id"]) == ("client", "clinic-7", 4)
        assert (row["purpose"], row["resource_id"], row["shard"]) == ("ETREAT", "o-an", shard)
        assert row["person_id"] == an
    writes = await audit(record, "action IN ('C', 'U') AND resource_id = 'o-an'")
    assert [row["action"] for row in writes] == ["C", "U"]


@pytest.mark.parametrize(
    ("type_name", "query", "compartment"),
    [
        ("Observation", [("patient", "an"), ("_summary", "count")], None),
        ("Observation", [("subject", "Patient/an"), ("code", "x|none"), ("_total", "accurate")], None),
        ("Observation", [("code", "x|none"), ("_include", "Observation:subject")], ("Patient", "an")),
        ("Patient", [("_id", "an"), ("_summary", "count")], None),
    ],
)
async def test_a_search_that_shows_nothing_of_a_patient_it_names_is_a_look(
    record: Record, city: Caller, type_name: str, query: list[tuple[str, str]], compartment: tuple[str, str] | None
) -> None:
    an = await patient(record, city, "an", "001090000001", "An")
    before = len(await audit(record))
    found = await search(record, Caller("client", "clinic-7", READS), type_name, query, compartment=compartment)
    assert found.page.matches == []
    rows = (await audit(record))[before:]
    shard = record.hasher.shard("Patient", "an")
    assert [(row["action"], row["shard"], row["person_id"]) for row in rows] == [("S", shard, an)]
    before = len(await audit(record))
    await search(record, citizen("another"), type_name, query, compartment=compartment)
    assert {row["shard"] for row in (await audit(record))[before:]} == {None}, "who may see nothing was told nothing"


async def test_a_moved_resource_changes_its_patient_everywhere(record: Record, city: Caller) -> None:
    an = await patient(record, city, "an", "001090000001", "An")
    binh = await patient(record, city, "binh", "001090000002", "Bình")
    async with record.database.acquire() as connection:
        await connection.execute("DELETE FROM outbox")
    moved = {"status": "final", "code": {"text": "1"}, "subject": {"reference": "Patient/binh"}}
    await put(record, city, "Observation", "o-an", **moved)
    async with record.reading(citizen(binh)) as uow:
        version = await uow.resources.read("Observation", "o-an")
        assert version.body is not None
        assert codec.loads(version.body)["subject"]["reference"] == "Patient/binh"
        assert [v.version for v in (await uow.resources.history("Observation", "o-an")).entries] == [3]
    assert isinstance(
        await refused(record, citizen(an), lambda uow: uow.resources.read("Observation", "o-an")), NotFound
    )
    async with record.database.acquire() as connection:
        keys = {row["key"] for row in await connection.fetch("SELECT key FROM outbox WHERE topic = 'summary'")}
        shards = {row["shard"] for row in await connection.fetch("SELECT shard FROM resource WHERE id = 'o-an'")}
    assert keys == {"an", "binh"}
    assert shards == {record.hasher.shard("Patient", "binh")}
