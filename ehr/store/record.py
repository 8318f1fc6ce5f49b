"""The record: what every door and every task holds to reach the store.

run      one transaction, run anew from its first statement when it loses a race; `work` builds its state afresh each
         time, because a retry that goes on with half-used state answers 200 for what was never committed
         (a fault of a well-known server, its pull request 9811)
reading  statements without a transaction around them, for reads; within a transaction, that one
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from copy import copy
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from ehr import limits
from ehr.access.policy import AccessPredicate, Caller
from ehr.clock import Clock, SystemClock
from ehr.database.connection import Connection
from ehr.database.engine import Database
from ehr.database.hand import Plans
from ehr.errors import Busy, NotSupported
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameters
from ehr.index.extract import Extractor
from ehr.index.hashing import Hasher
from ehr.settings import Settings
from ehr.store import declarations, faults
from ehr.store.body import BodyCodec
from ehr.store.counts import Counts
from ehr.store.profiles import Profiles
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Before, Version

if TYPE_CHECKING:
    from ehr.database.engine import Installation

T = TypeVar("T")

RETRY_FIRST_S: Final = 0.01
RETRY_MAX_S: Final = 0.5


class Follower(Protocol):
    """Acts inside the transaction of a write: after each create, update or delete that changed something.

    types   the resource types it is told of
    before  what an update replaces; None where nothing was there, or where it is not known
    """

    @property
    def types(self) -> frozenset[str]: ...

    async def written(
        self, uow: UnitOfWork, version: Version, tree: Mapping[str, Any] | None, before: Before | None = None
    ) -> None: ...

    async def written_first(self, uow: UnitOfWork, many: Sequence[tuple[Version, Mapping[str, Any]]]) -> None:
        """written for many first versions of its types, stored together by an import."""
        ...


class Matcher(Protocol):
    """Search criteria → ids of current resources; ehr.search stands behind it, wired by ehr.record.

    source  only resources of this facility; None for all
    known   the search parameters there are
    """

    async def __call__(
        self,
        connection: Connection,
        type_name: str,
        criteria: Sequence[tuple[str, str]],
        access: AccessPredicate,
        *,
        source: int | None,
        limit: int,
        known: Parameters = parameters.R4,
    ) -> list[str]: ...


class Record:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        clock: Clock | None = None,
        followers: Sequence[Follower] = (),
        matcher: Matcher | None = None,
        bodies: BodyCodec | None = None,
    ) -> None:
        self._uow: UnitOfWork | None = None
        self.database = database
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.followers = tuple(followers)
        self.followed = frozenset[str]().union(*(follower.types for follower in followers))
        self.matcher = matcher
        self.bodies = bodies or BodyCodec()
        self.installation: Installation = database.installation
        self.hasher = Hasher(database.installation.hash_key)
        self.extractor = Extractor(self.hasher)
        self.profiles = Profiles()
        self.counts = Counts()
        self.parameters = parameters.R4
        self._served: declarations.Served = ()

    async def learn_parameters(self, connection: Connection | None = None) -> bool:
        """Read what search parameters this installation has added; whether that is news."""
        if connection is None and self._uow is not None:
            connection = self._uow.connection
        if connection is None:
            async with self.database.acquire(timeout_s=limits.statement_s) as own:
                return await self.learn_parameters(own)
        found = await declarations.load(connection)
        news = found.version > self.extractor.version or found.served != self._served
        if found.version > self.extractor.version:
            self.extractor = self.extractor.revised(found.indexed, found.version)
        if news and found.version == self.extractor.version:
            self.parameters, self._served = found.parameters, found.served
        return news

    def within(self, uow: UnitOfWork) -> "Record":
        """The record inside one transaction: what reads sees what the transaction wrote, and no other one is begun."""
        inside = copy(self)
        inside._uow = uow
        return inside

    def unit_of_work(self, caller: Caller) -> UnitOfWork:
        """One transaction, tried once."""
        return UnitOfWork(self, caller)

    def reading(self, caller: Caller, *, plans: Plans = "values") -> AbstractAsyncContextManager[UnitOfWork]:
        """Reads without a transaction around them; a read and its audit row are one statement."""
        if self._uow is not None:
            return nullcontext(self._uow)
        return UnitOfWork(self, caller, reading=True, plans=plans)

    async def write(self, caller: Caller, work: Callable[[UnitOfWork], Awaitable[T]]) -> T:
        """run, for work that writes resources: the store's statements are planned once a connection."""
        return await self.run(caller, work, plans="once")

    async def run(self, caller: Caller, work: Callable[[UnitOfWork], Awaitable[T]], *, plans: Plans = "values") -> T:
        """One transaction; tried again, with jitter and a bound, when another one got in its way."""
        if self._uow is not None:
            raise NotSupported("this is not served inside a transaction; ask for it by itself, or in a batch")
        for attempt in range(limits.database_retries_max + 1):
            try:
                async with UnitOfWork(self, caller, plans=plans) as uow:
                    return await work(uow)
            except Exception as error:
                if not faults.again(error):
                    raise
                if isinstance(error, faults.IndexChanged):
                    await self.learn_parameters()
                if attempt == limits.database_retries_max:
                    raise Busy("other writers hold this resource; send the same request again") from error
            pause_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2**attempt)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        await self.database.close()
