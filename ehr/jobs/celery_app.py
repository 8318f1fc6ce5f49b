"""Wake-up messages → the asynchronous work of one worker process. Celery only wakes; PostgreSQL holds what to do.

Tasks    work      claim and run chunks of the jobs table until none is due
         sweep     wake workers for chunks that wait, and give up those that kill every worker
         drain     act on the outbox rows of one topic
         recover   finish intake messages that were kept and not applied
         clean     remove files whose time is over
         collect   take files that facilities have dropped
         sync      one round with the social insurance gateway
Why      every message may be lost or come twice: each task asks the database what is due, and acts idempotently.
         Ticks expire after their interval, so a broker that was away does not come back with hours of them
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

import structlog
from celery import Celery, signals
from kombu.exceptions import OperationalError

WORK: Final = "ehr.work"
SWEEP: Final = "ehr.sweep"
DRAIN: Final = "ehr.drain"
RECOVER: Final = "ehr.recover"
CLEAN: Final = "ehr.clean"
COLLECT: Final = "ehr.collect"
SYNC: Final = "ehr.sync"

SWEEP_S: Final = 3.0
DRAIN_S: Final = 2.0
TICKS_S: Final = {SWEEP: SWEEP_S, RECOVER: 15.0, CLEAN: 600.0, COLLECT: 5.0, SYNC: 10.0}
"""How often beat sends each task that has no argument; DRAIN goes to each topic."""

WAKES_MAX: Final = 8
"""Wake-up messages of one sweep: more workers than that on one broker are woken by the next sweep."""

log = structlog.get_logger()


class Hands(Protocol):
    """What a worker process can do; made by the composition root, once in each process."""

    async def work(self) -> bool:
        """True when the turn ended before the work did."""
        ...

    async def sweep(self, count_max: int) -> int:
        """How many chunks wait for a worker."""
        ...

    async def drain(self, topic: str) -> None: ...

    async def recover(self) -> None: ...

    async def clean(self) -> None: ...

    async def collect(self) -> None: ...

    async def sync(self) -> None: ...

    async def close(self) -> None: ...


class Process:
    """One event loop and one pair of hands for as long as the worker process lives."""

    def __init__(self, open_hands: Callable[[], Awaitable[Hands]]) -> None:
        self._open_hands = open_hands
        self._runner: asyncio.Runner | None = None
        self._hands: Hands | None = None
        self._pid = 0

    def run(self, act: Callable[[Hands], Coroutine[Any, Any, Any]]) -> Any:
        """Open the hands at the first task after the fork: neither loop nor connections survive one."""
        if self._pid != os.getpid():
            self._runner, self._hands, self._pid = asyncio.Runner(), None, os.getpid()
        assert self._runner is not None, "made above"
        return self._runner.run(self._act(act))

    async def _act(self, act: Callable[[Hands], Coroutine[Any, Any, Any]]) -> Any:
        if self._hands is None:
            self._hands = await self._open_hands()
        return await act(self._hands)

    def close(self) -> None:
        if self._runner is not None and self._pid == os.getpid():
            if self._hands is not None:
                self._runner.run(self._act(lambda hands: hands.close()))
            self._runner.close()


def make_celery(broker_url: str) -> Celery:
    """A Celery that can send; make_worker adds what runs the tasks."""
    celery = Celery("ehr", broker=broker_url, set_as_current=False)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_publish_retry=False,
        task_default_queue="ehr",
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5, "visibility_timeout": 3600},
        beat_scheduler="celery.beat:Scheduler",  # in memory: nothing here is due less often than every few seconds
        enable_utc=True,
    )
    return celery


def add_clock(celery: Celery, topics: list[str]) -> None:
    """What beat sends, and when."""
    ticks: list[tuple[str, float, list[str]]] = [(name, every_s, []) for name, every_s in TICKS_S.items()]
    ticks += [(DRAIN, DRAIN_S, [topic]) for topic in topics]
    celery.conf.beat_schedule = {
        " ".join([name, *args]): {"task": name, "schedule": every_s, "args": args, "options": {"expires": every_s}}
        for name, every_s, args in ticks
    }


def make_worker(broker_url: str, open_hands: Callable[[], Awaitable[Hands]]) -> Celery:
    """A Celery whose tasks run in this program."""
    celery = make_celery(broker_url)
    process = Process(open_hands)

    def work() -> None:
        if process.run(lambda hands: hands.work()):
            celery.send_task(WORK)

    def sweep() -> None:
        waiting = process.run(lambda hands: hands.sweep(WAKES_MAX))
        for _ in range(waiting):
            celery.send_task(WORK, expires=SWEEP_S)

    def drain(topic: str) -> None:
        process.run(lambda hands: hands.drain(topic))

    def recover() -> None:
        process.run(lambda hands: hands.recover())

    def clean() -> None:
        process.run(lambda hands: hands.clean())

    def collect() -> None:
        process.run(lambda hands: hands.collect())

    def sync() -> None:
        process.run(lambda hands: hands.sync())

    tasks = (
        (WORK, work),
        (SWEEP, sweep),
        (DRAIN, drain),
        (RECOVER, recover),
        (CLEAN, clean),
        (COLLECT, collect),
        (SYNC, sync),
    )
    for name, function in tasks:
        celery.task(name=name)(function)
    signals.worker_process_shutdown.connect(lambda **_: process.close(), weak=False)
    return celery


def run_worker(celery: Celery, *, hands: int, clock: bool) -> None:
    """Run until SIGTERM, in this process and `hands` children; clock: beat too, as its own child."""
    options = ["--concurrency", str(hands), "--loglevel", "WARNING"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat", *(["--beat"] if clock else [])]
    celery.worker_main(["--quiet", "worker", *options])


async def wake(celery: Celery, count: int) -> bool:
    """Wake up to count workers now; False where the broker is away, and the next sweep will do it."""
    try:
        for _ in range(min(count, WAKES_MAX)):
            await asyncio.to_thread(celery.send_task, WORK)
    except OperationalError:
        log.warning("broker away, the sweep will wake the workers", queue="ehr")
        return False
    return True
