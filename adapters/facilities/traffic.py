"""Run the city: arrivals by the hour, episodes, messages when they are due, through real sockets.

In:      facilities, population, addresses, speed (simulated seconds in one second)
Out:     Report; every message's fate to on_event while it runs
Order:   one lane a facility; messages leave in the order their facility wrote them, save for faults
Limits:  duration_s of time, messages_max of messages, in_flight_max under way, backlog_max waiting: when more wait, the
         city's clock stands still until the record has caught up, so memory is bounded whatever the speed
Why:     the clock stands still rather than messages being dropped: a facility never drops a message
"""

import asyncio
import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

import httpx

from adapters.facilities.arrivals import Arrival, Care, Referred, arrivals
from adapters.facilities.dice import dice
from adapters.facilities.doors import ANSWER_S, Door, HttpDoor, MllpDoor, NoTokens, Tokens
from adapters.facilities.episode import Episode
from adapters.facilities.episodes import episode
from adapters.facilities.faults import Fault, Faults, spoil_table
from adapters.facilities.lanes import Lane, Road
from adapters.facilities.languages import Spoil, claim_number, messages
from adapters.facilities.outgoing import Outgoing
from adapters.facilities.population import Population
from adapters.facilities.registry import Facility
from adapters.facilities.tally import Event, Report
from ehr.clock import ICT, Clock, SystemClock

TICK_S: Final = 0.05
BURST_MAX: Final = 40
"""Episodes made in one go before the sockets get their turn again; about 40 ms of work."""

MORNING: Final = time(7, 30)
"""The doors are open and the first patients are there."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the facilities send. Feeds whose address is None stay silent."""

    mllp: tuple[str, int] | None = None
    fhir_base: str | None = None
    claim_xml_url: str | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how long. start: the simulated moment the run begins at; None is the last morning at 07:30.

    visits_a_day_max thins large facilities to that many visits a day, so that a small machine sees the whole city
    """

    speed: float = 60.0
    duration_s: float | None = None
    messages_max: int | None = None
    start: datetime | None = None
    visits_a_day_max: float | None = None
    in_flight_max: int = 48
    backlog_max: int = 300
    messages_per_s_max: float | None = None
    drain_s: float = 15.0


async def run(
    facilities: Sequence[Facility],
    population: Population,
    addresses: Addresses,
    *,
    pace: Pace = Pace(),
    tokens: Tokens | None = None,
    faults: Faults | None = None,
    clock: Clock | None = None,
    on_event: Callable[[Event], None] | None = None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Run until duration_s, messages_max or stop; then wait for the answers under way, at most drain_s more.

    A run that ends by messages_max delivers them all; one that ends by time leaves what has not begun in its facility.
    """
    clock = clock or SystemClock()
    report = Report.of(facilities)

    def tell(event: Event) -> None:
        report.note(event)
        if on_event is not None:
            on_event(event)

    road = Road(clock, tell, in_flight_max=pace.in_flight_max, messages_per_s_max=pace.messages_per_s_max)
    faults = faults or Faults(population.seed, rate=0.0)
    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=pace.in_flight_max, max_keepalive_connections=pace.in_flight_max)
        http = await stack.enter_async_context(httpx.AsyncClient(limits=limits, timeout=ANSWER_S, trust_env=False))
        lanes: dict[str, Lane] = {}
        for facility in facilities:
            door = _door(facility, addresses, http, tokens or NoTokens())
            if door is not None:
                lanes[facility.code] = Lane(facility, door, road, faults)
        day = _City(population, [lane.facility for lane in lanes.values()], pace, clock, faults)
        try:
            road.closing = not await _play(day, lanes, road, pace, report=report, stop=stop or asyncio.Event())
        finally:
            deadline_s = clock.monotonic_s() + pace.drain_s
            await asyncio.gather(*(lane.finish(deadline_s) for lane in lanes.values()))
            report.seconds = clock.monotonic_s() - road.began_s
            report.simulated = day.now
            report.episodes = day.episodes
    return report


def _door(facility: Facility, addresses: Addresses, http: httpx.AsyncClient, tokens: Tokens) -> Door | None:
    if facility.feed == "hl7v2":
        return MllpDoor(*addresses.mllp) if addresses.mllp is not None else None
    if facility.feed == "fhir":
        url, media_type = addresses.fhir_base, "application/fhir+json"
    else:
        url, media_type = addresses.claim_xml_url, "application/xml"
    return HttpDoor(http, url.rstrip("/"), media_type, facility, tokens) if url is not None else None


def _last_morning(clock: Clock) -> datetime:
    """07:30 today, or of yesterday before that: a run never begins in the future."""
    now = clock.now().astimezone(ICT)
    today = datetime.combine(now.date(), MORNING, ICT)
    return today if today <= now else today - timedelta(days=1)


async def _play(
    day: "_City", lanes: dict[str, Lane], road: Road, pace: Pace, *, report: Report, stop: asyncio.Event
) -> bool:
    """Advance the city's clock and hand out what is due; True when every message asked for was handed out."""
    last_s = road.clock.monotonic_s()
    handed = 0
    while not stop.is_set():
        await asyncio.sleep(TICK_S)
        now_s = road.clock.monotonic_s()
        if pace.duration_s is not None and now_s - road.began_s >= pace.duration_s:
            return False
        passed_s, last_s = now_s - last_s, now_s
        if road.waiting >= pace.backlog_max:
            continue
        day.advance(timedelta(seconds=passed_s * pace.speed))
        for facility, message, fault in day.due():
            lanes[facility.code].put(message, fault)
            handed += 1
            if handed == pace.messages_max:
                return True
        report.episodes = day.episodes
    return False


class _City:
    """The simulated clock, and everything that will happen, in order of time."""

    def __init__(
        self, population: Population, facilities: Sequence[Facility], pace: Pace, clock: Clock, faults: Faults
    ) -> None:
        start = pace.start or _last_morning(clock)
        assert start.tzinfo is not None, "the simulated clock has a zone"
        self.now = start
        self.episodes = 0
        self._population = population
        self._facilities = facilities
        self._by_code = {facility.code: facility for facility in facilities}
        self._faults = faults
        self._visits_a_day_max = pace.visits_a_day_max
        self._start = start
        self._hour = start.replace(minute=0, second=0, microsecond=0)
        self._coming: list[tuple[datetime, int, Arrival]] = []
        self._written: list[tuple[datetime, int, Facility, Outgoing, Fault | None]] = []
        self._count = 0

    def advance(self, by: timedelta) -> None:
        self.now += by

    def due(self) -> Iterator[tuple[Facility, Outgoing, Fault | None]]:
        """Everything up to now, a burst at most."""
        while self._hour <= self.now:
            self._plan_hour()
        for _ in range(BURST_MAX):
            if not self._coming or self._coming[0][0] > self.now:
                break
            self._live(heapq.heappop(self._coming)[2])
        while self._written and self._written[0][0] <= self.now:
            _, _, facility, message, fault = heapq.heappop(self._written)
            yield facility, message, fault

    def _plan_hour(self) -> None:
        local = self._hour.astimezone(ICT)
        for facility in self._facilities:
            for arrival in self._arrivals(facility, local):
                if arrival.at >= self._start:
                    self._count += 1
                    heapq.heappush(self._coming, (arrival.at, self._count, arrival))
        self._hour += timedelta(hours=1)

    def _arrivals(self, facility: Facility, hour: datetime) -> list[Arrival]:
        seed, most = self._population.seed, self._visits_a_day_max
        return arrivals(seed, facility, hour.date(), hour.hour, visits_a_day_max=most)

    def _live(self, arrival: Arrival) -> None:
        """Write an episode's messages. What lies before the arrival (a stay that ends today) is due at once."""
        self.episodes += 1
        story = episode(self._population.seed, self._population, arrival)
        feed = arrival.facility.feed
        for message in messages(story, spoil=self._spoil_of(story) if feed == "claim_xml" else None):
            fault = self._faults.of(feed, message.control_id)
            due = max(message.at, arrival.at)
            if fault is Fault.LATE:
                due += timedelta(seconds=self._faults.random(message.control_id).uniform(120, 5_400))
            self._count += 1
            heapq.heappush(self._written, (due, self._count, arrival.facility, message, fault))
        self._refer(story)

    def _refer(self, story: Episode) -> None:
        """A referred patient comes to the other facility, where that is part of this city, some hours later."""
        target = self._by_code.get(story.outcome.referred_to)
        if target is None:
            return
        random = dice(self._population.seed, "referral", story.link)
        at = story.end + timedelta(minutes=random.randrange(60, 300))
        sent = Referred(story.citizen.number, story.main.code, story.facility.code, f"{story.chart_number}/GCT")
        care: Care = "stay" if story.main.code[0] in "IJKS" and random.random() < 0.4 else "visit"
        # Numbers from 5,000 on are those of referred patients: arrivals of an hour never come that far.
        arrival = Arrival(target, care, at, 5_000 + story.citizen.number % 5_000, sent)
        self._count += 1
        heapq.heappush(self._coming, (at, self._count, arrival))

    def _spoil_of(self, story: Episode) -> Spoil | None:
        """A claim file hides its tables in base64, so what changes their text is done before."""
        fault = self._faults.of("claim_xml", claim_number(story))
        return None if fault is None else lambda text: spoil_table(text, fault)
