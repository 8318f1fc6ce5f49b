"""A worker of the synchronisation that SIGKILL ends at its n-th transaction: python -m tests.insurance.dying …

In:      database URL, insurer URL, n, "open" (before the commit) or "committed"
Out:     never an answer; exit status 0 only where the round was over before its n-th transaction
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ehr.access.policy import Caller
from ehr.database.engine import Database
from ehr.database.hand import Plans
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync.schedule import run_sync

T = TypeVar("T")


class Dying(Record):
    """A record whose process dies in the middle of, or right after, a transaction."""

    def __init__(self, living: Record, step: int, *, committed: bool) -> None:
        self.__dict__.update(living.__dict__)
        self._left, self._committed = step, committed

    async def run(self, caller: Caller, work: Callable[[UnitOfWork], Awaitable[T]], *, plans: Plans = "values") -> T:
        self._left -= 1
        dies = self._left == 0

        async def dying(uow: UnitOfWork) -> T:
            result = await work(uow)
            if dies and not self._committed:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        result = await super().run(caller, dying, plans=plans)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


async def main(database_url: str, insurer_url: str, step: str, moment: str) -> None:
    settings = Settings(insurer_url=insurer_url)
    database = await Database.open(database_url, connections_max=4)
    await run_sync(Dying(Record(database, settings), int(step), committed=moment == "committed"), settings)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
