"""Versions of one resource: gapless, kept, deleted, brought back, and never overwritten unseen."""

import asyncio
import json
import random
from typing import Any

import pytest

from ehr.access.policy import Caller
from ehr.errors import Duplicate, Gone, NotFound, PreconditionFailed
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.store.faults import TAKEN
from ehr.store.preconditions import Versions
from ehr.store.record import Record
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version
from ehr.store.writes import ALONE_MAX


def observation(value: str = "13.50", **more: Any) -> bytes:
    code = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
    head = json.dumps({"resourceType": "Observation", "status": "final", "code": code, **more}, ensure_ascii=False)
    return f'{head[:-1]}, "valueQuantity": {{"value": {value}, "unit": "g/dL"}}}}'.encode()


async def create(record: Record, caller: Caller, body: bytes) -> Version:
    async def work(uow: UnitOfWork) -> Version:
        return await uow.resources.create("Observation", body, codec.loads(body))

    return await record.run(caller, work)


async def put(
    record: Record, caller: Caller, id: str, body: bytes, if_match: Versions | None = None
) -> tuple[Version, bool]:
    async def work(uow: UnitOfWork) -> tuple[Version, bool]:
        return await uow.resources.update("Observation", id, body, codec.loads(body), if_match=if_match)

    return await record.run(caller, work)


async def delete(record: Record, caller: Caller, id: str) -> Version | None:
    async def work(uow: UnitOfWork) -> Version | None:
        return await uow.resources.delete("Observation", id)

    return await record.run(caller, work)


async def count(record: Record, table: str, where: str = "true") -> int:
    async with record.database.acquire() as connection:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE {where}")
        return found


@pytest.mark.parametrize(
    "digits", ["13.50", "1234567890123456789012345", "0.1000000000000000000000000", "1.0E-7", "-0.0"]
)
async def test_digits_are_kept_as_sent(record: Record, city: Caller, digits: str) -> None:
    made = await create(record, city, observation(digits))
    async with record.reading(city) as uow:
        body = (await uow.resources.read("Observation", made.id)).body
    assert body is not None
    assert f'"value": {digits}'.replace(" ", "") in body.decode().replace(" ", "")


async def test_text_is_kept_in_its_own_unicode_form(record: Record, city: Caller) -> None:
    composed, decomposed = "Nguy\u1ec5n", "Nguye\u0302\u0303n"
    for text in (composed, decomposed):
        made = await create(record, city, observation(note=[{"text": text}]))
        async with record.reading(city) as uow:
            stored = await uow.resources.read("Observation", made.id)
        assert stored.body is not None
        assert codec.loads(stored.body)["note"][0]["text"] == text


async def test_delete_is_a_version_and_a_new_start_continues(record: Record, city: Caller) -> None:
    first, created = await put(record, city, "o-1", observation("1"))
    assert (first.version, created) == (1, True)
    second, created = await put(record, city, "o-1", observation("2"))
    assert (second.version, created) == (2, False)
    gone = await delete(record, city, "o-1")
    assert gone is not None
    assert (gone.version, gone.op) == (3, "D")
    async with record.reading(city) as uow:
        with pytest.raises(Gone):
            await uow.resources.read("Observation", "o-1")
        with pytest.raises(Gone):
            await uow.resources.vread("Observation", "o-1", 3)
        assert (await uow.resources.vread("Observation", "o-1", 1)).op == "P"
        with pytest.raises(NotFound):
            await uow.resources.vread("Observation", "o-1", 4)
        with pytest.raises(NotFound):
            await uow.resources.read("Observation", "o-2")
    again = await delete(record, city, "o-1")
    assert again is not None
    assert again.version == 3
    assert await delete(record, city, "o-2") is None
    back, created = await put(record, city, "o-1", observation("4"))
    assert (back.version, created, back.op) == (4, True, "P")
    async with record.reading(city) as uow:
        page = await uow.resources.history("Observation", "o-1")
    assert [(v.version, v.op) for v in page.entries] == [(4, "P"), (3, "D"), (2, "U"), (1, "P")]
    assert page.total == 4
    last, _ = await put(record, city, "o-1", observation("5"))
    assert last.version == 5
    async with record.reading(city) as uow:
        assert (await uow.resources.vread("Observation", "o-1", 4)).op == "P"


async def test_the_same_content_again_changes_nothing(record: Record, city: Caller) -> None:
    await put(record, city, "o-1", observation("13.5"))
    before = await count(record, "change")
    same, created = await put(record, city, "o-1", observation("13.5"))
    assert (same.version, created) == (1, False)
    assert await count(record, "change") == before
    assert await count(record, "audit", "action = 'U' AND detail->>'unchanged' = 'true'") == 1
    other, _ = await put(record, city, "o-1", observation("13.50"))
    assert other.version == 2, "other digits are other content"


async def test_if_match_never_overwrites_an_unseen_version(record: Record, city: Caller) -> None:
    await put(record, city, "o-1", observation("0"))

    async def writer(number: int) -> bool:
        try:
            await put(record, city, "o-1", observation(str(number)), if_match=frozenset({1}))
        except PreconditionFailed:
            return False
        return True

    won = await asyncio.gather(*(writer(number) for number in range(1, 17)))
    assert sum(won) == 1
    async with record.reading(city) as uow:
        assert (await uow.resources.read("Observation", "o-1")).version == 2
    with pytest.raises(PreconditionFailed):
        await put(record, city, "never-made", observation("1"), if_match=frozenset({1}))


async def test_versions_are_gapless_under_parallel_writers(record: Record, city: Caller) -> None:
    async def writer(number: int) -> int:
        return (await put(record, city, "hot", observation(str(number))))[0].version

    versions = await asyncio.gather(*(writer(number) for number in range(32)))
    assert sorted(versions) == list(range(1, 33))
    async with record.reading(city) as uow:
        page = await uow.resources.history("Observation", "hot", count=100)
    assert [v.version for v in page.entries] == list(range(32, 0, -1))
    assert await count(record, "change", "id = 'hot'") == 32
    assert await count(record, "change", "id = 'hot' and op = 'P'") == 1


async def test_sets_of_one_set_of_chosen_ids_are_written_in_any_order(record: Record, city: Caller) -> None:
    """More of them than are locked."""
    ids = [f"o-{number}" for number in range(ALONE_MAX + 20)]

    async def writer(number: int) -> None:
        order = random.Random(number).sample(ids, len(ids))
        body = observation(str(number))

        async def work(uow: UnitOfWork) -> None:
            await uow.resources.apply([Write("U", "Observation", id, body, codec.loads(body)) for id in order])

        await record.run(city, work)

    await asyncio.gather(*(writer(number) for number in range(6)))
    assert await count(record, "resource", "version = 6") == len(ids)
    assert await count(record, "resource_history") == 5 * len(ids)


async def test_an_id_is_one_resource_of_a_type(record: Record, city: Caller) -> None:
    """In the partition of one type, and in the one that types share."""
    again = (
        "INSERT INTO resource SELECT (jsonb_populate_record(r, '{\"rid\": 0}')).* FROM resource r WHERE type_id = $1"
    )
    for type_name in ("Observation", "Basic"):
        tree = {"resourceType": type_name, "status": "final", "code": {"text": "x"}}
        if type_name == "Basic":
            del tree["status"]
        body = json.dumps(tree).encode()

        async def work(uow: UnitOfWork, type_name: str = type_name, body: bytes = body) -> None:
            await uow.resources.update(type_name, "same", body, codec.loads(body))

        await record.run(city, work)
        async with record.database.acquire() as connection:
            with pytest.raises(TAKEN):
                await connection.execute(again, TYPE_IDS[type_name])
    assert await count(record, "resource", "id = 'same'") == 2


async def test_versions_are_gapless_through_parallel_deletes(record: Record, city: Caller) -> None:
    async def writer(number: int) -> None:
        await put(record, city, "hot", observation(str(number)))

    async def eraser() -> None:
        await delete(record, city, "hot")

    await asyncio.gather(*(writer(n) if n % 2 else eraser() for n in range(40)))
    async with record.reading(city) as uow:
        page = await uow.resources.history("Observation", "hot", count=100)
    assert [v.version for v in page.entries] == list(range(len(page.entries), 0, -1))


async def test_parallel_creates_under_one_id_make_one(record: Record, city: Caller) -> None:
    async def writer(number: int) -> str:
        body = observation(str(number))

        async def work(uow: UnitOfWork) -> Version:
            return await uow.resources.create("Observation", body, codec.loads(body), id="same")

        try:
            await record.run(city, work)
        except Duplicate:
            return "refused"
        return "made"

    outcomes = await asyncio.gather(*(writer(number) for number in range(8)))
    assert outcomes.count("made") == 1


async def test_history_pages_and_times(record: Record, city: Caller) -> None:
    for number in range(5):
        await put(record, city, "o-1", observation(str(number)))
    seen: list[int] = []
    cursor: str | None = None
    while True:
        async with record.reading(city) as uow:
            page = await uow.resources.history("Observation", "o-1", count=2, cursor=cursor)
        seen += [v.version for v in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]
    async with record.reading(city) as uow:
        third = await uow.resources.vread("Observation", "o-1", 3)
        since = await uow.resources.history("Observation", "o-1", since=third.updated)
        then = await uow.resources.history("Observation", "o-1", at=(third.updated, third.updated))
        of_type = await uow.resources.history("Observation", count=3)
        rest = await uow.resources.history("Observation", count=3, cursor=of_type.next_cursor)
        everything = await uow.resources.history(count=50)
        at_type = await uow.resources.history("Observation", at=(third.updated, third.updated))
    assert 3 in [v.version for v in since.entries]
    assert 3 in [v.version for v in then.entries]
    assert [v.version for v in at_type.entries] == [v.version for v in then.entries]
    assert [v.version for v in (*of_type.entries, *rest.entries)] == [5, 4, 3, 2, 1]
    assert rest.next_cursor is None
    assert [v.version for v in everything.entries] == [5, 4, 3, 2, 1]
    assert all(v.body for v in everything.entries)
