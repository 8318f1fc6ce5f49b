"""A pool of connections → the same pool with the last used connections kept at hand.

In:      asyncpg's pool
Out:     async with Loan(hand, timeout_s) as connection
Why:     asyncpg's pool makes a proxy, a task and a timer for every acquisition: 45 µs, as much as a statement. A
         connection that was given back whole is lent again without any of them
Keeps:   nobody waits while a connection is at hand: whoever acquires gets it first, and once somebody waits for the
         pool, what is given back goes there. Whoever left an error or an open transaction behind gives to the pool,
         which looks after such connections
Limits:  AT_HAND_MAX connections; every LOANS_MAX loans one goes through the pool, which renews old ones
"""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[Any]

AT_HAND_MAX: Final = 8
LOANS_MAX: Final = 1_000


class Hand:
    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self.pool = pool
        self.at_hand: list[Connection] = []
        self.waiting = 0
        self._loans = 0
        self._closing = False

    def at_once(self) -> "Connection | None":
        """The last one that was given back, where it lives."""
        if self.at_hand and not _lost(self.at_hand[-1]):
            return self.at_hand.pop()
        return None

    async def take(self, timeout_s: float | None) -> "Connection":
        while self.at_hand:
            connection = self.at_hand.pop()
            if not _lost(connection):
                return connection
            await self.pool.release(connection)
        self.waiting += 1
        try:
            return await self.pool.acquire(timeout=timeout_s)
        finally:
            self.waiting -= 1

    def keeps(self, connection: "Connection") -> bool:
        """Whether it was kept at hand; else it goes to the pool."""
        self._loans += 1
        if (
            self.waiting
            or self._closing
            or len(self.at_hand) >= AT_HAND_MAX
            or self._loans % LOANS_MAX == 0
            or _unfit(connection)
        ):
            return False
        self.at_hand.append(connection)
        return True

    async def close(self) -> None:
        """Give back what is at hand; what is still lent follows when its loan ends, as pool.close() waits for."""
        self._closing = True
        while self.at_hand:
            await self.pool.release(self.at_hand.pop())
        await self.pool.close()


def _lost(connection: "Connection") -> bool:
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

    __slots__ = ("_connection", "_hand", "_timeout_s")

    def __init__(self, hand: Hand, timeout_s: float | None) -> None:
        self._hand = hand
        self._timeout_s = timeout_s
        self._connection: Connection | None = None

    async def __aenter__(self) -> "Connection":
        self._connection = self._hand.at_once() or await self._hand.take(self._timeout_s)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None, "a loan ends after it began"
        if error is not None or not self._hand.keeps(connection):
            await self._hand.pool.release(connection)
