"""Promise C02: kill -9 at any moment of HTTP writes loses nothing, doubles nothing and leaves no half.

A real `ehr serve` with its own PostgreSQL is killed while clients write; those whose connection broke send the same
request again. Two of the kills take the database with it, which then recovers from its log.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.facilities.register import register_facilities
from adapters.facilities.registry import FACILITIES
from ehr.access.authenticate import issue_token
from ehr.access.keys import load_keys
from ehr.access.token import Tokens
from ehr.clock import SystemClock
from ehr.database.embedded import EmbeddedPostgres
from ehr.fhir.r4 import TYPE_IDS
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.faults import retrying
from tests.faults.retrying import Ask, Sender
from tests.faults.serving import Serving

KILLS = (False, True, True)
"""Whether the database is killed too."""
SEED = 20261124
CLIENTS = 5
FACILITY_CLIENTS = 2
RESENT_MAX = 150
NUMBERS = [f"0011900000{n:02}" for n in range(5)]

GAPS = """
SELECT count(*) FROM (SELECT count(*) AS n, min(version) AS low, max(version) AS high, count(DISTINCT version) AS seen
                      FROM change GROUP BY type_id, rid) v WHERE low <> 1 OR n <> high OR seen <> n
"""
"""Resources whose versions are not 1, 2, 3 … in the feed."""
UNLOGGED = """
SELECT count(*) FROM change c WHERE NOT EXISTS (
    SELECT 1 FROM audit a WHERE a.type_id = c.type_id AND a.resource_id = c.id AND a.action = replace(c.op, 'P', 'C'))
"""
UNINDEXED = """
SELECT count(*) FROM resource r WHERE type_id = $1
AND (cardinality(tokens) = 0 OR NOT EXISTS (SELECT 1 FROM string_index s WHERE s.rid = r.rid))
"""
OWNERLESS = """
SELECT count(*) FROM claim c WHERE NOT EXISTS (
    SELECT 1 FROM resource r WHERE r.type_id = c.type_id AND r.id = c.id)
"""
UNFINISHED = "SELECT count(*) FROM intake_message WHERE state <> 'applied' OR answer IS NULL"


class City:
    """The serving process, its clients, and every request they ever made."""

    def __init__(self, serving: Serving, facility_id: int, seed: int) -> None:
        self.serving = serving
        self.asks: list[Ask] = []
        self.up = asyncio.Event()
        self.over = False
        self.chance = random.Random(seed)
        self._facility_id = facility_id
        self._tokens: dict[str, str] = {}
        self.senders: list[Sender] = []

    def where(self) -> str:
        return self.serving.base

    def facility_headers(self) -> dict[str, str]:
        """A token names the address it is good for, which is new after every start."""
        base = self.where()
        if base not in self._tokens:
            tokens = Tokens(load_keys(self.serving.data_dir), issuer=base, clock=SystemClock())
            self._tokens[base] = issue_token(tokens, "feed", "system/*.cruds", facility_id=self._facility_id)
        return {"Authorization": f"Bearer {self._tokens[base]}"}

    async def client(self, http: httpx.AsyncClient, name: str) -> None:
        """Write without a pause, one request after another; each fourth is a version of the client's own counter."""
        chance = random.Random(self.chance.random())
        sender = Sender(http, self.up, chance, self.where)
        self.senders.append(sender)
        number = count = 0
        kinds = (
            retrying.keyed_create,
            retrying.conditional_create,
            retrying.keyed_transaction,
            retrying.conditional_transaction,
        )
        while not self.over:
            number += 1
            if chance.random() < 0.25:
                count += 1
                await self.ask(sender, retrying.counting_update(f"counter-{name}", count))
            else:
                await self.ask(sender, chance.choice(kinds)(f"{name}-{number}"))

    async def facility_client(self, http: httpx.AsyncClient, name: str) -> None:
        """Push Bundles as a facility does."""
        chance = random.Random(self.chance.random())
        sender = Sender(http, self.up, chance, self.where, self.facility_headers)
        self.senders.append(sender)
        number = 0
        while not self.over:
            number += 1
            await self.ask(sender, retrying.facility_transaction(f"{name}-{number}", chance.choice(NUMBERS)))

    async def ask(self, sender: Sender, ask: Ask) -> None:
        self.asks.append(ask)
        ask.answer = await sender.until_answered(ask)


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[Record]:
    """The record of the installation, beside the process that serves it."""
    beside = EmbeddedPostgres(data_dir)
    url = await beside.start()
    assert not beside.owned, "the serving process runs the database"
    record = await open_record(Settings(data_dir=data_dir, pool_connections_max=2), url)
    try:
        yield record
    finally:
        await record.close()
        await beside.stop()


async def everything(http: httpx.AsyncClient, base: str, type_name: str) -> list[dict[str, Any]]:
    """Every resource of a type, page by page."""
    found: list[dict[str, Any]] = []
    url: str | None = f"{base}/{type_name}?_count=1000"
    while url:
        page = (await http.get(url)).raise_for_status().json()
        found += [entry["resource"] for entry in page.get("entry", ())]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found


def version_of(tree: dict[str, Any]) -> str:
    return f"{tree['resourceType']}/{tree['id']}/_history/{tree['meta']['versionId']}"


def tagged(trees: list[dict[str, Any]], system: str = retrying.TAG) -> dict[str, dict[str, Any]]:
    """Resources by the tag of their request; each tag once."""
    tags = [(one["value"], tree) for tree in trees for one in tree["identifier"] if one["system"] == system]
    twice = [tag for tag, times in Counter(tag for tag, _ in tags).items() if times > 1]
    assert not twice, f"made twice: {twice}"
    return dict(tags)


async def check(http: httpx.AsyncClient, city: City) -> None:
    """What is in the record now, whatever was under way: acknowledged is there, once, and nothing is half there."""
    acknowledged = [(ask, ask.answer) for ask in city.asks if ask.answer is not None]
    patients = tagged(await everything(http, city.where(), "Patient"))
    observations = tagged(await everything(http, city.where(), "Observation"))
    wholes = [ask for ask in city.asks if ask.kind != "update"]
    assert set(patients) <= {ask.tag for ask in wholes}
    made = 0
    for ask in wholes:
        parts = [observations.get(f"{ask.tag}.{n}") for n in range(ask.parts)]
        assert all(parts) or not any(parts), f"half of {ask.kind} {ask.tag} is there"
        assert bool(patients.get(ask.tag)) == (all(parts) if ask.parts else ask.tag in patients), ask.tag
        for part in parts:
            if part is not None:
                made += 1
                assert part["subject"]["reference"] == f"Patient/{patients[ask.tag]['id']}"
    assert made == len(observations)
    for ask, answer in acknowledged:
        if ask.kind != "update":
            stands = [patients[ask.tag], *(observations[f"{ask.tag}.{n}"] for n in range(ask.parts))]
            assert answer.places == tuple(version_of(one) for one in stands), ask.kind
    await check_counters(http, city, acknowledged)


async def check_counters(http: httpx.AsyncClient, city: City, acknowledged: list[tuple[Ask, Any]]) -> None:
    """Versions 1, 2, 3 … of every counter, each with its own number, as acknowledged."""
    ids = {ask.tag for ask in city.asks if ask.kind == "update"}
    for id in ids:
        answer = await http.get(f"{city.where()}/Basic/{id}/_history?_count=1000")
        told = [a for ask, a in acknowledged if ask.tag == id]
        if answer.status_code == 404:
            assert not told
            continue
        versions = [entry["resource"] for entry in answer.json()["entry"]][::-1]
        numbers = [str(n) for n in range(1, len(versions) + 1)]
        assert [one["meta"]["versionId"] for one in versions] == numbers
        assert [one["identifier"][0]["value"] for one in versions] == numbers
        assert [one.places for one in told] == [(f"Basic/{id}/_history/{n}",) for n in numbers[: len(told)]]
        assert len(versions) - len(told) in (0, 1), "one request of a client is under way at most"


async def check_tables(data_dir: Path) -> None:
    """Version, feed, index, claims and audit of every write are there together."""
    async with opened(data_dir) as record, record.database.acquire() as connection:
        for sql in (GAPS, UNLOGGED, OWNERLESS):
            assert await connection.fetchval(sql) == 0, sql
        assert await connection.fetchval(UNINDEXED, TYPE_IDS["Patient"]) == 0


async def check_ledger(http: httpx.AsyncClient, city: City) -> None:
    """Each pushed Bundle is one message, applied once, with one Provenance; each person's number is one Person."""
    pushed = [ask for ask in city.asks if ask.kind == "facility transaction"]
    async with opened(city.serving.data_dir) as record, record.database.acquire() as connection:
        assert await connection.fetchval(UNFINISHED) == 0
        rows = await connection.fetch("SELECT control_id FROM intake_message")
    assert sorted(row["control_id"] for row in rows) == sorted(ask.tag for ask in pushed)
    provenances = await everything(http, city.where(), "Provenance")
    named = [one["entity"][0]["what"]["identifier"]["value"] for one in provenances]
    assert sorted(named) == sorted(ask.tag for ask in pushed)
    persons = await everything(http, city.where(), "Person")
    used = {one["value"] for ask in pushed for one in ask.tree["entry"][0]["resource"]["identifier"]} & set(NUMBERS)
    assert len(persons) == len(used)
    linked = [link["target"]["reference"] for person in persons for link in person["link"]]
    assert len(linked) == len(set(linked)) == len(pushed)


async def ask_again(http: httpx.AsyncClient, city: City) -> None:
    """The same request once more gets the same id and version; of the ledger even the same bytes."""
    system = Sender(http, city.up, random.Random(0), city.where)
    facility = Sender(http, city.up, random.Random(0), city.where, city.facility_headers)
    for ask in city.chance.sample(city.asks, min(RESENT_MAX, len(city.asks))):
        pushed = ask.kind == "facility transaction"
        again = await (facility if pushed else system).until_answered(ask)
        assert ask.answer is not None, "the clients have ended"
        assert again.places == ask.answer.places, ask.kind
        if pushed:
            assert again.body == ask.answer.body


async def facility_of(data_dir: Path) -> int:
    async with opened(data_dir) as record:
        facility = next(one for one in FACILITIES if one.feed == "fhir")
        return (await register_facilities(record, [facility])).ids[facility.code]


@pytest.mark.timeout(240)
async def test_acknowledged_writes_are_kept_once_and_whole(data_dir: Path) -> None:
    limits = httpx.Limits(max_connections=20)
    async with Serving(data_dir) as serving, httpx.AsyncClient(trust_env=False, timeout=30, limits=limits) as http:
        city = City(serving, await facility_of(data_dir), SEED)
        async with asyncio.TaskGroup() as clients:
            for n in range(CLIENTS):
                clients.create_task(city.client(http, f"c{n}"))
            for n in range(FACILITY_CLIENTS):
                clients.create_task(city.facility_client(http, f"f{n}"))
            for database in KILLS:
                city.up.set()
                await asyncio.sleep(city.chance.uniform(0.3, 1.5))
                await serving.kill(database=database)
                city.up.clear()
                await serving.start()
                await check(http, city)
                await check_tables(data_dir)
            city.up.set()
            await asyncio.sleep(0.3)
            city.over = True
        kinds = {ask.kind for ask in city.asks}
        assert len(kinds) == 6
        assert sum(sender.cut for sender in city.senders) >= len(KILLS), "the kills met requests under way"
        assert sum(sender.hung_up for sender in city.senders) > 0
        await ask_again(http, city)
        await check(http, city)
        await check_tables(data_dir)
        await check_ledger(http, city)
