"""A worker process is killed (SIGKILL) inside a round; another one goes on at once: the same sums, no claim twice."""

import asyncio
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ehr.settings import Settings
from ehr.store.record import Record
from sync.gateway_sim.serve import gateway_sim
from sync.reconcile import balance
from sync.schedule import run_sync

if TYPE_CHECKING:
    from tests.insurance.conftest import Episodes

ROOT: Final = Path(__file__).resolve().parents[2]
DEATHS: Final = (
    ("sealed", 4, "open"),
    ("sealed", 4, "committed"),
    ("sent and noted", 5, "open"),
    ("sent and noted", 5, "committed"),
    ("answer stored", 6, "open"),
    ("reconciled", 7, "open"),
)
"""The n-th transaction of a round with one page of changes: two read the feed, the third assigns a batch. Every one of
them dies in test_insurance_gateway, with less than a process."""


async def test_another_worker_goes_on_where_one_was_killed(
    record: Record, episodes: "Episodes", database_url: str
) -> None:
    count = 0
    async with gateway_sim() as sim:
        settings = Settings(insurer_url=sim.url)
        for name, step, moment in DEATHS:
            count += 1
            await episodes.write(record, episodes.outpatient(number=count))
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.insurance.dying", database_url, sim.url, str(step), moment), cwd=ROOT
            )
            assert await asyncio.wait_for(worker.wait(), 60) == -signal.SIGKILL, (name, moment)
            for _ in range(10):
                if (await run_sync(record, settings)).idle:
                    break
            ours, theirs = await balance(record), sim.books.balance()
            assert ours.closed, (name, moment, ours.problems)
            assert (ours.city.accepted, theirs["accepted"]) == (count, count), (name, moment)
            assert ours.city.accepted_dong == Decimal(theirs["accepted_dong"]), (name, moment)
        async with record.database.acquire() as connection:
            rows = await connection.fetch("SELECT sha256, state FROM sync_batch")
            claims = await connection.fetchval("SELECT count(DISTINCT claim_id) FROM sync_dossier")
        assert {row["state"] for row in rows} == {"reconciled"}
        assert claims == len(rows) == count
        sent = [file.sha256 for file in sim.books.files.values()]
        assert set(sent) == {row["sha256"] for row in rows}, "every file is a sealed one, byte for byte"
        assert len(sent) == count + 1, "only the one whose note was lost went again: the insurer replaces by MA_LK"
