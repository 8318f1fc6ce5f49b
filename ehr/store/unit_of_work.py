"""One transaction of one caller: versions, index, claims, feed, outbox and audit together, or none. The only commit.

In:      the Record and a Caller
Out:     .resources .claims .outbox .audit on one connection; committed when the block ends without an error
Errors:  Busy, Unavailable   the database refused or was lost; everything else passes as it is
Reading: with reading=True there is no BEGIN: each statement is a transaction of its own, and writing is refused.
         A read and its audit row are one statement, so they need no more
"""

from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from asyncpg.transaction import Transaction

from ehr import limits
from ehr.access.policy import AccessPredicate, Caller, predicate
from ehr.audit.append import Audit
from ehr.store import faults
from ehr.store.claims import Claims
from ehr.store.connection import Connection
from ehr.store.outbox import Outbox
from ehr.store.resources import Resources
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.record import Record


class UnitOfWork:
    """Used once, by one task: `async with record.unit_of_work(caller) as uow`."""

    connection: Connection
    access: AccessPredicate
    now: datetime
    resources: Resources
    claims: Claims
    outbox: Outbox
    audit: Audit
    changed: list[Version]
    """Versions this transaction has made, in their order."""

    def __init__(self, record: "Record", caller: Caller, *, reading: bool = False) -> None:
        self.record = record
        self.caller = caller
        self.access = predicate(caller)
        self.reading = reading
        self._stack = AsyncExitStack()
        self._transaction: Transaction | None = None
        self._entered = False

    async def __aenter__(self) -> Self:
        assert not self._entered, "a unit of work is used once"
        self._entered = True
        try:
            acquired = self.record.database.acquire(timeout_s=limits.statement_s)
            self.connection = await self._stack.enter_async_context(acquired)
            if not self.reading:
                self._transaction = self.connection.transaction()
                await self._transaction.start()
        except faults.TRANSLATED as error:
            await self._stack.aclose()
            raise faults.refused(error) or error from error
        except BaseException:
            await self._stack.aclose()
            raise
        moment = self.record.clock.now()
        self.now = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        self.changed = []
        self.outbox = Outbox(self.connection)
        self.audit = Audit(self.connection, self.caller)
        self.claims = Claims(self.connection)
        self.resources = Resources(self, self.caller)
        return self

    def as_city(self, reason: str) -> Resources:
        """The same transaction, acting as the city itself: for what a write brings with it (a Person, a Provenance)."""
        return Resources(self, Caller.system(reason))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._end(error)
        except faults.TRANSLATED as lost:
            if error is None:
                raise faults.refused(lost) or lost from lost
        finally:
            await self._stack.aclose()
        refusal = faults.refused(error) if error is not None else None
        if refusal is not None and refusal is not error:
            raise refusal from error

    async def _end(self, error: BaseException | None) -> None:
        if self._transaction is None:
            return
        if error is None:
            await self._transaction.commit()
        elif not self.connection.is_closed():
            await self._transaction.rollback()
