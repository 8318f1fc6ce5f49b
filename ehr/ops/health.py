"""Say whether this process lives, and whether it can serve.

In:      a database connection and the other parts' own checks (the broker's, by the composition root)
Out:     Readiness: one line a check; ready when every needed one is well
Why:     A SELECT 1 answers on a full disk and on a read-only standby. So readiness writes for real, in a transaction
         that is rolled back. A lost broker costs latency and no work, so it is reported and does not make us unready.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal

import asyncpg

Check = Callable[[], Awaitable[bool]]
State = Literal["ok", "failed"]

CHECK_S: Final = 5.0
_WRITE: Final = "INSERT INTO feed_cursor (reader, xid, seq) VALUES ('readiness ' || pg_backend_pid(), '0', 0)"
_REVISION: Final = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What each check said; needed ones decide."""

    checks: Mapping[str, State]
    ready: bool


async def readiness(
    acquire: Callable[[], AbstractAsyncContextManager[Any]], *, revision: str | None, others: Mapping[str, Check]
) -> Readiness:
    """Run every check at once, each with its deadline. revision is the migration this code was written for."""
    names = ["database", "migrations", *others]
    answers = await asyncio.gather(
        _within(_writes(acquire)),
        _within(_at_revision(acquire, revision)),
        *(_within(check()) for check in others.values()),
    )
    states: dict[str, State] = {name: "ok" if well else "failed" for name, well in zip(names, answers, strict=True)}
    return Readiness(states, states["database"] == "ok" and states["migrations"] == "ok")


async def _within(check: Awaitable[bool]) -> bool:
    """A check that cannot reach its part, or not in time, has failed; anything else is a bug and is raised."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await check
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def _writes(acquire: Callable[[], AbstractAsyncContextManager[Any]]) -> bool:
    async with acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(_WRITE)
        finally:
            await transaction.rollback()
    return True


async def _at_revision(acquire: Callable[[], AbstractAsyncContextManager[Any]], revision: str | None) -> bool:
    async with acquire() as connection:
        found: str | None = await connection.fetchval(_REVISION)
    return found is not None and (revision is None or found == revision)
