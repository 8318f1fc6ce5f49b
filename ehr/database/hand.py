"""A pool of connections → the same pool with the last used connections kept at hand.

In:      asyncpg's pool
Out:     async with Loan(hand, timeout_s, plans) as connection
Plans:   how the session plans what it is given (docs/adr/0103). To change that is a statement, so a connection keeps
         its last way; one that has the wanted way is lent first, and of others a new one as long as there may be more
Why:     asyncpg's pool makes a proxy, a task and a timer for every acquisition: 45 µs, as much as a statement. A
         connection that was given back whole is lent again without any of them
Keeps:   nobody waits while a connection is at hand: whoever acquires gets it first, and what is given back goes to
         whoever has waited longest. Who left an error or an open transaction behind gives to the pool, which looks
         after such connections; the longest waiting then asks the pool
Limits:  AT_HAND_MAX connections; every LOANS_MAX loans one goes through the pool, which renews old ones
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[Any]

Plans = Literal["values", "once"]
"""Each statement is planned anew for its values, or once a connection for all values."""

PLAN_CACHE_MODE: Final[dict[Plans, str]] = {"values": "force_custom_plan", "once": "force_generic_plan"}
"""PostgreSQL's names of them."""

AT_HAND_MAX: Final = 8
LOANS_MAX: Final = 1_000


class Hand:
    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self.pool = pool
        self.at_hand: list[Connection] = []
        self.waiting: deque[asyncio.Future[Connection | None]] = deque()
        """Who gets the next connection; None: it was given to the pool, and is to be waited for there."""
        self._once: set[int] = set()
        """The server processes that plan once; known by their number, at hand, lent or in the pool."""
        self._at_pool = 0
        self._loans = 0
        self._closing = False

    def at_once(self, plans: Plans) -> "Connection | None":
        """The last one of those that plan so that was given back, where it lives."""
        for at in range(len(self.at_hand) - 1, -1, -1):
            if not lost(self.at_hand[at]) and self.plans(self.at_hand[at]) == plans:
                return self.at_hand.pop(at)
        return None

    def plans(self, connection: "Connection") -> Plans:
        """How it plans now."""
        return "once" if connection.get_server_pid() in self._once else "values"

    async def _planning(self, connection: "Connection", plans: Plans) -> "Connection":
        """The connection, that from now on plans so."""
        if self.plans(connection) != plans:
            process = connection.get_server_pid()
            self._once.add(process)  # before: where this is cut off, the server may have done it all the same
            try:
                await connection.execute(f"SET plan_cache_mode = {PLAN_CACHE_MODE[plans]}")
            except BaseException:
                await self.give(connection, whole=False)
                raise
            if plans == "values":
                self._once.discard(process)
        return connection

    async def take(self, timeout_s: float | None, plans: Plans) -> "Connection":
        async with asyncio.timeout(timeout_s):
            while True:
                connection = self._other() or await self._next()
                if not lost(connection):
                    return await self._planning(connection, plans)
                await self.give(connection, whole=False)

    def _other(self) -> "Connection | None":
        """One at hand that is lost, to be looked after; or one that plans otherwise, where the pool has no other."""
        for at, connection in enumerate(self.at_hand):
            if lost(connection):
                return self.at_hand.pop(at)
        return self.at_hand.pop() if self.at_hand and not self._pool_has() else None

    def _pool_has(self) -> bool:
        return self.pool.get_idle_size() > 0 or self.pool.get_size() < self.pool.get_max_size()

    async def _next(self) -> "Connection":
        """From the pool while it has any; else from who gives one back."""
        if not (self._closing or self._pool_has()):
            connection = await self._given()
            if connection is not None:
                return connection
        self._at_pool += 1
        try:
            return await self.pool.acquire()
        except BaseException:
            self._tell(None)  # where there is no server, nobody else will
            raise
        finally:
            self._at_pool -= 1

    async def _given(self) -> "Connection | None":
        given: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self.waiting.append(given)
        try:
            return await given
        except asyncio.CancelledError:
            if given.cancelled():
                if given in self.waiting:
                    self.waiting.remove(given)
            elif (connection := given.result()) is None:
                self._tell(None)
            else:
                await self.give(connection)
            raise

    async def give(self, connection: "Connection", *, whole: bool = True) -> None:
        """Give back what was lent. whole: no error was left behind."""
        if whole and self._keeps(connection):
            return
        try:
            await self.pool.release(connection)
        finally:
            self._tell(None)

    def _tell(self, connection: "Connection | None") -> bool:
        """Whether somebody waited."""
        while self.waiting:
            given = self.waiting.popleft()
            if not given.done():
                given.set_result(connection)
                return True
        return False

    def _keeps(self, connection: "Connection") -> bool:
        """Whether it was lent again or kept at hand; else it goes to the pool."""
        self._loans += 1
        if self._closing or self._at_pool or self._loans % LOANS_MAX == 0 or _unfit(connection):
            return False
        if self._tell(connection):
            return True
        if len(self.at_hand) >= AT_HAND_MAX:
            return False
        self.at_hand.append(connection)
        return True

    async def close(self) -> None:
        """Give back what is at hand; what is still lent follows when its loan ends, as pool.close() waits for."""
        self._closing = True
        while self.at_hand:
            await self.pool.release(self.at_hand.pop())
        await self.pool.close()


def lost(connection: "Connection | asyncpg.Connection[Any]") -> bool:
    """The server ended it. The pool takes a connection back at once when that happens, whoever holds it."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def _unfit(connection: "Connection") -> bool:
    """It was taken back by the pool, or a transaction is open. Whether it lives is asked when it is lent again."""
    try:
        return bool(connection.is_in_transaction())
    except asyncpg.InterfaceError:
        return True


class Loan:
    """One acquisition, used once."""

    __slots__ = ("_connection", "_hand", "_plans", "_timeout_s")

    def __init__(self, hand: Hand, timeout_s: float | None, plans: Plans = "values") -> None:
        self._hand = hand
        self._timeout_s = timeout_s
        self._plans = plans
        self._connection: Connection | None = None

    async def __aenter__(self) -> "Connection":
        self._connection = self._hand.at_once(self._plans) or await self._hand.take(self._timeout_s, self._plans)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None, "a loan ends after it began"
        await self._hand.give(connection, whole=error is None)
