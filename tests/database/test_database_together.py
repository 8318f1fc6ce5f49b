"""Asked together: everybody gets what is its own, in one transaction; nobody waits for who fails, leaves or is lost."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from ehr.database.child import until
from ehr.database.engine import Database
from ehr.database.together import TOGETHER_MAX

SAID = (
    "SELECT $1::text AS said, pg_current_xact_id()::text AS xact, pg_advisory_xact_lock_shared($3)::text, $2::integer"
)
NUMBER = 1
OPEN, GATE, SECOND_GATE = 0, 1, 2
"""Who asks behind a gate waits until the test opens it."""

CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event = 'advisory' AND query LIKE '%AS said%'"
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, connections_max=TOGETHER_MAX + 4)
    yield opened
    assert not opened.together._asking, "nobody is left waiting"
    await opened.close()


async def ask(database: Database, said: object, gate: int = OPEN, sql: str = SAID) -> Sequence[Any]:
    async with database.acquire(plans="once") as connection:
        return await database.together.fetch(connection, sql, [said, 0, gate], NUMBER)


@asynccontextmanager
async def company(
    database: Database, *asked: object, first: object = "first", slow: object = None, sql: str = SAID
) -> AsyncIterator[list[asyncio.Task[Sequence[Any]]]]:
    """One that asks, and behind it all who wait; it gets its answer when the block ends. slow: it is behind a gate."""
    async with closed(database, GATE):
        tasks = [asyncio.create_task(ask(database, first, GATE, sql))]
        await _wait(database, sql, 0)
        for number, one in enumerate(asked, 1):
            tasks.append(asyncio.create_task(ask(database, one, SECOND_GATE if one == slow else OPEN, sql)))
            await _wait(database, sql, number)
        yield tasks
    await tasks[0]


@asynccontextmanager
async def closed(database: Database, gate: int) -> AsyncIterator[None]:
    async with database.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", gate)
        yield
        await connection.execute("SELECT pg_advisory_unlock($1)", gate)


async def _wait(database: Database, sql: str, number: int) -> None:
    """Until so many wait behind the one that asks."""
    asking = database.together._asking
    assert await until(lambda: sql in asking and len(asking[sql]) == number, 10)


async def ended(tasks: Sequence[asyncio.Task[Sequence[Any]]]) -> list[Any]:
    """What each was told in its first row, or its error."""
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    return [one if isinstance(one, BaseException) else one[0]["said"] for one in answers]


async def test_who_comes_alone_asks_at_once(database: Database) -> None:
    assert (await ask(database, "a"))[0]["said"] == "a"
    assert not database.together._asking


async def test_who_comes_meanwhile_is_asked_together(database: Database) -> None:
    async with company(database, "a", "b", "c", "d", "e") as tasks:
        pass
    first, *others = [(await task)[0] for task in tasks]
    assert [first["said"], *(one["said"] for one in others)] == ["first", "a", "b", "c", "d", "e"]
    assert len({one["xact"] for one in others}) == 1
    assert first["xact"] != others[0]["xact"]


async def test_other_words_wait_for_nobody(database: Database) -> None:
    other = SAID.replace("said", "told")
    async with company(database):
        assert (await ask(database, "quick", sql=other))[0]["told"] == "quick"


async def test_each_gets_its_own_rows_however_many(database: Database) -> None:
    sql = "SELECT n, pg_advisory_xact_lock_shared($3)::text, $2::integer FROM generate_series(1, $1::integer) AS n"
    counts = [3, 0, 7, 1, 0, 2]
    async with company(database, *counts, first=1, sql=sql) as tasks:
        pass
    assert [[row["n"] for row in await task] for task in tasks[1:]] == [list(range(1, n + 1)) for n in counts]


async def test_more_than_go_together_go_one_after_the_other(database: Database) -> None:
    asked = [str(number) for number in range(TOGETHER_MAX + 2)]
    async with company(database, *asked) as tasks:
        pass
    rows = [(await task)[0] for task in tasks[1:]]
    xacts = [row["xact"] for row in rows]
    assert [row["said"] for row in rows] == asked
    assert len(set(xacts[:TOGETHER_MAX])) == len(set(xacts[TOGETHER_MAX:])) == 1
    assert xacts[0] != xacts[-1]


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize(("bad", "error"), [(0, asyncpg.DivisionByZeroError), (1 << 40, asyncpg.DataError)])
async def test_who_fails_fails_alone(database: Database, at: int, bad: int, error: type[Exception]) -> None:
    """On the server, or before anything is sent there."""
    sql = "SELECT 10 / $1::integer AS said, pg_advisory_xact_lock_shared($3)::text, $2::integer"
    asked = [1, 2, 5]
    asked[at] = bad
    async with company(database, *asked, first=1, sql=sql) as tasks:
        pass
    answers = await ended(tasks[1:])
    assert isinstance(answers.pop(at), error)
    assert answers == [10 // one for one in asked if one != bad]


@pytest.mark.parametrize("gone", [1, 2, 3])
async def test_who_leaves_while_waiting_is_not_asked_for(database: Database, gone: int) -> None:
    async with company(database, "a", "b", "c") as tasks:
        tasks[gone].cancel()
    answers = await ended(tasks)
    assert isinstance(answers.pop(gone), asyncio.CancelledError)
    assert answers == [said for at, said in enumerate(["first", "a", "b", "c"]) if at != gone]


async def test_who_leaves_while_asking_for_others_leaves_them_to_ask(database: Database) -> None:
    async with closed(database, SECOND_GATE):
        async with company(database, "asks", "slow", "c", slow="slow") as tasks:
            pass
        await _wait(database, SAID, 0)
        tasks[1].cancel()
        assert (await ended(tasks[1:2]))[0].__class__ is asyncio.CancelledError
        assert await ended(tasks[3:]) == ["c"]
    assert await ended(tasks[2:]) == ["slow", "c"]


async def test_who_is_told_to_ask_and_leaves_hands_it_on(database: Database) -> None:
    async with company(database, "asks", "b", "c") as tasks:
        asks = database.together._asking[SAID][0]
        asks.told.add_done_callback(lambda _: tasks[1].cancel())  # in the moment between being told and going on
    answers = await ended(tasks)
    assert isinstance(answers.pop(1), asyncio.CancelledError)
    assert answers == ["first", "b", "c"]


async def test_a_lost_connection_takes_with_it_who_asked_on_it(database: Database) -> None:
    async with closed(database, SECOND_GATE):
        async with company(database, "asks", "slow", "c", slow="slow") as tasks:
            pass
        async with database.acquire() as connection, asyncio.timeout(10):
            while not await connection.fetch(CUT):  # noqa: ASYNC110 - nobody is told when it waits
                await asyncio.sleep(0.01)
        assert isinstance((await ended(tasks[1:2]))[0], asyncpg.PostgresError)
    assert await ended(tasks[2:]) == ["slow", "c"]


async def test_in_any_crowd_everybody_gets_its_own(database: Database) -> None:
    """Some leave at any moment, and some fail."""
    chance = random.Random(7)
    sql = "SELECT $1::integer AS said, 1 / ($1::integer % 11), pg_sleep(0.001 * $3::integer)::text, $2::integer"

    async def one(number: int) -> None:
        async with asyncio.timeout(0.001 * chance.randrange(30) if number % 5 == 0 else 30):
            rows = await ask(database, number, chance.randrange(4), sql)
        assert [row["said"] for row in rows] == [number]

    answers: list[BaseException | None] = []
    for start in range(0, 600, 60):
        answers += await asyncio.gather(*(one(n) for n in range(start, start + 60)), return_exceptions=True)
    for number, answer in enumerate(answers):
        if number % 5 == 0 and isinstance(answer, TimeoutError):
            continue
        assert (answer is None) == (number % 11 != 0), (number, answer)
        assert answer is None or isinstance(answer, asyncpg.DivisionByZeroError)
