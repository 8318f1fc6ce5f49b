"""The feed skips nothing, the outbox loses nothing, an idempotency key answers once."""

import asyncio
import hashlib
import random

import pytest

from ehr.access.policy import Caller
from ehr.database.connection import Connection
from ehr.errors import Invalid
from ehr.store import changes, idempotency, outbox
from ehr.store.changes import FeedPosition
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork


async def write(record: Record, caller: Caller, id: str, pause_s: float) -> None:
    async def work(uow: UnitOfWork) -> None:
        tree = {"resourceType": "Basic", "id": id, "code": {"text": "feed"}}
        await uow.resources.update("Basic", id, None, tree)
        await asyncio.sleep(pause_s)

    await record.run(caller, work)


async def test_a_poller_misses_no_change_of_slow_writers(record: Record, city: Caller) -> None:
    dice = random.Random(7)
    done = asyncio.Event()
    seen: list[str] = []

    async def writer(number: int) -> None:
        for turn in range(25):
            await write(record, city, f"w{number}-{turn}", dice.random() * 0.02)

    async def poller() -> None:
        position = changes.START
        finishing = False
        async with record.database.acquire() as connection:
            while True:
                page = await changes.read_changes(connection, position, 7)
                if page:
                    assert [c.position for c in page] == sorted(c.position for c in page)
                    assert page[0].position > position
                    position = page[-1].position
                    seen.extend(c.id for c in page)
                elif finishing:
                    return
                else:
                    finishing = done.is_set()
                    await asyncio.sleep(0.001)

    async def writers() -> None:
        await asyncio.gather(*(writer(number) for number in range(8)))
        done.set()

    await asyncio.gather(writers(), poller())
    assert len(seen) == len(set(seen)) == 200
    assert set(seen) == {f"w{number}-{turn}" for number in range(8) for turn in range(25)}


async def test_a_running_transaction_holds_the_feed_back(record: Record, city: Caller) -> None:
    async with record.database.acquire() as reader, record.unit_of_work(city) as slow:
        await slow.resources.update(
            "Basic", "slow", None, {"resourceType": "Basic", "id": "slow", "code": {"text": "x"}}
        )
        await write(record, city, "quick", 0)
        assert await changes.read_changes(reader, changes.START, 10) == []
    async with record.database.acquire() as reader:
        assert {c.id for c in await changes.read_changes(reader, changes.START, 10)} == {"slow", "quick"}
        assert await changes.read_changes(reader, changes.START, 10, types=["Patient"]) == []


async def test_a_reader_keeps_its_place(record: Record) -> None:
    async with record.database.acquire() as connection:
        assert await changes.load_cursor(connection, "summary") == changes.START
        for place in (FeedPosition(5, 2), FeedPosition(9, 1)):
            await changes.save_cursor(connection, "summary", place)
            assert await changes.load_cursor(connection, "summary") == place
        assert await changes.load_cursor(connection, "other") == changes.START


async def test_outbox_rows_come_once_merged_and_come_back_when_they_fail(record: Record, city: Caller) -> None:
    for _ in range(2):
        async with record.unit_of_work(city) as uow:
            await uow.outbox.add("letters", ["a", "b", "a"])
            await uow.outbox.add("letters", "a")
    async with record.database.acquire() as connection:
        work = {w.key: w for w in await outbox.take(connection, "letters", 10)}
        assert {key: len(w.ids) for key, w in work.items()} == {"a": 2, "b": 2}
        assert await outbox.take(connection, "letters", 10) == [], "leased rows are not taken twice"
        async with record.unit_of_work(city) as uow:
            await uow.outbox.add("letters", "a")
        await outbox.finish(connection, [work["a"]])
        (added,) = await outbox.take(connection, "letters", 10)
        assert (added.key, len(added.ids)) == ("a", 1), "what was added meanwhile is not lost with what was finished"
        await outbox.fail(connection, work["b"], "no paper")
        assert await standing(connection) == (3, 0)
        await connection.execute("UPDATE outbox SET due = now(), attempts = 20 WHERE key = 'b'")
        (again,) = await outbox.take(connection, "letters", 10)
        await outbox.fail(connection, again, "still no paper")
        assert await standing(connection) == (3, 2)


async def standing(connection: Connection) -> tuple[int, int]:
    """Rows of the outbox, and those of them that wait for an operator."""
    row = await connection.fetchrow("SELECT count(*), count(*) FILTER (WHERE due = 'infinity') FROM outbox")
    assert row is not None, "an aggregate has one row"
    return row[0], row[1]


async def test_a_rolled_back_transaction_leaves_no_outbox_row(record: Record, city: Caller) -> None:
    async def work(uow: UnitOfWork) -> None:
        await uow.outbox.add("letters", "a")
        raise Invalid("refused")

    with pytest.raises(Invalid):
        await record.run(city, work)
    async with record.database.acquire() as connection:
        assert await outbox.take(connection, "letters", 10) == []


async def test_an_idempotency_key_gives_the_first_answer(record: Record, city: Caller) -> None:
    digest = hashlib.sha256(b"request").digest()
    worked = 0

    async def request() -> bytes:
        async def work(uow: UnitOfWork) -> bytes:
            nonlocal worked
            kept = await idempotency.find(uow.connection, "client", "key-1", digest)
            if kept is not None:
                return kept.body
            worked += 1
            await asyncio.sleep(0.01)
            answer = idempotency.KeptAnswer(201, {"etag": 'W/"1"'}, f"answer {worked}".encode())
            await idempotency.keep(uow.connection, "client", "key-1", digest, answer)
            return answer.body

        return await record.run(city, work)

    assert set(await asyncio.gather(*(request() for _ in range(8)))) == {b"answer 1"}
    assert worked == 1
    with pytest.raises(Invalid):
        async with record.unit_of_work(city) as uow:
            await idempotency.find(uow.connection, "client", "key-1", hashlib.sha256(b"other").digest())
