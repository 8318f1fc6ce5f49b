"""How many round trips each write takes: one more does not go unnoticed.

A pool of one connection, so that every statement is seen; BEGIN and COMMIT count. The first use of a statement on a
connection also prepares it: that is not counted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ehr.access.policy import Caller
from ehr.fhir.vietnam import NATIONAL_ID, PATIENT_NUMBER
from ehr.intake import Intake, Source
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store import bundles
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from tests.facility import add_facility

Tree = dict[str, Any]
RECORDS = "urn:test:record"


@pytest.fixture
async def record(database_url: str) -> AsyncIterator[Record]:
    opened = await open_record(Settings(pool_connections_max=2), database_url)
    yield opened
    await opened.close()


@asynccontextmanager
async def statements(record: Record) -> AsyncIterator[list[str]]:
    """Every statement meanwhile, shortened."""
    seen: list[str] = []

    def note(query: Any) -> None:
        seen.append(" ".join(query.query.split())[:90])

    pool: Any = record.database.pool
    connections = [holder._con for holder in pool._holders if holder._con is not None]
    assert connections, "the pool keeps one connection open"
    for connection in connections:
        connection.add_query_logger(note)
    yield seen
    await asyncio.sleep(0)  # the last statement is noted by the loop, after it has ended
    for connection in connections:
        connection.remove_query_logger(note)


def patient(number: str, *, national: str | None = None, **more: Any) -> Tree:
    identifiers = [{"system": PATIENT_NUMBER, "value": number}]
    if national:
        identifiers.append({"system": NATIONAL_ID, "value": national})
    return {"resourceType": "Patient", "identifier": identifiers, "name": [{"text": "Nguyễn Văn An"}], **more}


def observation(number: int | str, subject: str, value: int = 1) -> Tree:
    return {
        "resourceType": "Observation",
        "identifier": [{"system": RECORDS, "value": str(number)}],
        "status": "final",
        "code": {"text": "potassium"},
        "subject": {"reference": subject},
        "valueInteger": value,
    }


def entry(method: str, url: str, resource: Tree, full_url: str | None = None, **request: Any) -> Tree:
    made: Tree = {"request": {"method": method, "url": url, **request}, "resource": resource}
    return made | ({"fullUrl": full_url} if full_url else {})


def transaction(*entries: Tree) -> Tree:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def message(number: int, value: int, **about_patient: Any) -> Tree:
    """What a laboratory's message becomes: a patient and nine results, all of them conditional."""
    urn = "urn:uuid:9d0d5a4e-9f0b-4f6e-8a3e-0d6f1c0e0a01"
    told = patient(str(number), **about_patient)
    return transaction(
        entry("PUT", f"Patient?identifier={PATIENT_NUMBER}|{number}", told, urn),
        *(
            entry("PUT", f"Observation?identifier={RECORDS}|{number}{n}", observation(f"{number}{n}", urn, value))
            for n in range(9)
        ),
    )


Work = Callable[[UnitOfWork], Awaitable[object]]

WRITES: dict[str, tuple[int, Work]] = {
    "create": (3, lambda u: u.resources.create("Observation", None, observation(1, "Patient/p"))),
    "create under an id": (5, lambda u: u.resources.update("Observation", "new", None, observation(1, "Patient/p"))),
    "update": (4, lambda u: u.resources.update("Observation", "o", None, observation(0, "Patient/p", 2))),
    "update that changes nothing": (
        4,
        lambda u: u.resources.update("Observation", "o", None, observation(0, "Patient/p")),
    ),
    "update of a patient that leaves its person alone": (
        4,
        lambda u: u.resources.update("Patient", "p", None, patient("1", national="001090000001", active=True)),
    ),
    "delete": (5, lambda u: u.resources.delete("Observation", "o")),
    "transaction that creates ten": (
        3,
        lambda u: bundles.transaction(
            u, transaction(*(entry("POST", "Observation", observation(n, "Patient/p")) for n in range(10)))
        ),
    ),
    "transaction of ten conditional updates, all new": (
        5,
        lambda u: bundles.transaction(
            u,
            transaction(
                *(
                    entry("PUT", f"Observation?identifier={RECORDS}|9{n}", observation(f"9{n}", "Patient/p"))
                    for n in range(10)
                )
            ),
        ),
    ),
    "transaction of two types, each updated, and one deleted": (
        5,
        lambda u: bundles.transaction(
            u,
            transaction(
                entry("PUT", "Patient/p", patient("1", national="001090000001", active=False, id="p")),
                {"request": {"method": "DELETE", "url": "Observation/o"}},
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_takes_its_round_trips_and_no_more(record: Record, city: Caller, name: str) -> None:
    async def prepare(uow: UnitOfWork) -> None:
        await uow.resources.update("Patient", "p", None, patient("1", national="001090000001"))
        await uow.resources.update("Observation", "o", None, observation(0, "Patient/p"))
        await uow.resources.update("Patient", "q", None, patient("2", national="001090000002", active=True))

    await record.write(city, prepare)  # what it says, with which members, costs who says it first a statement more
    expected, work = WRITES[name]
    async with statements(record) as seen:
        await record.write(city, work)
    assert len(seen) == expected, "\n".join(seen)


@pytest.fixture
async def intake(record: Record) -> Intake:
    async with record.database.acquire() as connection:
        await add_facility(connection)
    return Intake(record)


async def receive(intake: Intake, control_id: str, bundle: Tree) -> Tree:
    facility = await intake.facility("01Z01")
    assert facility is not None
    receipt = await intake.keep(control_id.encode(), Source(facility.id, facility.code, "mllp", "ORU", control_id))
    return await intake.submit(bundle, receipt, answer=b"ACK")


async def test_a_message_takes_its_round_trips_and_no_more(record: Record, intake: Intake) -> None:
    """Keep 1; BEGIN, claims, lookup, write, ledger, COMMIT 6. A new person costs more, once in a life."""
    told: Tree = {"national": "001090000001"}
    moved = told | {"telecom": [{"system": "phone", "value": "09"}]}
    steps: list[tuple[str, int, int, Tree, int]] = [
        ("of a patient not seen before", 1, 1, {}, 7),
        ("with new results", 1, 2, {}, 7),
        ("that says the same again", 1, 2, {}, 7),
        ("of a new patient with a national number", 2, 1, told, 10),
        ("with new results of that patient", 2, 2, told, 7),
        ("with a new telephone number of that patient", 2, 2, moved, 11),
    ]
    await receive(intake, "first", message(0, 1))
    for name, more in (("second", told), ("third", moved)):
        await receive(intake, name, message(9, 1, **more | {"national": "001090000009"}))
    for control_id, (name, number, value, more, expected) in enumerate(steps):
        async with statements(record) as seen:
            response = await receive(intake, str(control_id), message(number, value, **more))
        assert len(response["entry"]) == 10
        assert len(seen) == expected, f"a message {name}:\n" + "\n".join(seen)


async def test_a_message_applied_already_takes_one_round_trip(record: Record, intake: Intake) -> None:
    await receive(intake, "m-1", message(1, 1))
    async with statements(record) as seen:
        assert "entry" not in await receive(intake, "m-1", message(1, 1))
    assert len(seen) == 2, "the insert that finds it there, and the reading of what is there"
