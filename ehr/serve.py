"""Compose the serving process: settings → database, broker, worker, MLLP listener and HTTP, in order.

Order    database, migration, broker, record, HTTP, MLLP, worker; stopped the other way round, so that every message
         that was answered has been stored and nothing is answered that cannot be
Alone    with no EHR_DATABASE_URL the embedded PostgreSQL is ours, with no EHR_BROKER_URL the embedded broker and one
         worker with its clock are too. An outside broker has workers of its own: `ehr worker`, `ehr beat`
Ends     when it is asked to, and when something it started has ended by itself: who started us then starts us again,
         rather than that a city serves without its database, or without its workers and nobody knows
Knows    running.json in the data folder tells `ehr token` and others the address that tokens are issued for
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson
import structlog
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.mllp.server import MllpServer
from adapters.pipeline import Pipeline
from ehr import limits
from ehr.access.authenticate import is_loopback
from ehr.api.server import run_http
from ehr.app import create_app
from ehr.database import migrate
from ehr.database.child import Child, ourselves
from ehr.database.embedded import EmbeddedPostgres
from ehr.database.owned import OwnedServer
from ehr.errors import Forbidden, Invalid, TooMuch, Unavailable
from ehr.intake import Intake
from ehr.jobs.broker import EmbeddedBroker
from ehr.ops.health import Check
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.operation_definitions import publish
from ehr.store.record import Record

RUNNING: Final = "running.json"
WORKER_HANDS: Final = 1
"""Processes of the worker that `serve` brings along; a loaded city runs `ehr worker` beside it."""

WORKER: Final = "the worker"
WORKER_END_S: Final = 10
LOOK_S: Final = 0.5
SWITCH_S: Final = 0.001
"""How long one thread keeps the interpreter while another wants it."""
COLLECT_AT: Final = 10_000
"""New objects that make Python look for cycles: half a millisecond each time."""

Children = dict[str, Callable[[], Awaitable[bool]]]
"""What a process has started or uses: its name → whether it runs."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class City:
    """A serving process: everything is up. settings have the real ports and URLs."""

    settings: Settings
    record: Record
    base_url: str
    mllp_port: int
    children: Children


@asynccontextmanager
async def database_of(settings: Settings, children: Children | None = None) -> AsyncIterator[str]:
    """The URL of a migrated database: the outside one, or the embedded one for as long as the block lasts."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        await migrate.upgrade(url)
        yield url
        return
    embedded = EmbeddedPostgres(settings.data_dir, settings.postgres_bin)
    try:
        url = await embedded.start()
        _watch(embedded, children)
        await migrate.upgrade(url)
        yield url
    finally:
        await embedded.stop()


@asynccontextmanager
async def broker_of(settings: Settings, children: Children | None = None) -> AsyncIterator[str]:
    """The URL of a broker: the outside one, or the embedded one for as long as the block lasts."""
    if settings.broker_url is not None:
        yield settings.broker_url.get_secret_value()
        return
    embedded = EmbeddedBroker(settings.data_dir)
    try:
        url = await embedded.start()
        _watch(embedded, children)
        yield url
    finally:
        await embedded.stop()


def _watch(server: OwnedServer, children: Children | None) -> None:
    if children is not None:
        children[server.name] = server.look_after


def _watch_worker(worker: Child, children: Children) -> None:
    async def runs() -> bool:
        return worker.running()

    children[WORKER] = runs


@asynccontextmanager
async def record_of(settings: Settings) -> AsyncIterator[Record]:
    """An open record, for commands that need no more."""
    async with database_of(settings) as url:
        record = await open_record(settings, url)
        try:
            yield record
        finally:
            await record.close()


@asynccontextmanager
async def city(settings: Settings) -> AsyncIterator[City]:
    """Everything `ehr serve` starts, ready to serve inside the block."""
    refuse_unsafe(settings)
    children: Children = {}
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(database_of(settings, children))
        broker_url = await stack.enter_async_context(broker_of(settings, children))
        brings_worker = settings.broker_url is None
        late = _Late()
        http = await run_http(late, settings.host, settings.port)
        stack.push_async_callback(http.stop)
        settings = settings.model_copy(
            update={
                "port": http.port,
                "base_url": settings.base_url or http.base_url,
                "database_url": SecretStr(database_url),
                "broker_url": SecretStr(broker_url),
            }
        )
        record = await open_record(settings, database_url)
        stack.push_async_callback(record.close)
        await publish(record)
        pipeline = Pipeline(Intake(record))
        app = create_app(
            record,
            settings,
            facility_bundle=pipeline.receive_bundle,
            mounts=[Route("/intake/claim-xml", _ClaimDoor(pipeline).post, methods=["POST"])],
            checks={"broker": _broker_check(broker_url)},
        )
        late.become(app)
        stack.push_async_callback(http.stop)  # again, because it must stop before the record is closed
        mllp = MllpServer(pipeline, settings.host, settings.mllp_port)
        await mllp.start()
        stack.push_async_callback(mllp.stop)
        settings = settings.model_copy(update={"mllp_port": mllp.port})
        if brings_worker:
            worker = await stack.enter_async_context(worker_of(settings, "--hands", str(WORKER_HANDS), "--beat"))
            _watch_worker(worker, children)
        await stack.enter_async_context(_announced(settings))
        yield City(settings, record, settings.base_url or http.base_url, mllp.port, children)


def refuse_unsafe(settings: Settings) -> None:
    if settings.access == "open" and not is_loopback(settings.host):
        raise Invalid("access open is for a loopback host only; bind 127.0.0.1 or use tokens", at="--access")
    if settings.access == "open" and "*" in settings.cors_origins:
        raise Invalid(
            "access open with any origin lets every page in a browser here read the record; name the origins",
            at="EHR_CORS_ORIGINS",
        )


@asynccontextmanager
async def worker_of(
    settings: Settings, *arguments: str, patience_s: float = WORKER_END_S, ending_s: int = WORKER_END_S
) -> AsyncIterator[Child]:
    """A worker process with these settings; it ends with the block, and with us even by kill -9.

    Warm first, then hard, with its whole session: every chunk and row it held is taken again.
    """
    worker = Child.start(
        [sys.executable, "-m", "ehr.worker", *arguments],
        ourselves(),
        log_file=None,
        ending=signal.SIGTERM,
        killing_after_s=ending_s,
        cwd=Path.cwd(),
        environment=environment_of(settings),
    )
    try:
        yield worker
    finally:
        await worker.stop(signal.SIGTERM, patience_s=patience_s)


async def work(settings: Settings, *arguments: str) -> None:
    """Be a worker, or its clock, until SIGTERM or SIGINT: what it has in hand is finished first."""
    stopping, children = _stopping(), Children()
    async with database_of(settings, children) as database_url, broker_of(settings, children) as broker_url:
        known = {"database_url": SecretStr(database_url), "broker_url": SecretStr(broker_url)}
        settings = settings.model_copy(update=known)
        async with worker_of(settings, *arguments, patience_s=limits.job_lease_s) as worker:
            _watch_worker(worker, children)
            await _asked_to_end(stopping, children)


def _stopping() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for asked in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(asked, stopping.set)
    return stopping


async def _asked_to_end(stopping: asyncio.Event, children: Children) -> None:
    """Wait until somebody asks; Unavailable when something that we started ends before."""
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOK_S)
        for name, runs in children.items():
            if not stopping.is_set() and not await runs() and not stopping.is_set():
                raise Unavailable(f"{name} ended by itself: see the log above")


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as a child process reads them."""
    made = {name: value for name, value in os.environ.items() if not name.startswith("EHR_")}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            listed = isinstance(plain, tuple)
            made[f"EHR_{name.upper()}"] = orjson.dumps(plain).decode() if listed else str(plain)
    return made


async def serve(settings: Settings, *, announce: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT. announce gets the one line that says we can serve."""
    stopping = _stopping()
    async with city(settings) as running:
        _set_interpreter()
        announce(f"ready {running.base_url}")
        log.info("serving", port=running.settings.port, pid=os.getpid())
        await _asked_to_end(stopping, running.children)
        log.info("stopping", pid=os.getpid())


def _set_interpreter() -> None:
    """What is there now stays; trees of requests end without a collection, and looking for cycles among them took a
    fifth of a transaction's time. The event loop gets its turn from ehr.aside's thread soon."""
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AT, 10, 10)


class _Late:
    """An application whose address must be known before it is made; until then requests wait."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._made = asyncio.Event()

    def become(self, app: ASGIApp) -> None:
        self._app = app
        self._made.set()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._waited(scope, receive, send) if self._app is None else self._app(scope, receive, send)

    async def _waited(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._made.wait()
        assert self._app is not None, "it is made"
        await self._app(scope, receive, send)


class _ClaimDoor:
    """POST /intake/claim-xml: a facility's national claim file."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def post(self, request: Request) -> Response:
        caller = request.app.state.authenticator.caller(
            request.headers, request.client.host if request.client else None
        )
        if not caller.facility_id:
            raise Forbidden("a claim file is sent by a facility's own client")
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > limits.claim_xml_bytes_max:
                raise TooMuch(f"the file has more than {limits.claim_xml_bytes_max} bytes")
        status, answer = await self._pipeline.receive_claim_xml(bytes(body), caller)
        return Response(answer, status, media_type="application/fhir+json")


def _broker_check(broker_url: str) -> Check:
    """Whether the broker takes connections."""
    parts = urlsplit(broker_url)

    async def check() -> bool:
        if parts.scheme.endswith("+socket"):
            _, writer = await asyncio.open_unix_connection(parts.path)
        else:
            port = parts.port or (5672 if parts.scheme.startswith("amqp") else 6379)
            _, writer = await asyncio.open_connection(parts.hostname, port)
        writer.close()
        return True

    return check


@asynccontextmanager
async def _announced(settings: Settings) -> AsyncIterator[None]:
    """Tell other commands on this data folder where we serve."""
    place = settings.data_dir / RUNNING
    content: Mapping[str, object] = {"base_url": settings.base_url, "mllp_port": settings.mllp_port, "pid": os.getpid()}
    await asyncio.to_thread(place.write_bytes, orjson.dumps(content))
    try:
        yield
    finally:
        if running(settings.data_dir).get("pid") == os.getpid():  # of two that serve it, the later one's stays
            place.unlink(missing_ok=True)


def running(data_dir: Path) -> Mapping[str, object]:
    """What the process that serves this data folder told, or nothing."""
    place = data_dir / RUNNING
    if not place.exists():
        return {}
    told: dict[str, object] = orjson.loads(place.read_bytes())
    return told
