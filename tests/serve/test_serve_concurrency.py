"""What holds while many clients write at once, against a real `ehr serve` process and by connections of their own.

Promises P2 (once), P3 (whole), P4 (versions), P6 (one owner), and pages that miss and repeat nothing.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import orjson
import pytest
import pytest_asyncio

from tests.faults.serving import Serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/fhir+json"
SYSTEM = "urn:test:number"
Clients = Callable[[int], Awaitable[list[httpx.AsyncClient]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    folder = tmp_path_factory.mktemp("serve")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)
    async with Serving(folder) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def clients(serving: Serving) -> AsyncIterator[Clients]:
    """Clients with a connection each."""
    async with AsyncExitStack() as stack:

        async def made(count: int) -> list[httpx.AsyncClient]:
            one = {"base_url": serving.base, "headers": {"Content-Type": JSON}, "timeout": 60, "trust_env": False}
            return [await stack.enter_async_context(httpx.AsyncClient(**one)) for _ in range(count)]  # type: ignore[arg-type]

        yield made


def patient(number: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": number}], **more}


async def versions(client: httpx.AsyncClient, address: str) -> list[dict[str, Any]]:
    """Every version of a resource, the first one first."""
    history = (await client.get(f"{address}/_history", params={"_count": "1000"})).json()
    found = [one["resource"] for one in reversed(history["entry"])]
    assert [one["meta"]["versionId"] for one in found] == [str(n + 1) for n in range(len(found))]
    return found


NAMED = {"name": [{"family": "Trạnh"}], "birthDate": "1990-02-03"}


@pytest.mark.parametrize("criteria", [f"identifier={SYSTEM}|create", "family=Tr%E1%BA%A1nh&birthdate=1990-02-03"])
async def test_32_conditional_creates_make_one_resource(clients: Clients, criteria: str) -> None:
    body = patient("create") if "identifier" in criteria else patient("other", **NAMED)
    many = await clients(32)
    answers = await asyncio.gather(
        *(one.post("/Patient", json=body, headers={"If-None-Exist": criteria}) for one in many)
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 31 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    found = await many[0].get(f"/Patient?{criteria}")
    assert len(found.json()["entry"]) == 1


async def test_conditional_updates_make_one_resource_and_lose_none(clients: Clients) -> None:
    many = await clients(16)

    async def update(number: int) -> httpx.Response:
        url = f"/Patient?identifier={SYSTEM}|update"
        return await many[number].put(url, json=patient("update", multipleBirthInteger=number))

    answers = await asyncio.gather(*map(update, range(16)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 15}
    (id,) = {answer.json()["id"] for answer in answers}
    assert sorted(int(answer.headers["etag"][3:-1]) for answer in answers) == list(range(1, 17))
    stored = await versions(many[0], f"/Patient/{id}")
    assert sorted(one["multipleBirthInteger"] for one in stored) == list(range(16))


async def test_if_match_loses_no_update(clients: Clients) -> None:
    """A counter: every client reads it, adds one, and begins again when somebody else was faster."""
    rounds, many = 4, await clients(8)
    await many[0].put("/Patient/counter", json=patient("counter", id="counter", multipleBirthInteger=1))

    async def add(client: httpx.AsyncClient, by_patch: bool) -> None:
        done = 0
        while done < rounds:
            seen = (await client.get("/Patient/counter")).json()
            value, guard = seen["multipleBirthInteger"] + 1, {"If-Match": f'W/"{seen["meta"]["versionId"]}"'}
            if by_patch:
                content = orjson.dumps([{"op": "replace", "path": "/multipleBirthInteger", "value": value}])
                headers = {"Content-Type": "application/json-patch+json", **guard}
                answer = await client.patch("/Patient/counter", content=content, headers=headers)
            else:
                answer = await client.put(
                    "/Patient/counter", json=seen | {"multipleBirthInteger": value}, headers=guard
                )
            assert answer.status_code in (200, 412), answer.text
            done += answer.status_code == 200

    await asyncio.gather(*(add(one, number % 2 == 0) for number, one in enumerate(many)))
    stored = await versions(many[0], "/Patient/counter")
    assert [one["multipleBirthInteger"] for one in stored] == list(range(1, 8 * rounds + 2))


async def test_unguarded_writes_are_versions_without_gap(clients: Clients) -> None:
    many = await clients(8)

    async def write(number: int) -> int:
        body = patient("free", id="free", multipleBirthInteger=number)
        answer = await many[number % 8].put("/Patient/free", json=body)
        return int(answer.headers["etag"][3:-1])

    told = await asyncio.gather(*map(write, range(40)))
    assert sorted(told) == list(range(1, 41))
    assert len(await versions(many[0], "/Patient/free")) == 40


async def test_readers_see_a_transaction_whole_or_not_at_all(clients: Clients) -> None:
    ids, turns, done = [f"whole-{n}" for n in range(8)], 20, asyncio.Event()
    writer, *readers = await clients(5)

    def bundle(turn: int) -> dict[str, Any]:
        trees = [patient("whole", id=id, multipleBirthInteger=turn) for id in ids]
        entries = [{"request": {"method": "PUT", "url": f"Patient/{one['id']}"}, "resource": one} for one in trees]
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    async def write() -> None:
        for turn in range(turns):
            assert (await writer.post("/", json=bundle(turn))).status_code == 200
        done.set()

    async def read(client: httpx.AsyncClient, told: list[tuple[int, set[int]]]) -> None:
        while not done.is_set():
            found = (await client.get("/Patient", params={"_id": ",".join(ids)})).json().get("entry", [])
            told.append((len(found), {one["resource"]["multipleBirthInteger"] for one in found}))

    told: list[tuple[int, set[int]]] = []
    await asyncio.gather(write(), *(read(one, told) for one in readers))
    assert [one for one in told if one[0] not in (0, len(ids)) or len(one[1]) > 1] == []
    assert len({turn for _, turns_seen in told for turn in turns_seen}) > 3, "readers saw many states"


async def test_a_retry_after_a_cut_connection_gets_the_first_answer(serving: Serving, clients: Clients) -> None:
    """The connection is cut at any moment after the request was sent, before, during or after its work."""
    (client,) = await clients(1)
    chance, parts = random.Random(20261130), urlsplit(serving.base)

    async def cut(number: int, body: bytes) -> None:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        told = {"Host": "x", "Content-Type": JSON, "Idempotency-Key": f"cut-{number}", "Content-Length": len(body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        writer.write(f"POST {parts.path}/Patient HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        await asyncio.sleep(chance.uniform(0, 0.03))
        writer.transport.abort()

    async def once(number: int) -> None:
        body = orjson.dumps(patient(f"cut-{number}"))
        await asyncio.gather(*(cut(number, body) for _ in range(2)))
        key = {"Idempotency-Key": f"cut-{number}"}
        first, again = [await client.post("/Patient", content=body, headers=key) for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 201)
        assert (first.content, first.headers["location"]) == (again.content, again.headers["location"])
        found = await client.get("/Patient", params={"identifier": f"{SYSTEM}|cut-{number}"})
        assert [one["resource"]["id"] for one in found.json()["entry"]] == [first.json()["id"]]

    await asyncio.gather(*map(once, range(12)))


def observation(walk: str, number: int, day: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"{walk}-{number}",
        "status": "final",
        "code": {"coding": [{"system": SYSTEM, "code": walk}]},
        "effectiveDateTime": f"2026-0{1 + day // 28}-{1 + day % 28:02}",
    }


SORTS = {"none": "", "newest": "-_lastUpdated", "oldest": "_lastUpdated", "date": "date", "date-down": "-date,_id"}
WALKED = 40


@pytest.mark.parametrize("walk", SORTS)
async def test_a_page_walk_under_constant_writing_finds_everything_once(clients: Clients, walk: str) -> None:
    """Others create, and update what is being walked, so that it moves from ahead of the walk to behind it and back."""
    reader, *writers = await clients(4)
    at_start = {f"{walk}-{number}" for number in range(WALKED)}
    for number in range(WALKED):
        await reader.put(f"/Observation/{walk}-{number}", json=observation(walk, number, number))
    over, chance, new = asyncio.Event(), random.Random(walk), iter(range(1000, 10_000))

    async def write(client: httpx.AsyncClient) -> None:
        while not over.is_set():
            number = next(new) if chance.random() < 0.3 else chance.randrange(WALKED)
            body = observation(walk, number, chance.randrange(WALKED))
            await client.put(f"/Observation/{walk}-{number}", json=body)

    async def read() -> list[str]:
        found: list[str] = []
        query = {"code": f"{SYSTEM}|{walk}", "_count": "6"} | ({"_sort": SORTS[walk]} if SORTS[walk] else {})
        page = (await reader.get("/Observation", params=query)).json()
        while True:
            found += [one["resource"]["id"] for one in page.get("entry", ())]
            assert len(page.get("entry", ())) <= 6
            following = [link["url"] for link in page["link"] if link["relation"] == "next"]
            if not following:
                over.set()
                return found
            await asyncio.sleep(0.02)
            page = (await reader.get(following[0])).json()

    found, *_ = await asyncio.gather(read(), *map(write, writers))
    counted = Counter(found)
    assert {id: counted[id] for id in at_start} == dict.fromkeys(at_start, 1)
    assert max(counted.values()) == 1


async def test_reads_are_answered_while_a_large_transaction_is_checked_and_written(clients: Clients) -> None:
    """Megabytes of one client hold up nobody: the longest read is a small part of the transaction."""
    writer, reader = await clients(2)
    await reader.put("/Patient/read", json=patient("read", id="read"))
    entries = [
        {"fullUrl": f"urn:uuid:{uuid4()}", "request": {"method": "POST", "url": "Observation"}, "resource": result}
        for result in map(glucose, range(4000))
    ]
    body = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert len(body) > 2_000_000
    answer = await reads_meanwhile(reader, writer.post("", content=body))
    assert answer.status_code == 200, answer.text[:500]
    assert len(answer.json()["entry"]) == len(entries)


async def test_reads_are_answered_while_one_large_resource_is_checked(clients: Clients) -> None:
    writer, reader = await clients(2)
    await reader.put("/Patient/read", json=patient("read", id="read"))
    items = [{"linkId": str(number), "text": f"Question {number}", "type": "string"} for number in range(12_000)]
    body = orjson.dumps({"resourceType": "Questionnaire", "id": "long", "status": "active", "item": items})
    for writing in (writer.put("/Questionnaire/long", content=body), writer.post("/Questionnaire", content=body)):
        answer = await reads_meanwhile(reader, writing)
        assert answer.status_code == 201, answer.text[:500]


async def test_reads_are_answered_while_a_large_answer_becomes_xml(clients: Clients) -> None:
    asker, reader = await clients(2)
    await reader.put("/Patient/read", json=patient("read", id="read"))
    concepts = [{"code": f"c{number}", "display": f"What the code {number} says"} for number in range(50_000)]
    compose = {"include": [{"system": "https://example.org/many", "concept": concepts}]}
    many = {"resourceType": "ValueSet", "id": "many", "status": "active", "compose": compose}
    assert (await asker.put("/ValueSet/many", content=orjson.dumps(many))).status_code == 201
    answer = await reads_meanwhile(reader, asker.get("/ValueSet/many?_format=xml"))
    assert answer.headers["content-type"].startswith("application/fhir+xml")


async def reads_meanwhile(reader: httpx.AsyncClient, asked: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
    """The answer, when the longest read beside it was a small part of it."""
    took_s: list[float] = []
    began_s = time.perf_counter()
    writing = asyncio.create_task(asked)
    while not writing.done():
        asked_s = time.perf_counter()
        assert (await reader.get("/Patient/read")).status_code == 200
        took_s.append(time.perf_counter() - asked_s)
    whole_s = time.perf_counter() - began_s
    assert max(took_s) < whole_s / 4, f"{max(took_s):.3f} s of {whole_s:.3f} s, {len(took_s)} reads"
    return await writing


def glucose(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{number % 90}-1", "display": "Glucose"}]},
        "subject": {"reference": "Patient/read"},
        "effectiveDateTime": f"2026-11-{number % 28 + 1:02}T08:00:00+07:00",
        "valueQuantity": {"value": number, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "referenceRange": [{"text": f"normal below {number + 1}, as the laboratory tells its readers in many words"}],
    }
