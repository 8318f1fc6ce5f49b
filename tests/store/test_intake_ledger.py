"""The one door: kept first, applied once, answered the same, and visible when refused."""

import asyncio
from typing import Any

import orjson
import pytest

from ehr.access.policy import Caller
from ehr.errors import EhrError, Forbidden, Issue
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.intake import Intake, Source
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from tests.facility import add_facility

MRN = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"


@pytest.fixture
async def intake(record: Record, city: Caller) -> Intake:
    async def work(uow: UnitOfWork) -> None:
        tree = {"resourceType": "Organization", "id": "org-1", "name": "Trạm Y tế"}
        await uow.resources.update("Organization", "org-1", None, tree)
        await add_facility(uow.connection, organization_id="org-1")

    await record.run(city, work)
    return Intake(record)


async def source(intake: Intake, control_id: str = "m-1") -> Source:
    facility = await intake.facility("01Z01")
    assert facility is not None
    return Source(facility.id, facility.code, "mllp", "ADT^A01", control_id)


def bundle(number: str = "1") -> dict[str, Any]:
    tree = {"resourceType": "Patient", "identifier": [{"system": MRN, "value": number}]}
    request = {"method": "PUT", "url": f"Patient?identifier={MRN}|{number}"}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": tree, "request": request}]}


async def ledger(record: Record) -> list[dict[str, Any]]:
    async with record.database.acquire() as connection:
        return [dict(row) for row in await connection.fetch("SELECT * FROM intake_message ORDER BY id")]


async def count(record: Record, table: str) -> int:
    async with record.database.acquire() as connection:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
        return found


async def test_a_message_is_kept_then_applied_with_its_provenance(record: Record, intake: Intake, city: Caller) -> None:
    receipt = await intake.keep(b"MSH|...", await source(intake))
    assert (receipt.duplicate, receipt.state) == (False, "received")
    response = await intake.submit(bundle(), receipt, answer=b"ACK")
    location = response["entry"][0]["response"]["location"]
    (row,) = await ledger(record)
    assert (row["state"], row["answer"], row["attempts"]) == ("applied", b"ACK", 1)
    async with record.database.acquire() as connection:
        frame = await connection.fetchval("SELECT body FROM resource WHERE type_id = $1", TYPE_IDS["Provenance"])
        source_id = await connection.fetchval("SELECT source FROM resource WHERE type_id = $1", TYPE_IDS["Provenance"])
        shard = await connection.fetchval("SELECT shard FROM resource WHERE type_id = $1", TYPE_IDS["Provenance"])
    provenance = codec.loads(record.bodies.decompress(frame))
    assert provenance["target"] == [{"reference": location}]
    assert provenance["agent"][0]["who"]["reference"] == "Organization/org-1"
    assert [e["what"]["identifier"]["value"] for e in provenance["entity"]] == ["m-1", str(receipt.message_id)]
    assert source_id == receipt.source.facility_id
    assert shard == record.hasher.shard("Patient", location.split("/")[1])


async def test_a_duplicate_changes_nothing_and_gets_the_same_answer(record: Record, intake: Intake) -> None:
    first = await intake.keep(b"MSH|...", await source(intake))
    await intake.submit(bundle(), first, answer=lambda response: f"{len(response['entry'])} done".encode())
    changes = await count(record, "change")
    again = await intake.keep(b"MSH|...", await source(intake))
    assert (again.duplicate, again.state, again.answer) == (True, "applied", b"1 done")
    assert again.message_id == first.message_id
    assert "entry" not in await intake.submit(bundle(), again, answer=b"other")
    assert await count(record, "change") == changes
    assert (await ledger(record))[0]["answer"] == b"1 done"


async def test_parallel_copies_of_one_message_apply_once(record: Record, intake: Intake) -> None:
    sender = await source(intake)

    async def deliver() -> int:
        receipt = await intake.keep(b"MSH|...", sender)
        return len((await intake.submit(bundle(), receipt, answer=b"ACK")).get("entry", ()))

    assert sorted(await asyncio.gather(*(deliver() for _ in range(12)))) == [0] * 11 + [1]
    assert len(await ledger(record)) == 1


async def test_a_control_id_used_again_is_kept_and_flagged(record: Record, intake: Intake) -> None:
    await intake.keep(b"MSH|one", await source(intake))
    second = await intake.keep(b"MSH|two", await source(intake))
    assert not second.duplicate
    rows = await ledger(record)
    assert len(rows) == 2
    assert rows[0]["issues"] is None
    (issue,) = orjson.loads(rows[1]["issues"])
    assert (issue["severity"], issue["at"]) == ("warning", "MSH-10")
    await intake.submit(bundle("2"), second, answer=b"ACK")
    assert orjson.loads((await ledger(record))[1]["issues"]) == [issue]


async def test_a_refused_bundle_leaves_the_message_and_nothing_else(record: Record, intake: Intake) -> None:
    receipt = await intake.keep(b"MSH|bad", await source(intake))
    broken = bundle()
    broken["entry"][0]["resource"]["gender"] = "nonsense"
    before = await count(record, "resource")
    with pytest.raises(EhrError) as refused:
        await intake.submit(broken, receipt, answer=b"ACK")
    await intake.refuse(receipt, refused.value.issues, b"NAK")
    assert await count(record, "resource") == before
    (row,) = await ledger(record)
    assert (row["state"], row["answer"]) == ("refused", b"NAK")
    assert orjson.loads(row["issues"])[0]["at"] == "Bundle.entry[0].resource.gender"
    again = await intake.keep(b"MSH|bad", await source(intake))
    assert (again.duplicate, again.answer) == (True, b"NAK")


async def test_an_unknown_sender_is_kept_and_refused(record: Record, intake: Intake) -> None:
    assert await intake.facility("99999") is None
    receipt = await intake.keep(b"MSH|who", Source(0, "99999", "mllp", "ADT^A01", "m-1"))
    with pytest.raises(Forbidden):
        await intake.submit(bundle(), receipt, answer=b"ACK")
    await intake.refuse(receipt, [Issue("forbidden", "unknown facility")], b"NAK")
    assert [row["state"] for row in await ledger(record)] == ["refused"]


async def test_the_sweep_finds_what_was_left(record: Record, intake: Intake) -> None:
    left = await intake.keep(b"MSH|left", await source(intake, "m-1"))
    failed = await intake.keep(b"MSH|failed", await source(intake, "m-2"))
    await intake.fail(failed, [Issue("transient", "database away")])
    done = await intake.keep(b"MSH|done", await source(intake, "m-3"))
    await intake.submit(bundle(), done, answer=b"ACK")
    found = await intake.unfinished(0)
    assert [(r.message_id, r.state, raw) for r, raw in found] == [
        (left.message_id, "received", b"MSH|left"),
        (failed.message_id, "failed", b"MSH|failed"),
    ]
    assert found[0][0].source == left.source
    assert await intake.unfinished(3600) == []
    for receipt, _ in found:
        await intake.submit(bundle(), receipt, answer=b"ACK")
    assert await intake.unfinished(0) == []
