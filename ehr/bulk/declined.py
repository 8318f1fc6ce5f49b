"""Lines that only their write shows to be refused: a number or code is taken, a definition is the server's own.

In:      a transaction that is looking for them, line by line; it is not meant to be committed when it finds one
Out:     Declined: all of them at once
Why so:  together lines are written ten times faster, so first they are; where something is refused, the lines are tried
         one by one, each in a savepoint, and then the others together again. To begin anew after each refused line
         took hours where a facility sends all its Patients a second time under other ids
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ehr.bulk.prepare import Ready, Refusal
from ehr.database.connection import Connection
from ehr.errors import Conflicted, Refused
from ehr.store import faults


class Declined(Exception):
    """The part is to be stored without these lines."""

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__(f"{len(refusals)} lines")
        self.refusals = refusals


class Trial:
    """One attempt that tries each line by itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._refusals: list[Refusal] = []

    @asynccontextmanager
    async def of(self, one: Ready) -> AsyncIterator[None]:
        """What is refused within is refused of this line, and leaves nothing."""
        await self._connection.execute("savepoint line")
        try:
            yield
        except (Refused, Conflicted) as error:
            if faults.again(error):
                raise
            await self._connection.execute("rollback to line")
            self._refusals.append(Refusal(one.line, one.content, tuple(error.issues)))
        await self._connection.execute("release line")

    def end(self) -> None:
        """Refuse what was found."""
        if self._refusals:
            raise Declined(self._refusals)
