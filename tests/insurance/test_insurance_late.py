"""What comes late: after a file was made, sent, answered and balanced. Our balance stays the insurer's, to the đồng."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import TYPE_CHECKING, Final

import pytest

from adapters.facilities import hl7
from adapters.facilities.arrivals import arrivals
from adapters.facilities.episode import Episode
from adapters.facilities.episodes import episode
from adapters.facilities.outgoing import Outgoing
from adapters.facilities.population import Population
from adapters.facilities.register import register_facilities
from adapters.facilities.registry import FACILITIES
from adapters.pipeline import Pipeline
from ehr.access.policy import Caller
from ehr.intake import Intake
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync import batch
from sync.extract import extract
from sync.gateway import Gateway, Taken
from sync.gateway_sim.serve import GatewaySim, gateway_sim
from sync.opened import Opened, opened
from sync.read import Found, episode_of
from sync.reconcile import balance
from sync.schedule import run_sync

if TYPE_CHECKING:
    from tests.insurance.conftest import Episodes


MORNING: Final = (8, 9, 10)
DAY: Final = date(2026, 11, 20)


async def until_idle(record: Record, sim: GatewaySim) -> None:
    for _ in range(10):
        if (await run_sync(record, Settings(insurer_url=sim.url))).idle:
            return
    raise AssertionError("not idle after 10 rounds")


async def agree(record: Record, sim: GatewaySim) -> None:
    ours, theirs = await balance(record), sim.books.balance()
    assert ours.closed, ours.problems
    assert (ours.city.accepted, ours.city.rejected) == (theirs["accepted"], theirs["rejected"])
    assert str(ours.city.accepted_dong) == theirs["accepted_dong"]
    assert ours.city.pending == 0


async def test_a_slow_worker_never_brings_an_old_file_after_a_newer_one(
    record: Record, episodes: "Episodes", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The insurer replaces by MA_LK: the earlier file, sent once more behind the correction, undid it."""
    await episodes.write(record, episodes.outpatient())
    send, reached, go = Gateway.send, asyncio.Event(), asyncio.Event()
    slow = [True]

    async def first_is_slow(gateway: Gateway, facility_code: str, body: bytes) -> Taken:
        if slow.pop() if slow else False:
            reached.set()
            await go.wait()
        return await send(gateway, facility_code, body)

    monkeypatch.setattr(Gateway, "send", first_is_slow)
    async with gateway_sim() as sim:
        settings = Settings(insurer_url=sim.url)
        slow_worker = asyncio.create_task(run_sync(record, settings))
        await reached.wait()
        await run_sync(record, settings)
        await episodes.write(record, episodes.outpatient(items=(episodes.EXAMINATION,)))
        correction = [t for t in episodes.trees(episodes.outpatient()) if t["resourceType"] == "ChargeItem"][1:]
        for tree in correction:
            tree["status"] = "entered-in-error"
        await episodes.write(record, episodes.outpatient(), correction)
        await run_sync(record, settings)
        go.set()
        await slow_worker
        await until_idle(record, sim)
        assert len(sim.books.files) == 2, "each file went once"
        await agree(record, sim)


async def test_an_episode_that_gets_another_number_holds_up_no_file(record: Record, episodes: "Episodes") -> None:
    """Its dossier waits under the old MA_LK; the file that named the new one could not be noted as sent, for ever."""
    visit = episodes.outpatient()
    await episodes.write(record, visit)
    async with gateway_sim() as sim:
        await episodes.write(record, episodes.outpatient(number=2))
        while await extract(record):
            pass
        await batch.open_batches(record)
        (encounter,) = (tree for tree in episodes.trees(visit) if tree["resourceType"] == "Encounter")
        encounter["identifier"][0]["value"] = "01Z01.000009"
        await episodes.write(record, visit, [encounter])
        await until_idle(record, sim)
        assert sorted(ma_lk for _, ma_lk in sim.books.latest) == ["01Z01.000002", "01Z01.000009"]
        await agree(record, sim)


@pytest.fixture
async def city(database_url: str) -> AsyncIterator[Record]:
    opened_record = await open_record(Settings(), database_url)
    yield opened_record
    await opened_record.close()


def later(message: Outgoing, number: int, *changes: tuple[str, str]) -> bytes:
    """The message once more, as its system writes it a month later with something mended."""
    text = message.payload.decode()
    msh, _, rest = text.partition("\r")
    fields = msh.split("|")
    fields[6], fields[9] = "20261225120000+0700", f"LATE{number}"
    for old, new in changes:
        assert old in rest or old in fields[8], old
        fields[8], rest = fields[8].replace(old, new), rest.replace(old, new, 1)
    return "\r".join(["|".join(fields), rest]).encode()


async def test_messages_after_the_month_was_balanced(city: Record) -> None:
    """HL7 → episode → file → insurer → balance; then a corrected result, a charge taken back and a cancelled stay."""
    hospital = next(facility for facility in FACILITIES if facility.kind == "hospital")
    await register_facilities(city, [hospital])
    population = Population(11, 20_000)
    found = [episode(11, population, arrival) for hour in MORNING for arrival in arrivals(11, hospital, DAY, hour)]
    measured = [one for one in found if one.insured and any("|NM|" in m.payload.decode() for m in results(one))]
    corrected, reversed_, cancelled = measured[:3]
    pipeline = Pipeline(Intake(city))

    async def receive(payload: bytes) -> None:
        answer = await pipeline.receive_hl7(payload, "test")
        assert b"MSA|AA" in answer, answer

    for one in (corrected, reversed_, cancelled):
        for message in hl7.messages(one):
            await receive(message.payload)
    async with gateway_sim() as sim:
        await until_idle(city, sim)
        await agree(city, sim)
        before = (await balance(city)).city
        assert (before.accepted, before.outdated) == (3, 0)

        result = next(m for m in results(corrected) if "|NM|" in m.payload.decode())
        line = next(line for line in result.payload.decode().split("\r") if "|NM|" in line)
        fields = line.split("|")
        fields[5] = "987.5"
        await receive(later(result, 1, (line, "|".join(fields))))
        await until_idle(city, sim)
        await agree(city, sim)
        assert (await balance(city)).city.accepted_dong == before.accepted_dong, "a result costs nothing more"
        assert "987.5" in {row["GIA_TRI"] for row in (await last_file(city))[0].tables["XML4"]}

        charges = next(m for m in hl7.messages(reversed_) if m.payload.decode().split("|")[8].startswith("DFT"))
        lines = [line.split("|") for line in charges.payload.decode().split("\r") if line.startswith("FT1|")]
        service = next(fields for fields in lines if "/XML3/" in fields[2])
        taken_back = [*service[:6], "CR", *service[7:]]
        await receive(later(charges, 2, ("|".join(service), "|".join(taken_back))))
        await until_idle(city, sim)
        await agree(city, sim)
        less = (await balance(city)).city.accepted_dong
        assert less < before.accepted_dong

        left = next(m for m in hl7.messages(cancelled) if "ADT^A03" in m.payload.decode())
        await receive(later(left, 3, ("ADT^A03", "ADT^A11")))
        await until_idle(city, sim)
        await agree(city, sim)
        last = (await balance(city)).city
        assert (last.accepted, last.accepted_dong, last.withheld) == (3, less, 1), "the insurer holds it still"
        held = sim.books.latest[hospital.code, cancelled.link]
        assert (last.outdated, last.outdated_dong) == (1, held.t_bhtt)
        assert len(sim.books.files) == 3, "the first file and two corrections; nothing twice"


async def test_a_charge_moved_to_another_stay_is_paid_once(record: Record, episodes: "Episodes") -> None:
    """Both stays are claimed anew; the first kept a charge that was no longer its own."""
    first, second = episodes.outpatient(number=1), episodes.outpatient(number=2)
    await episodes.write(record, first)
    of_second = [tree for tree in episodes.trees(second) if tree["resourceType"] not in {"Patient", "Coverage"}]
    for tree in of_second:
        tree["subject"] = {"reference": "Patient/p1-01Z01"}
    await episodes.write(record, second, of_second)
    async with gateway_sim() as sim:
        await until_idle(record, sim)
        await agree(record, sim)
        before = (await balance(record)).city
        charge = next(tree for tree in episodes.trees(first) if tree["id"] == "i1-1-01Z01")
        await episodes.write(record, first, [charge | {"context": {"reference": "Encounter/e2-01Z01"}}])
        await until_idle(record, sim)
        await agree(record, sim)
        after = (await balance(record)).city
        assert (after.accepted, after.accepted_dong) == (2, before.accepted_dong)


async def test_a_change_committed_while_its_file_is_sealed_is_sent(
    record: Record, episodes: "Episodes", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction began before the sealing one, and ended after that had read the episode."""
    visit = episodes.outpatient()
    await episodes.write(record, visit)
    while await extract(record):
        pass
    (batch_id,) = await batch.open_batches(record)
    taken_back = [tree for tree in episodes.trees(visit) if tree["id"] == "i1-1-01Z01"]
    taken_back[0]["status"] = "entered-in-error"
    caller = Caller.of_facility(await episodes.facility(record, visit.facility), visit.facility)
    written, commit = asyncio.Event(), asyncio.Event()

    async def correct(uow: UnitOfWork) -> None:
        await uow.resources.update("ChargeItem", taken_back[0]["id"], None, taken_back[0])
        await uow.connection.fetchval("SELECT pg_current_xact_id()")
        written.set()
        await commit.wait()

    correcting = asyncio.create_task(record.run(caller, correct))
    await written.wait()
    extracting: list[asyncio.Task[int]] = []

    async def reads_and_is_overtaken(uow: UnitOfWork, encounter_id: str) -> Found | None:
        found = await episode_of(uow, encounter_id)
        commit.set()
        await correcting
        extracting.append(asyncio.create_task(extract(record)))
        await asyncio.wait(extracting, timeout=0.5)
        return found

    monkeypatch.setattr(batch, "episode_of", reads_and_is_overtaken)
    assert await batch.seal(record, batch_id)
    monkeypatch.undo()
    assert await extracting[0] > 0
    async with gateway_sim() as sim:
        await until_idle(record, sim)
        await agree(record, sim)
        (last,) = await last_file(record)
        assert "23.0075.1494" not in {row["MA_DICH_VU"] for row in last.tables["XML3"]}


async def test_an_order_that_is_mended_alone_is_sent(record: Record, episodes: "Episodes") -> None:
    """The charge points at it, and takes its time and doctor from it."""
    visit = episodes.outpatient()
    sent = episodes.trees(visit)
    charge = next(tree for tree in sent if tree["resourceType"] == "ChargeItem")
    del charge["enteredDate"]
    charge["service"] = [{"reference": "ServiceRequest/order"}]
    order = {
        "resourceType": "ServiceRequest",
        "id": "order",
        "status": "completed",
        "intent": "order",
        "subject": charge["subject"],
        "encounter": charge["context"],
        "authoredOn": "2026-11-20T08:20:00+07:00",
    }
    await episodes.write(record, visit, [*sent[:-3], order, *sent[-3:]])
    async with gateway_sim() as sim:
        await until_idle(record, sim)
        await episodes.write(record, visit, [order | {"authoredOn": "2026-11-20T08:10:00+07:00"}])
        await until_idle(record, sim)
        await agree(record, sim)
        assert "202611200810" in {row["NGAY_YL"] for row in (await last_file(record))[0].tables["XML3"]}


def results(one: Episode) -> list[Outgoing]:
    return [m for m in hl7.messages(one) if m.payload.decode().split("|")[8].startswith("ORU")]


async def last_file(record: Record) -> list[Opened]:
    async with record.database.acquire() as connection:
        row = await connection.fetchrow("SELECT body, sha256 FROM sync_batch ORDER BY id DESC LIMIT 1")
    assert row is not None
    return opened(batch.unpacked(row["body"], row["sha256"]))
