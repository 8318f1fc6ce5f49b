"""Transactions and batches: whole or not at all, references resolved, conditions that cannot race."""

import asyncio
from typing import Any

import pytest

from ehr.access.policy import Caller
from ehr.errors import EhrError, Invalid, Malformed, PreconditionFailed
from ehr.fhir import codec
from ehr.store import bundles
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

MRN = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"
Tree = dict[str, Any]


def patient(number: str, **more: Any) -> Tree:
    return {"resourceType": "Patient", "identifier": [{"system": MRN, "value": number}], **more}


def observation(subject: str, value: str = "7.10") -> Tree:
    quantity = codec.loads(f'{{"value": {value}}}'.encode())
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "potassium"},
        "subject": {"reference": subject},
        "valueQuantity": quantity,
    }


def entry(method: str, url: str, resource: Tree | None = None, full_url: str | None = None, **request: Any) -> Tree:
    made: Tree = {"request": {"method": method, "url": url, **request}}
    return made | ({"resource": resource} if resource else {}) | ({"fullUrl": full_url} if full_url else {})


def transaction(*entries: Tree) -> Tree:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


async def send(record: Record, caller: Caller, bundle: Tree) -> list[Tree]:
    async def work(uow: UnitOfWork) -> Tree:
        return await bundles.transaction(uow, bundle)

    answer = await record.run(caller, work)
    assert answer["type"] == "transaction-response"
    found: list[Tree] = answer["entry"]
    return found


def id_of(answer: Tree) -> str:
    return str(answer["response"]["location"].split("/")[1])


async def read(record: Record, caller: Caller, reference: str) -> Tree:
    async with record.reading(caller) as uow:
        version = await uow.resources.read(*reference.split("/")[:2])
    assert version.body is not None
    found: Tree = codec.loads(version.body)
    return found


async def rows(record: Record) -> dict[str, int]:
    tables = ("resource", "resource_history", "change", "outbox", "claim", "audit", "string_index", "quantity_index")
    async with record.database.acquire() as connection:
        return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


async def test_urn_references_point_to_what_was_made(record: Record, city: Caller) -> None:
    urn = "urn:uuid:9d0d5a4e-9f0b-4f6e-8a3e-0d6f1c0e0a01"
    answers = await send(
        record,
        city,
        transaction(
            entry("POST", "Observation", observation(urn)), entry("POST", "Patient", patient("1"), full_url=urn)
        ),
    )
    assert [a["response"]["status"] for a in answers] == ["201 Created", "201 Created"]
    made = await read(record, city, f"Observation/{id_of(answers[0])}")
    assert made["subject"]["reference"] == f"Patient/{id_of(answers[1])}"
    assert str(made["valueQuantity"]["value"]) == "7.10"


async def test_a_refused_entry_leaves_nothing_at_all(record: Record, city: Caller) -> None:
    await send(record, city, transaction(entry("PUT", "Patient/p1", patient("1", id="p1"))))
    before = await rows(record)
    with pytest.raises(PreconditionFailed) as refused:
        await send(
            record,
            city,
            transaction(
                entry("POST", "Patient", patient("2"), ifNoneExist=f"identifier={MRN}|2"),
                entry("POST", "Observation", observation("Patient/p1")),
                entry("PUT", "Patient/p1", patient("3", id="p1"), ifMatch='W/"7"'),
            ),
        )
    assert refused.value.issues[0].at == "Bundle.entry[2].request.ifMatch"
    assert await rows(record) == before


async def test_every_error_names_its_entry(record: Record, city: Caller) -> None:
    broken = observation("Patient/p1") | {"status": "nonsense"}
    with pytest.raises(Invalid) as refused:
        await send(
            record, city, transaction(entry("POST", "Patient", patient("1")), entry("POST", "Observation", broken))
        )
    assert [issue.at for issue in refused.value.issues] == ["Bundle.entry[1].resource.status"]
    lost = observation("urn:uuid:00000000-0000-4000-8000-000000000000")
    with pytest.raises(Invalid) as refused:
        await send(record, city, transaction(entry("POST", "Observation", lost)))
    assert refused.value.issues[0].at == "Bundle.entry[0].resource.subject.reference"
    nobody = observation(f"Patient?identifier={MRN}|nobody")
    with pytest.raises(PreconditionFailed) as unmatched:
        await send(record, city, transaction(entry("POST", "Observation", nobody)))
    assert unmatched.value.issues[0].at == "Bundle.entry[0].resource.subject.reference"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (entry("PUT", "Patient/p1", patient("1", id="p1")), entry("DELETE", "Patient/p1")),
        (
            entry("PUT", f"Patient?identifier={MRN}|1", patient("1")),
            entry("POST", "Patient", patient("1"), ifNoneExist=f"identifier={MRN}|1"),
        ),
    ],
)
async def test_one_resource_is_written_once(record: Record, city: Caller, one: Tree, other: Tree) -> None:
    with pytest.raises(Invalid):
        await send(record, city, transaction(one, other))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"request": {"method": "POST"}},
        entry("TRACE", "Patient"),
        entry("POST", "Patient"),
        entry("POST", "Patient", {"resourceType": "Observation"}),
        entry("PUT", "Patient", patient("1")),
        entry("PUT", "Patient/a", patient("1", id="b")),
        entry("PUT", "Patient/a", patient("1", id="a"), ifMatch="1"),
        entry("POST", "https://elsewhere.example/Patient", patient("1")),
        entry("PUT", "Patient?", patient("1")),
    ],
)
async def test_entries_that_say_nothing_clear_are_refused(record: Record, city: Caller, wrong: Tree) -> None:
    with pytest.raises(EhrError) as refused:
        await send(record, city, transaction(wrong))
    assert str(refused.value.issues[0].at).startswith("Bundle.entry[0]")


async def test_conditional_update_creates_then_updates_then_keeps(record: Record, city: Caller) -> None:
    async def put(**more: Any) -> Tree:
        url = f"Patient?identifier={MRN}|77"
        response: Tree = (await send(record, city, transaction(entry("PUT", url, patient("77", **more)))))[0][
            "response"
        ]
        return response

    first, second, third = await put(gender="male"), await put(gender="female"), await put(gender="female")
    assert [r["status"] for r in (first, second, third)] == ["201 Created", "200 OK", "200 OK"]
    assert [r["etag"] for r in (first, second, third)] == ['W/"1"', 'W/"2"', 'W/"2"']


async def test_conditions_and_references_inside_one_bundle(record: Record, city: Caller) -> None:
    condition = f"identifier={MRN}|5"
    answers = await send(
        record,
        city,
        transaction(
            entry("POST", "Observation", observation(f"Patient?{condition}")),
            entry("POST", "Patient", patient("5"), ifNoneExist=condition),
            entry("DELETE", f"Patient?identifier={MRN}|none"),
            entry("GET", "Patient/p0"),
            entry("PUT", "Patient/p0", patient("0", id="p0")),
        ),
    )
    statuses = [a["response"]["status"] for a in answers]
    assert statuses == ["201 Created", "201 Created", "204 No Content", "200 OK", "201 Created"]
    assert answers[3]["resource"]["id"] == "p0"
    again = await send(record, city, transaction(entry("POST", "Patient", patient("5"), ifNoneExist=condition)))
    assert again[0]["response"]["status"] == "200 OK"
    assert id_of(again[0]) == id_of(answers[1])
    await send(record, city, transaction(entry("DELETE", f"Patient?{condition}")))
    fresh = await send(record, city, transaction(entry("POST", "Patient", patient("5"), ifNoneExist=condition)))
    assert fresh[0]["response"]["status"] == "201 Created"
    assert id_of(fresh[0]) != id_of(answers[1])


async def test_parallel_conditional_creates_make_one(record: Record, city: Caller) -> None:
    bundle = transaction(entry("POST", "Patient", patient("9"), ifNoneExist=f"identifier={MRN}|9"))
    answers = await asyncio.gather(*(send(record, city, bundle) for _ in range(32)))
    statuses = [a[0]["response"]["status"] for a in answers]
    assert sorted(statuses) == ["200 OK"] * 31 + ["201 Created"]
    assert len({id_of(a[0]) for a in answers}) == 1


async def test_a_match_that_is_another_when_its_row_is_free_is_no_match(record: Record, city: Caller) -> None:
    """A conditional update waits for a plain one, which gives the resource another identifier."""
    (made,) = await send(record, city, transaction(entry("POST", "Patient", patient("1"))))
    renamed = patient("2", active=True)
    async with record.unit_of_work(city) as uow:
        await uow.resources.update("Patient", id_of(made), None, renamed)
        asked = transaction(entry("PUT", f"Patient?identifier={MRN}|1", patient("1", active=False)))
        waiting = asyncio.create_task(send(record, city, asked))
        await asyncio.sleep(0.5)
        assert not waiting.done()
    (answer,) = await waiting
    assert answer["response"]["status"] == "201 Created"
    async with record.unit_of_work(city) as uow:
        kept = codec.loads((await uow.resources.read("Patient", id_of(made))).body or b"")
    assert (kept["identifier"], kept["active"]) == (renamed["identifier"], True)


async def test_parallel_transactions_with_keys_in_different_orders_all_end(record: Record, city: Caller) -> None:
    def bundle(numbers: list[int]) -> Tree:
        return transaction(
            *(entry("PUT", f"Patient?identifier={MRN}|{n}", patient(str(n), multipleBirthInteger=n)) for n in numbers)
        )

    orders = [list(range(8)), list(range(7, -1, -1))] * 6
    answers = await asyncio.gather(*(send(record, city, bundle(order)) for order in orders))
    assert sum(a["response"]["status"] == "201 Created" for answer in answers for a in answer) == 8


async def test_any_search_may_be_a_condition(record: Record, city: Caller) -> None:
    """Not an identifier: the search answers, and the claim still lets one through."""
    asked = "family=Nguyễn&birthdate=1990-02-03"
    tree = patient("1", name=[{"family": "Nguyễn", "given": ["An"]}], birthDate="1990-02-03")
    bundle = transaction(entry("POST", "Patient", tree, ifNoneExist=asked))
    answers = await asyncio.gather(*(send(record, city, bundle) for _ in range(8)))
    assert len({id_of(a[0]) for a in answers}) == 1
    await send(record, city, transaction(entry("POST", "Patient", tree)))
    with pytest.raises(PreconditionFailed):
        await send(record, city, bundle)
    facility = Caller.of_facility(9, "01Z09")
    assert (await send(record, facility, bundle))[0]["response"]["status"] == "201 Created", "not among its own"


async def test_a_facility_means_its_own_resources(record: Record, city: Caller) -> None:
    one, two = Caller.of_facility(1, "01Z01"), Caller.of_facility(2, "01Z02")
    bundle = transaction(entry("PUT", f"Patient?identifier={MRN}|4", patient("4", id=None) | {}))
    bundle["entry"][0]["resource"].pop("id")
    first = await send(record, one, bundle)
    second = await send(record, two, bundle)
    assert id_of(first[0]) != id_of(second[0])
    answers = await send(
        record, two, transaction(entry("POST", "Observation", observation(f"Patient?identifier={MRN}|4")))
    )
    made = await read(record, city, f"Observation/{id_of(answers[0])}")
    assert made["subject"]["reference"] == f"Patient/{id_of(second[0])}"
    with pytest.raises(EhrError) as refused:
        await send(
            record, two, transaction(entry("PUT", f"Patient/{id_of(first[0])}", patient("4", id=id_of(first[0]))))
        )
    assert refused.value.http_status == 403


async def test_a_facility_refers_to_the_citys_directory(record: Record, city: Caller) -> None:
    code = "http://fhir.hl7.org.vn/core/sid/ma-cskcb"
    place: Tree = {"resourceType": "Organization", "identifier": [{"system": code, "value": "01Z03"}]}
    made = await send(record, city, transaction(entry("POST", "Organization", place)))
    facility = Caller.of_facility(3, "01Z03")
    told = patient("1", managingOrganization={"reference": f"Organization?identifier={code}|01Z03"})
    answers = await send(record, facility, transaction(entry("POST", "Patient", told)))
    stored = await read(record, city, f"Patient/{id_of(answers[0])}")
    assert stored["managingOrganization"]["reference"] == f"Organization/{id_of(made[0])}"


async def test_readers_never_see_half_a_transaction(record: Record, city: Caller) -> None:
    ids = [f"pair-{n}" for n in range(6)]

    def bundle(turn: int) -> Tree:
        return transaction(*(entry("PUT", f"Patient/{i}", patient(str(turn), id=i)) for i in ids))

    await send(record, city, bundle(0))
    done = asyncio.Event()
    torn: list[set[str]] = []

    async def watch() -> int:
        looks = 0
        async with record.database.acquire() as connection:
            while not done.is_set():
                found = await connection.fetch("SELECT body FROM resource WHERE id = ANY($1::text[])", ids)
                seen = {codec.loads(record.bodies.decompress(r["body"]))["identifier"][0]["value"] for r in found}
                if len(seen) != 1:
                    torn.append(seen)
                looks += 1
        return looks

    async def write() -> None:
        for turn in range(1, 30):
            await send(record, city, bundle(turn))
        done.set()

    looks, _ = await asyncio.gather(watch(), write())
    assert looks > 10
    assert torn == []


async def test_a_killed_connection_leaves_nothing(record: Record, city: Caller) -> None:
    before = await rows(record)

    async def work(uow: UnitOfWork) -> None:
        await bundles.transaction(uow, transaction(entry("POST", "Patient", patient("1"))))
        pid = uow.connection.get_server_pid()
        async with record.database.acquire() as other:
            await other.execute("SELECT pg_terminate_backend($1)", pid)
        await bundles.transaction(uow, transaction(entry("POST", "Patient", patient("2"))))

    with pytest.raises(EhrError) as lost:
        await record.run(city, work)
    assert lost.value.http_status == 503
    assert await rows(record) == before


async def test_an_error_after_the_writes_undoes_them(record: Record, city: Caller) -> None:
    before = await rows(record)

    async def work(uow: UnitOfWork) -> None:
        await bundles.transaction(uow, transaction(entry("POST", "Patient", patient("1"))))
        raise Malformed("the door found something wrong afterwards")

    with pytest.raises(Malformed):
        await record.run(city, work)
    assert await rows(record) == before
