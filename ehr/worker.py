"""Compose a worker process: Celery's wake-ups → the chunks, outbox rows, messages and batches of this record.

Runs     as `python -m ehr.worker [--beat] [--hands N]`, from `ehr serve` or `ehr worker`, with EHR_DATABASE_URL and
         EHR_BROKER_URL set; each of its hands opens a record of its own after the fork
Handlers kinds of jobs and topics of the outbox, in one place: what a worker does not know, it does not claim
"""

import argparse
import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from celery import signals

from adapters.pipeline import Pipeline
from ehr.access.policy import Caller
from ehr.bulk import drop, export, export_job
from ehr.bulk import job as bulk_job
from ehr.intake import Intake
from ehr.jobs.celery_app import SWEEP_S, add_clock, make_celery, make_worker, run_worker
from ehr.jobs.queue import Queue
from ehr.jobs.work import Handler, cause, work
from ehr.ops import logging
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store import backfill, declarations, outbox
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from ehr.summary import refresh
from sync.schedule import run_sync

Acting = Callable[[Record, str], Awaitable[object]]

DRAIN_COUNT: Final = 100
"""Keys of one topic a worker leases at once; it goes on while there are more, for a turn."""

TURN_S: Final = 5.0
RECOVER_AFTER_S: Final = 30.0
"""A kept message that is not finished by then has lost its worker."""

log = structlog.get_logger(__name__)


async def _refresh_summary(record: Record, patient_id: str) -> None:
    base_url = record.settings.base_url or ""

    async def rebuild(uow: UnitOfWork) -> bool:
        return await refresh.refresh(uow, patient_id, base_url=base_url)

    await record.run(Caller.system("summary refresh"), rebuild)


TOPICS: Final[Mapping[str, Acting]] = {refresh.TOPIC: _refresh_summary}


def handlers_of(record: Record) -> Mapping[str, Handler]:
    """Every kind of job this program can do."""
    return {
        bulk_job.KIND: bulk_job.handler(record),
        export_job.KIND: export.handler(record),
        declarations.JOB: backfill.handler(record),
    }


class RecordHands:
    """The hands of one worker process."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._queue = Queue(record.database)
        self._handlers = handlers_of(record)
        self._pipeline = Pipeline(Intake(record))

    async def work(self) -> bool:
        return await work(self._queue, self._handlers, self._record.clock)

    async def sweep(self, count_max: int) -> int:
        return await self._queue.sweep(list(self._handlers), count_max)

    async def drain(self, topic: str) -> None:
        """Act on due keys until none is left or the turn is over."""
        act = TOPICS[topic]
        ends_s = self._record.clock.monotonic_s() + TURN_S
        while self._record.clock.monotonic_s() < ends_s:
            async with self._record.database.acquire() as connection:
                taken = await outbox.take(connection, topic, DRAIN_COUNT)
            if not taken:
                return
            for one in taken:
                await self._act(act, one)

    async def _act(self, act: Acting, one: outbox.Work) -> None:
        try:
            await act(self._record, one.key)
        except Exception as error:
            log.warning("outbox row failed", topic=one.topic, attempts=one.attempts, exc_info=True)
            async with self._record.database.acquire() as connection:
                await outbox.fail(connection, one, cause(error))
        else:
            async with self._record.database.acquire() as connection:
                await outbox.finish(connection, [one])

    async def recover(self) -> None:
        count = await self._pipeline.recover(RECOVER_AFTER_S)
        if count:
            log.info("messages recovered", count=count)

    async def clean(self) -> None:
        data_dir = self._record.settings.data_dir
        count = await export_job.clean(self._queue, data_dir / export_job.EXPORTS)
        count += await bulk_job.clean(self._queue, data_dir / bulk_job.IMPORTS)
        if count:
            log.info("files of exports and imports removed, their time was over", count=count)
        await backfill.bring_up(self._record)

    async def collect(self) -> None:
        await drop.collect(self._record)

    async def sync(self) -> None:
        done = await run_sync(self._record, self._record.settings)
        if done.problems:
            log.warning("insurance round had problems", count=len(done.problems))

    async def close(self) -> None:
        await self._record.close()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="ehr worker", description="Run the city's background work.")
    parser.add_argument("--beat", action="store_true", help="be the clock too; one process of an installation is")
    parser.add_argument("--hands", type=int, default=os.cpu_count() or 1, help="processes that work at once")
    parser.add_argument("--clock-only", action="store_true", help="send the ticks and do no work")
    given = parser.parse_args(arguments)
    settings = Settings()
    assert settings.database_url, "the composition root names the database"
    assert settings.broker_url, "the composition root names the broker"
    database_url, broker_url = settings.database_url.get_secret_value(), settings.broker_url.get_secret_value()
    logging.configure(settings.log_level, settings.log_format)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # Celery leaves the logging above as it is
    warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")

    async def open_hands() -> RecordHands:
        record = await open_record(settings, database_url)
        if job_id := await backfill.bring_up(record):
            log.info("rows of an earlier version are indexed anew", job_id=job_id)
        return RecordHands(record)

    if given.clock_only:
        celery = make_celery(broker_url)
        add_clock(celery, list(TOPICS))
        celery.Beat(loglevel=settings.log_level, max_interval=int(SWEEP_S)).run()
        return
    celery = make_worker(broker_url, open_hands)
    add_clock(celery, list(TOPICS))
    run_worker(celery, hands=given.hands, clock=given.beat)


if __name__ == "__main__":
    main(sys.argv[1:])
