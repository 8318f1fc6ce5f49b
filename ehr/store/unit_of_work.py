"""One transaction of one caller: versions, index, claims, feed, outbox and audit together, or none. The only commit.

In:      the Record and a Caller
Out:     .resources .claims .outbox .audit on one connection; committed when the block ends without an error
Errors:  Busy, Unavailable   the database refused or was lost; everything else passes as it is
Reading: with reading=True there is no BEGIN: each statement is a transaction of its own, and writing is refused.
         A read and its audit row are one statement, so they need no more
Plans:   values  each statement is planned for its values: searches must be, or they run 30 to 180 times slower
         once    planned once a connection: the store's own statements name their rows by key, and planning one over
                 all partitions takes 3 ms where running it takes 0.3. Of reading, the session itself is set so
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from ehr import limits
from ehr.access.policy import AccessPredicate, Caller
from ehr.audit.append import Audit
from ehr.clock import Clock
from ehr.database.connection import Connection, Row
from ehr.database.hand import PLAN_CACHE_MODE, Plans
from ehr.index import term
from ehr.index.term import Term
from ehr.store import faults
from ehr.store.claims import Claims
from ehr.store.outbox import Outbox
from ehr.store.resources import Resources

if TYPE_CHECKING:
    from ehr.store.record import Record

_PLAN: Final[dict[Plans, str]] = {
    plans: f"SET LOCAL plan_cache_mode = {mode}" for plans, mode in PLAN_CACHE_MODE.items()
}
_BEGIN: Final[dict[Plans, str]] = {"values": "BEGIN", "once": f"BEGIN; {_PLAN['once']}"}
"""A transaction has a session that plans for values; the two statements of once go in one message."""


class UnitOfWork:
    """Used once, by one task: `async with record.unit_of_work(caller) as uow`."""

    connection: Connection
    access: AccessPredicate
    declares: bool
    """It has changed the table of search parameters itself: the backfill begins after its commit."""

    def __init__(self, record: "Record", caller: Caller, *, reading: bool = False, plans: Plans = "values") -> None:
        self.record = record
        self.caller = caller
        self.access = caller.access
        self.reading = reading
        self._plans: Plans = plans
        self._loan = record.database.acquire(timeout_s=limits.statement_s, plans=plans if reading else "values")
        self.declares = False
        self._terms: set[Term] = set()
        self._begun = False
        self._entered = False

    async def __aenter__(self) -> Self:
        assert not self._entered, "a unit of work is used once"
        self._entered = True
        try:
            self.connection = await self._loan.__aenter__()
            if not self.reading:
                await self._begin()
                self.now = _now(self.record.clock)
        except faults.TRANSLATED as error:
            raise faults.refused(error) or error from error
        return self

    # What follows is made when it is first asked for: most reads need one of them.

    @cached_property
    def now(self) -> datetime:
        """When it began; without a transaction, when that was first asked."""
        return _now(self.record.clock)

    @property
    def resources(self) -> Resources:
        return Resources(self, self.caller, self.access)

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.connection)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.connection)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self.connection, self.caller)

    def as_city(self, reason: str) -> Resources:
        """The same transaction, acting as the city itself: for what a write brings with it (a Person, a Provenance)."""
        city = Caller.system(reason)
        return Resources(self, city, city.access)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = error
        try:
            if self._begun:
                await self._end(error)
        except faults.TRANSLATED as lost:
            ended = lost
            if error is None:
                raise faults.refused(lost) or lost from lost
        except BaseException as lost:
            ended = lost
            raise
        finally:
            await self._loan.__aexit__(None, ended, None)
        refusal = faults.refused(error) if error is not None else None
        if refusal is not None and refusal is not error:
            raise refusal from error

    async def fetch(self, sql: str, values: Sequence[Any], number: int) -> Sequence[Row]:
        """Rows of a statement that is planned once; where it is all there is to do, asked with others (Together)."""
        if self.reading and self._plans == "once":
            return await self.record.database.together.fetch(self.connection, sql, values, number)
        return await self.connection.fetch(sql, *values)

    async def keep(self, terms: Collection[Term]) -> None:
        """Terms of what is written in here; the extractor learns of them when they are committed."""
        await term.keep(self.connection, terms)
        self._terms.update(terms)

    async def plan(self, plans: Plans) -> None:
        """How the statements that follow in this transaction are planned."""
        if self._begun and plans != self._plans:
            await self.connection.execute(_PLAN[plans])
            self._plans = plans

    async def _begin(self) -> None:
        try:
            await self.connection.execute(_BEGIN[self._plans])
        except BaseException as error:
            await self._loan.__aexit__(None, error, None)
            raise
        self._begun = True

    async def _end(self, error: BaseException | None) -> None:
        if error is None:
            ended = await self.connection.execute("COMMIT")
            assert ended == "COMMIT", "an error of the database was swallowed inside the transaction"
            if self._terms:
                self.record.extractor.keep(self._terms)
        elif not self.connection.is_closed():
            await self.connection.execute("ROLLBACK")


def _now(clock: Clock) -> datetime:
    """To the millisecond, as instants are written."""
    moment = clock.now()
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
