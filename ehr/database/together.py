"""What several ask in the same words at the same time → one message to the database, and one commit.

In:      SQL that is planned once, its values, and where among them a number stands that each of its rows ends with
Out:     the rows of who asked them
How:     while one asks, who comes with the same SQL waits. Then the first of those asks for all, on its connection: so
         nobody waits for company, and the more come at a time, the more go together
Keeps:   what is asked together is committed together: who is shown anything has its audit row. Where that fails, each
         asks by itself, and is told what is its own
Why:     a read waits for the commit of its audit row; a process that waited wakes with cold caches (docs/adr/0109)
Limits:  TOGETHER_MAX at a time; the rest is asked next
Errors:  those of asyncpg
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from ehr.database.connection import Connection, Row
from ehr.database.hand import lost

TOGETHER_MAX: Final = 16
"""As many as one connection answers in about a commit's time; those behind it wait as long."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """Told when it is its turn: its rows are there; or it is to ask for the others, too; or, with neither, alone."""

    values: Sequence[Any]
    told: asyncio.Future[None]
    rows: list[Row] | None = None
    others: list["_Waiting"] | None = None

    def tell(self) -> None:
        if not self.told.done():
            self.told.set_result(None)


class Together:
    """One for each pool. Connections that take part plan once (ehr.database.hand)."""

    def __init__(self) -> None:
        self._asking: dict[str, deque[_Waiting]] = {}
        """SQL that somebody asks just now, and who waits to ask the same."""

    async def fetch(self, connection: Connection, sql: str, values: Sequence[Any], number: int) -> Sequence[Row]:
        """The rows for these values. number: the place of what is put in to tell rows apart."""
        waiting = self._asking.get(sql)
        if waiting is None:
            self._asking[sql] = deque()
            others: list[_Waiting] = []
        else:
            turn = await self._turn(waiting, sql, values)
            if turn.rows is not None:
                return turn.rows
            if turn.others is None:
                return await connection.fetch(sql, *values)
            others = turn.others
        try:
            return await _asked(connection, sql, values, number, others)
        finally:
            self._next(sql)

    async def _turn(self, waiting: deque[_Waiting], sql: str, values: Sequence[Any]) -> _Waiting:
        one = _Waiting(values, asyncio.get_running_loop().create_future())
        waiting.append(one)
        try:
            await one.told
        except asyncio.CancelledError:
            if one.others is not None:  # it was to ask for them: the first of them does
                waiting.extendleft(reversed(one.others))
                self._next(sql)
            raise
        return one

    def _next(self, sql: str) -> None:
        """The first who waits asks for all who wait; where nobody does, whoever comes next asks at once."""
        waiting = self._asking[sql]
        here: list[_Waiting] = []
        while waiting and len(here) < TOGETHER_MAX:
            one = waiting.popleft()
            if not one.told.done():  # else it was given up
                here.append(one)
        if not here:
            del self._asking[sql]
            return
        here[0].others = here[1:]
        here[0].tell()


async def _asked(
    connection: Connection, sql: str, values: Sequence[Any], number: int, others: Sequence[_Waiting]
) -> Sequence[Row]:
    """One's own rows; the others are told theirs."""
    if not others:
        return await connection.fetch(sql, *values)
    found: list[list[Row]] = [[] for _ in range(len(others) + 1)]
    try:
        for row in await connection.fetchmany(sql, list(_numbered([values, *(one.values for one in others)], number))):
            found[row[-1]].append(row)
        for one, rows in zip(others, found[1:], strict=True):
            one.rows = rows
    except asyncpg.PostgresError:  # whose it is cannot be told: everybody asks alone
        if lost(connection):
            raise
        return await connection.fetch(sql, *values)
    finally:
        for one in others:
            one.tell()
    return found[0]


def _numbered(asked: Sequence[Sequence[Any]], at: int) -> Iterator[list[Any]]:
    for number, values in enumerate(asked):
        yield [*values[:at], number, *values[at + 1 :]]
