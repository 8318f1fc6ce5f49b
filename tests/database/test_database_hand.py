"""Connections at hand: lent again without the pool, never kept from who waits, never lent when something is wrong."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ehr.database.child import until
from ehr.database.engine import Database
from ehr.database.hand import AT_HAND_MAX, Plans, lost


@pytest.fixture
async def two(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, connections_max=2)
    yield opened
    await opened.close()


def at_hand(database: Database) -> int:
    return len(database._hand.at_hand)


async def pid(database: Database) -> int:
    async with database.acquire() as connection:
        return int(await connection.fetchval("select pg_backend_pid()"))


async def test_one_connection_serves_one_after_the_other(two: Database) -> None:
    assert len({await pid(two) for _ in range(5)}) == 1
    assert at_hand(two) == 1
    assert two.pool.get_size() == 1


async def test_at_most_a_few_are_kept(database: Database) -> None:
    async def hold(together: asyncio.Barrier) -> None:
        async with database.acquire():
            await together.wait()

    together = asyncio.Barrier(AT_HAND_MAX + 2)
    await asyncio.gather(*(hold(together) for _ in range(AT_HAND_MAX + 2)))
    assert at_hand(database) == AT_HAND_MAX
    assert database.pool.get_idle_size() == database.pool.get_size() - AT_HAND_MAX


async def test_nobody_waits_for_a_connection_that_was_given_back(two: Database) -> None:
    async def use(times: int) -> None:
        for _ in range(times):
            async with two.acquire(timeout_s=10) as connection:
                await connection.fetchval("select 1")

    async with asyncio.timeout(30):
        await asyncio.gather(*(use(40) for _ in range(8)))
        async with two.acquire() as _, two.acquire() as _:
            waiting = asyncio.create_task(use(1))
            await asyncio.sleep(0)
            assert len(two._hand.waiting) == 1
        await waiting
    assert not two._hand.waiting


async def test_who_waits_too_long_is_told(two: Database) -> None:
    async with two.acquire() as _, two.acquire() as _:
        with pytest.raises(TimeoutError):
            async with two.acquire(timeout_s=0.05):
                pass
    assert not two._hand.waiting
    assert await pid(two)


async def test_what_is_given_back_goes_to_who_waited_longest(two: Database) -> None:
    served: list[int] = []

    async def use(number: int) -> None:
        async with two.acquire(timeout_s=10) as connection:
            served.append(number)
            await connection.fetchval("select 1")

    async with two.acquire() as _, two.acquire() as _:
        waiting = [asyncio.create_task(use(number)) for number in range(6)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert served == sorted(served)
    assert at_hand(two) == 2
    assert two.pool.get_idle_size() == 0


async def test_who_gives_up_when_a_connection_comes_passes_it_on(two: Database) -> None:
    loan = two.acquire()
    async with two.acquire() as _:
        await loan.__aenter__()
        first, second = (asyncio.create_task(pid(two)) for _ in range(2))
        await asyncio.sleep(0)
        await loan.__aexit__(None, None, None)
        first.cancel()
        assert await asyncio.wait_for(second, 10)
        assert first.cancelled()
    assert not two._hand.waiting


async def test_who_waits_is_told_when_connections_are_cut(two: Database) -> None:
    waiting: list[asyncio.Task[int]] = []

    async def cut() -> None:
        async with two.acquire() as one, two.acquire() as other:
            waiting.extend(asyncio.create_task(pid(two)) for _ in range(6))
            await asyncio.sleep(0)
            await one.fetch("select pg_terminate_backend($1)", other.get_server_pid())
            assert await until(lambda: lost(other), 10), "before that is noticed, it may be handed on"
            await one.fetch("select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(asyncpg.PostgresError):
        await cut()
    async with asyncio.timeout(10):
        assert all(await asyncio.gather(*waiting))


async def test_an_error_or_an_open_transaction_goes_through_the_pool(two: Database) -> None:
    with pytest.raises(asyncpg.SyntaxOrAccessError):
        async with two.acquire() as connection:
            await connection.execute("select from nowhere at all")
    assert at_hand(two) == 0
    async with two.acquire() as connection:
        await connection.execute("begin")
        await connection.execute("create table lost (id int)")
    assert at_hand(two) == 0
    async with two.acquire() as connection:
        assert await connection.fetchval("select to_regclass('lost')") is None
        assert not connection.is_in_transaction()


async def test_a_connection_that_was_cut_meanwhile_is_not_lent(two: Database) -> None:
    cut = await pid(two)
    async with two.acquire() as _, two.acquire() as other:
        await other.execute("select 1")
    assert at_hand(two) == 2
    killer = await asyncpg.connect(two.url)
    await killer.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid = $1", cut)
    await killer.close()
    await asyncio.sleep(0.2)  # its end has arrived, and nobody was reading
    assert cut not in {await pid(two) for _ in range(4)}
    async with two.acquire() as _, two.acquire() as _:
        pass
    assert at_hand(two) == 2


async def test_close_waits_for_what_is_lent(database_url: str) -> None:
    opened = await Database.open(database_url, connections_max=2)
    await pid(opened)
    async with asyncio.timeout(10):
        async with opened.acquire() as connection:
            closing = asyncio.create_task(opened.close())
            await asyncio.sleep(0.05)
            assert await connection.fetchval("select 1") == 1
            assert not closing.done()
        await closing


async def session(database: Database, plans: Plans) -> tuple[int, str]:
    async with database.acquire(plans=plans) as connection:
        row = await connection.fetchrow("select pg_backend_pid(), current_setting('plan_cache_mode')")
        assert row is not None
        return row[0], row[1]


async def test_who_plans_otherwise_has_a_connection_of_their_own(two: Database) -> None:
    values, once = await session(two, "values"), await session(two, "once")
    assert (values[1], once[1]) == ("force_custom_plan", "force_generic_plan")
    assert values[0] != once[0]
    for _ in range(3):
        assert await session(two, "values") == values
        assert await session(two, "once") == once


async def test_where_there_is_no_other_a_connection_changes_its_way(database_url: str) -> None:
    one = await Database.open(database_url, connections_max=1)
    try:
        for _ in range(2):
            assert (await session(one, "once"))[1] == "force_generic_plan"
            assert (await session(one, "values"))[1] == "force_custom_plan"
        with pytest.raises(asyncpg.SyntaxOrAccessError):
            async with one.acquire(plans="once") as connection:
                await connection.execute("select from nowhere at all")
        assert at_hand(one) == 0, "it went through the pool"
        assert (await session(one, "values"))[1] == "force_custom_plan"
    finally:
        await one.close()


async def test_who_waited_gets_a_connection_that_plans_as_asked(two: Database) -> None:
    async with two.acquire() as _, two.acquire(plans="once") as _:
        waiting = [asyncio.create_task(session(two, plans)) for plans in ("once", "values", "once", "values")]
        await asyncio.sleep(0)
        assert len(two._hand.waiting) == 4
    modes = [mode for _, mode in await asyncio.gather(*waiting)]
    assert modes == ["force_generic_plan", "force_custom_plan"] * 2


async def test_a_change_that_was_cut_off_is_taken_for_made(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may have made it: a session that plans once and is taken for another would find few slowly."""
    execute = asyncpg.Connection.execute

    async def cut_off(self: Any, query: str) -> None:
        await execute(self, query)
        raise TimeoutError

    one = await Database.open(database_url, connections_max=1)
    try:
        await session(one, "values")
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "execute", cut_off)
            with pytest.raises(TimeoutError):
                await session(one, "once")
        assert (await session(one, "values"))[1] == "force_custom_plan"
    finally:
        await one.close()
