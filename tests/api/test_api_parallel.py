"""Three clients that write, delete and read the same few resources at once, each in a random order of its own.

Whatever the order was: versions have no gap, each version is what one answered request made of the one before, a
guarded write follows the version it named, nobody reads what is older than what was answered before, or half a
transaction.
EHR_PARALLEL_SEEDS=50 asks for more than `make test` does.
"""

import asyncio
import os
import random
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest

from tests.api.conftest import City
from tests.api.mothers import MRN, bundle, entry, patient

SEEDS = int(os.environ.get("EHR_PARALLEL_SEEDS", "2"))
STEPS = 40
SHARED = ("a", "b")
JSON_PATCH = {"resourceType": "Binary", "contentType": "application/json-patch+json"}
PAIR = ("p", "q")
"""Only transactions write these two, both of them with one stamp."""
Made = tuple[str, int]


@dataclass
class Told:
    """What a request that made a version said of it. guard: the version that it insisted on, 0 for none at all."""

    method: str
    stamp: str | None
    guard: int | None = None


@dataclass
class Seen:
    """What was answered to anybody so far."""

    made: dict[Made, Told] = field(default_factory=dict)
    newest: Counter[str] = field(default_factory=Counter)
    twice: list[Made] = field(default_factory=list)

    def add(self, id: str, version: int, told: Told) -> None:
        if (id, version) in self.made:
            self.twice.append((id, version))
        self.made[id, version] = told
        self.newest[id] = max(self.newest[id], version)


def version_of(text: str) -> int:
    return int(text[3:-1])


class Worker:
    """One client; its stamps are its own, so that no two versions are alike."""

    def __init__(self, client: httpx.AsyncClient, seen: Seen, name: str, seed: int) -> None:
        self.client, self.seen, self.name = client, seen, name
        self.chance = random.Random(f"{seed}{name}")
        self.last: dict[str, int] = {}
        self.count = 0

    async def work(self) -> None:
        steps = [self.put, self.put, self.put_matching, self.patch, self.delete, self.pair, self.mixed, self.read]
        for self.count in range(STEPS):
            await self.chance.choice(steps)(self.chance.choice(SHARED))

    @property
    def stamp(self) -> str:
        return f"{self.name}{self.count}"

    def guard(self, id: str) -> tuple[int | None, dict[str, str]]:
        """Nothing, the version that was seen last, or that there is none."""
        match self.chance.choice(["", "seen", "none"]):
            case "seen" if id in self.last:
                return self.last[id], {"If-Match": f'W/"{self.last[id]}"'}
            case "none":
                return 0, {"If-None-Match": "*"}
        return None, {}

    async def put(self, id: str) -> None:
        guard, headers = self.guard(id)
        answer = await self.client.put(f"/Patient/{id}", json=self.body(id), headers=headers)
        self.note(id, answer, Told("PUT", self.stamp, guard))

    async def put_matching(self, id: str) -> None:
        """By its identifier, which it keeps: it never stands twice."""
        answer = await self.client.put(f"/Patient?identifier={MRN}|{id}", json=self.body(id))
        self.note(id, answer, Told("PUT", self.stamp))

    async def patch(self, id: str) -> None:
        guard, headers = self.guard(id)
        if guard == 0:
            guard, headers = None, {}
        change = orjson.dumps([{"op": "replace", "path": "/name/0/family", "value": self.stamp}])
        headers |= {"Content-Type": "application/json-patch+json"}
        answer = await self.client.patch(f"/Patient/{id}", content=change, headers=headers)
        self.note(id, answer, Told("PATCH", self.stamp, guard))

    async def delete(self, id: str) -> None:
        guard, headers = self.guard(id)
        if guard == 0:
            guard, headers = None, {}
        answer = await self.client.delete(f"/Patient/{id}", headers=headers)
        assert answer.status_code in (204, 412), answer.text
        version = version_of(answer.headers["etag"]) if "etag" in answer.headers else 0
        if version and (id, version) not in self.seen.made:  # a deletion of what is deleted tells of the first one
            self.seen.add(id, version, Told("DELETE", None, guard))

    async def pair(self, _: str) -> None:
        """Both, or both away."""
        if self.chance.random() < 0.25:
            asked = [entry("DELETE", f"Patient/{id}") for id in PAIR]
        else:
            asked = [entry("PUT", f"Patient/{id}", self.body(id)) for id in self.chance.sample(PAIR, 2)]
        answer = await self.client.post("/", json=bundle("transaction", *asked))
        assert answer.status_code == 200, answer.text

    async def mixed(self, id: str) -> None:
        """One by its identifier, the other by its id, in either order: clients do not wait for each other in a ring."""
        other = SHARED[1 - SHARED.index(id)]
        change = b64encode(orjson.dumps([{"op": "replace", "path": "/name/0/family", "value": self.stamp}])).decode()
        asked = [
            entry("PUT", f"Patient?identifier={MRN}|{id}", self.body(id)),
            entry("PATCH", f"Patient/{other}", {**JSON_PATCH, "data": change}),
        ]
        self.chance.shuffle(asked)
        answer = await self.client.post("/", json=bundle("transaction", *asked))
        assert answer.status_code in (200, 404, 409, 410), answer.text
        if answer.status_code == 200:
            for one, response in zip(asked, [done["response"] for done in answer.json()["entry"]], strict=True):
                made = response["location"].split("/")[1]
                self.seen.add(made, version_of(response["etag"]), Told(one["request"]["method"], self.stamp))

    async def read(self, id: str) -> None:
        newest = self.seen.newest[id]
        answer = await self.client.get(f"/Patient/{id}")
        assert answer.status_code in (200, 404, 410)
        if answer.status_code == 200:
            self.last[id] = version_of(answer.headers["etag"])
            assert self.last[id] >= newest, "older than what was answered before it was asked"
        found = (await self.client.get("/Patient", params={"_id": ",".join(PAIR)})).json().get("entry", [])
        stamps = [one["resource"]["name"][0]["family"] for one in found]
        assert stamps == [] or (len(stamps) == 2 and len(set(stamps)) == 1), "half a transaction"

    def body(self, id: str) -> dict[str, Any]:
        return patient((MRN, id), family=self.stamp, id=id)

    def note(self, id: str, answer: httpx.Response, told: Told) -> None:
        assert answer.status_code in (200, 201, 404, 409, 410, 412), answer.text
        if answer.status_code < 300:
            assert answer.json()["name"][0]["family"] == told.stamp
            assert (answer.status_code == 201) <= (told.method == "PUT")
            self.last[id] = version_of(answer.headers["etag"])
            self.seen.add(id, self.last[id], told)


async def versions(client: httpx.AsyncClient, id: str) -> list[dict[str, Any]]:
    """The history, the first version first."""
    answer = await client.get(f"/Patient/{id}/_history", params={"_count": "1000"})
    return list(reversed(answer.json().get("entry", []))) if answer.status_code == 200 else []


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_history_is_what_was_answered(city: City, seed: int) -> None:
    seen = Seen()
    workers = [Worker(city.system(), seen, name, seed) for name in ("X", "Y", "Z")]
    await asyncio.gather(*(worker.work() for worker in workers))
    assert seen.twice == [], "two requests were told the same version"
    reader = city.system()
    for id in SHARED:
        held = await versions(reader, id)
        assert [version_of(one["response"]["etag"]) for one in held] == list(range(1, len(held) + 1))
        assert {version for one, version in seen.made if one == id} == set(range(1, len(held) + 1))
        for place, one in enumerate(held):
            told, before = seen.made[id, place + 1], held[place - 1] if place else None
            stamp = one["resource"]["name"][0]["family"] if "resource" in one else None
            assert (stamp is None, stamp) == (told.method == "DELETE", told.stamp)
            was_there = before is not None and "resource" in before
            if told.guard is not None:
                assert told.guard == (place if told.guard else 0), "a guarded write follows the version it named"
                assert was_there is (told.guard != 0)
            if told.method == "PATCH":
                assert was_there, "a patch changes what is there"
        found = (await reader.get("/Patient", params={"identifier": f"{MRN}|{id}"})).json().get("entry", [])
        assert [one["resource"]["id"] for one in found] == ([id] if "resource" in held[-1] else [])
    halves = [await versions(reader, id) for id in PAIR]
    shown = [[one.get("resource", {}).get("name") for one in half] for half in halves]
    assert shown[0] == shown[1], "a transaction writes both or none"
