"""Compose the simulated city's traffic: settings, a pace → real messages through the sockets of a serving process.

In:      a running `ehr serve` (its addresses from running.json or the settings), and its database to register in
Out:     Standing, about once a second and at the end
Why:     a process of its own, so that making messages does not take the server's processor time
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from adapters.facilities.doors import ClientCredentials
from adapters.facilities.faults import Faults
from adapters.facilities.population import Population
from adapters.facilities.register import Registration, register
from adapters.facilities.registry import DEFAULT_SPLIT
from adapters.facilities.tally import Event, Report, Tally
from adapters.facilities.traffic import MORNING, Addresses, Pace, run
from ehr.clock import ICT, Clock, SystemClock, day_of, moment_of
from ehr.errors import Unavailable
from ehr.fhir.r4 import TYPE_IDS
from ehr.serve import record_of, running
from ehr.settings import Settings
from ehr.store.record import Record

TOLD_EVERY_S: Final = 1.0
FIRST_DAY_AGO: Final = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate.

    facilities  how many take part            speed   simulated seconds in one second
    citizens    who live in the city          faults  share of messages that are spoilt on purpose
    visits      visits a day of one facility at most: real hospitals would fill a small machine; None: as they are
    """

    facilities: int = 661
    speed: float = 60.0
    duration_s: float | None = None
    messages_max: int | None = None
    seed: int = 2026
    citizens: int = 4_000
    faults: float = 0.01
    visits: int | None = 40


@dataclass(frozen=True, slots=True)
class Standing:
    """How the traffic stands. latency of answered messages in milliseconds; simulated: ISO moment of the city."""

    phase: str
    facilities: int
    episodes: int = 0
    sent: int = 0
    accepted: int = 0
    refused: int = 0
    lost: int = 0
    seconds: float = 0.0
    simulated: str = ""
    p50_ms: float | None = None
    p95_ms: float | None = None
    answers: dict[str, int] | None = None
    faults: dict[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def simulate(
    settings: Settings,
    plan: Plan,
    *,
    told: Callable[[Standing], None],
    stop: asyncio.Event,
) -> Report:
    """Register the facilities, then send until the plan ends or stop is set."""
    clock = SystemClock()
    told(Standing("registering", plan.facilities))
    async with record_of(settings) as record:
        registered = await register(record, DEFAULT_SPLIT, plan.facilities)
        start = await _start(record, clock)
    told(Standing("starting", plan.facilities))
    watched = _Watched(plan, clock, told)
    pace = Pace(
        speed=plan.speed,
        duration_s=plan.duration_s,
        messages_max=plan.messages_max,
        start=start,
        visits_a_day_max=plan.visits,
    )
    async with _feeds(settings, registered, clock) as (addresses, tokens):
        report = await run(
            registered.facilities,
            Population(plan.seed, plan.citizens),
            addresses,
            pace=pace,
            tokens=tokens,
            faults=Faults(plan.seed, plan.faults),
            clock=clock,
            on_event=watched.note,
            stop=stop,
        )
    told(standing("done", plan, report))
    return report


@asynccontextmanager
async def _feeds(
    settings: Settings, registered: Registration, clock: Clock
) -> AsyncIterator[tuple[Addresses, ClientCredentials]]:
    """The addresses of the serving process, and each HTTP feed's own tokens."""
    known = running(settings.data_dir)
    base_url = settings.base_url or known.get("base_url")
    if not isinstance(base_url, str):
        raise Unavailable("no city is serving from this data folder: start `ehr serve` first, or set EHR_BASE_URL")
    root = base_url.removesuffix("/fhir")
    mllp_port = known.get("mllp_port", settings.mllp_port)
    assert isinstance(mllp_port, int), "running.json holds a number"
    host = urlsplit(base_url).hostname or settings.host
    addresses = Addresses((host, mllp_port), base_url, f"{root}/intake/claim-xml")
    async with httpx.AsyncClient(trust_env=False) as http:
        yield addresses, ClientCredentials(http, f"{root}/oauth/token", registered.secrets, clock)


async def _start(record: Record, clock: Clock) -> datetime:
    """The morning after the newest visit of the record, so that a second run goes on; at first, a month ago."""
    async with record.database.acquire() as connection:
        newest_us = await connection.fetchval(_NEWEST, TYPE_IDS["Encounter"])
    if newest_us is None:
        day = day_of(clock.now()) - timedelta(days=FIRST_DAY_AGO)
    else:
        day = day_of(moment_of(newest_us)) + timedelta(days=1)
    return datetime.combine(day, MORNING, ICT)


_NEWEST: Final = "SELECT max(date_lo_us) FROM resource WHERE type_id = $1"


class _Watched:
    """Keeps a report of its own while the traffic runs and tells it about once a second."""

    def __init__(self, plan: Plan, clock: Clock, told: Callable[[Standing], None]) -> None:
        self._plan = plan
        self._clock = clock
        self._told = told
        self._began_s = self._last_s = clock.monotonic_s()
        self._report = Report({})

    def note(self, event: Event) -> None:
        self._report.facilities.setdefault(event.facility.code, Tally())
        self._report.note(event)
        # Messages come late; the city's day does not go back.
        self._report.simulated = max(self._report.simulated or event.simulated, event.simulated)
        now_s = self._clock.monotonic_s()
        if now_s - self._last_s >= TOLD_EVERY_S:
            self._last_s = now_s
            self._report.seconds = now_s - self._began_s
            self._told(standing("running", self._plan, self._report))


def standing(phase: str, plan: Plan, report: Report) -> Standing:
    """A report as the demo and --json show it."""

    def milliseconds(part: float) -> float | None:
        found = report.latency_s(part)
        return None if found is None else round(found * 1_000, 1)

    return Standing(
        phase,
        plan.facilities,
        report.episodes,
        report.sent,
        report.accepted,
        report.refused,
        report.lost,
        round(report.seconds, 1),
        report.simulated.isoformat() if report.simulated else "",
        milliseconds(0.5),
        milliseconds(0.95),
        dict(report.answers),
        dict(report.faults),
    )
