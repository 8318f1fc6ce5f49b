"""What comes late: after a file was made, sent, answered and balanced. Our balance stays the insurer's, to the đồng."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from ehr.settings import Settings
from ehr.store.record import Record
from sync import batch
from sync.extract import extract
from sync.gateway import Gateway, Taken
from sync.gateway_sim.serve import GatewaySim, gateway_sim
from sync.reconcile import balance
from sync.schedule import run_sync

if TYPE_CHECKING:
    from tests.insurance.conftest import Episodes


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
