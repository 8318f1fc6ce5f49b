"""The city's traffic through real sockets into a real record."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from adapters.facilities.doors import ClientCredentials
from adapters.facilities.faults import Faults
from adapters.facilities.population import Population
from adapters.facilities.register import register, register_facilities
from adapters.facilities.registry import FACILITIES, FEEDS
from adapters.facilities.tally import Event
from adapters.facilities.traffic import Addresses, Pace, run
from ehr.clock import ICT, SystemClock
from ehr.serve import City, city
from ehr.settings import Settings

MORNING = datetime(2026, 11, 24, 8, 0, tzinfo=ICT)


@pytest.fixture
async def serving(database_url: str, data_dir: Path) -> AsyncIterator[City]:
    """A serving process without a worker: the broker is said to be elsewhere."""
    settings = Settings(
        data_dir=data_dir,
        database_url=SecretStr(database_url),
        broker_url=SecretStr("redis://127.0.0.1:1/0"),
        port=0,
        mllp_port=0,
        pool_connections_max=8,
    )
    async with city(settings) as running:
        yield running


async def test_every_message_is_answered_and_lands_in_the_record(serving: City) -> None:
    clinics = [facility for facility in FACILITIES if facility.kind == "other"]
    few = {"hl7v2": 1, "fhir": 1, "claim_xml": 3}
    mixed = [facility for feed in FEEDS for facility in [f for f in clinics if f.feed == feed][: few[feed]]]
    registered = await register_facilities(serving.record, mixed)
    assert {facility.feed for facility in registered.facilities} == {"hl7v2", "fhir", "claim_xml"}
    population = Population(7, 5_000)
    root = serving.base_url.removesuffix("/fhir")
    events: list[Event] = []
    clock = SystemClock()
    async with httpx.AsyncClient(trust_env=False) as http:
        report = await run(
            registered.facilities,
            population,
            Addresses(("127.0.0.1", serving.mllp_port), serving.base_url, f"{root}/intake/claim-xml"),
            pace=Pace(speed=3_600, messages_max=160, start=MORNING, duration_s=40, in_flight_max=6, drain_s=60),
            tokens=ClientCredentials(http, f"{root}/oauth/token", registered.secrets, clock),
            clock=clock,
            on_event=events.append,
        )
    assert report.lost == 0
    assert report.sent == len(events) == 160
    refused = [(event.kind, event.said) for event in events if event.outcome == "refused"]
    assert refused == []
    assert {event.facility.feed for event in events} == {"hl7v2", "fhir", "claim_xml"}
    async with serving.record.database.acquire() as connection:
        ledger = await connection.fetch("select state, count(*) as n from intake_message group by state")
        persons = await connection.fetchval("select count(*) from person_link")
        orphans = await connection.fetchval(
            "select count(*) from resource where source <> 0 and source not in (select id from facility)"
        )
    assert {row["state"]: row["n"] for row in ledger} == {"applied": 160}
    assert persons > 0
    assert orphans == 0


async def test_a_faulty_city_is_refused_where_it_must_be_and_never_hangs(serving: City) -> None:
    registered = await register(serving.record, count=9)
    population = Population(11, 5_000)
    root = serving.base_url.removesuffix("/fhir")
    events: list[Event] = []
    clock = SystemClock()
    async with httpx.AsyncClient(trust_env=False) as http:
        report = await run(
            registered.facilities,
            population,
            Addresses(("127.0.0.1", serving.mllp_port), serving.base_url, f"{root}/intake/claim-xml"),
            pace=Pace(speed=1_200, messages_max=120, start=MORNING, duration_s=40, in_flight_max=6, drain_s=60),
            tokens=ClientCredentials(http, f"{root}/oauth/token", registered.secrets, clock),
            faults=Faults(11, rate=0.5),
            clock=clock,
            on_event=events.append,
        )
    assert report.lost == 0
    assert report.sent == 120
    assert sum(tally.different for tally in report.facilities.values()) == 0
    assert sum(tally.repeated for tally in report.facilities.values()) == report.faults["duplicate"] > 0
    for event in events:
        if event.fault is None or event.fault in ("duplicate", "late", "cut", "nfd", "lf", "bom"):
            assert event.outcome == "accepted", (event.kind, event.said, event.fault)
        if event.fault == "malformed":
            assert event.outcome == "refused", (event.kind, event.said)


async def test_a_stopped_city_stops(serving: City) -> None:
    registered = await register(serving.record, count=5)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, stop.set)
    report = await asyncio.wait_for(
        run(
            registered.facilities,
            Population(3, 2_000),
            Addresses(mllp=("127.0.0.1", serving.mllp_port)),
            pace=Pace(speed=600, start=MORNING, drain_s=10),
            stop=stop,
        ),
        timeout=30,
    )
    assert report.seconds < 15
    assert report.lost == 0
