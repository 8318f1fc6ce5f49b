"""A database URL → a pool of connections set for this record, and SQLAlchemy statements → SQL with $n for them.

Why asyncpg directly: an SQLAlchemy execution costs 350 to 700 µs more a request; SQLAlchemy compiles, asyncpg runs.
Why planned for values: with ORDER BY rid LIMIT n, a plan for all values walks the rid index, 30 to 180 times slower.
Why an own reset: asyncpg's costs a round trip on every release, and no path here sets session state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import asyncpg
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from ehr import limits
from ehr.database.hand import PLAN_CACHE_MODE, Hand, Loan, Plans
from ehr.database.partitions import GIN_PENDING
from ehr.database.together import Together
from ehr.errors import Unavailable

DIALECT = asyncpg_dialect.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

SESSION: Mapping[str, str] = {
    "plan_cache_mode": PLAN_CACHE_MODE["values"],
    "gin_pending_list_limit": GIN_PENDING,
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": str(int(limits.statement_s * 1000)),
    "idle_in_transaction_session_timeout": str(int(limits.transaction_idle_s * 1000)),
    "application_name": "city-ehr",
}


STATEMENTS_MAX: Final = 400
"""Prepared by a connection: those of writes, and of a dozen searches of each type."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The one row made by the first migration.

    hash_key    seeds every keyed 64-bit hash of the index
    cursor_key  signs page cursors
    index_format  what all rows were indexed in at least when this process began (ehr.index.formats)
    """

    hash_key: int
    cursor_key: bytes
    index_format: int


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with $1 … $n. names[i] is the parameter behind $i+1; constants are the values the statement itself holds."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]


class Database:
    def __init__(self, url: str, pool: "asyncpg.Pool[asyncpg.Record]", installation: Installation) -> None:
        self.url, self.pool, self.installation = url, pool, installation
        self._hand = Hand(pool)
        self.together = Together()

    @classmethod
    async def open(cls, url: str, *, connections_max: int) -> Self:
        """Connect to a migrated database."""
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=connections_max,
            reset=_reset,
            server_settings=dict(SESSION),
            statement_cache_size=STATEMENTS_MAX,
        )
        try:
            row = await pool.fetchrow("select hash_key, cursor_key, index_format from installation")
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            await pool.close()
            raise Unavailable("the database is not migrated: run ehr db upgrade") from error
        if row is None:
            await pool.close()
            raise Unavailable("the table installation is empty: the migration did not finish")
        return cls(url, pool, Installation(*row))

    def acquire(self, *, timeout_s: float | None = None, plans: Plans = "values") -> Loan:
        """async with database.acquire() as connection"""
        return Loan(self._hand, timeout_s, plans)

    async def close(self) -> None:
        await self._hand.close()


async def _reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Only a transaction left open needs undoing; whether one is open is known without asking the server."""
    if connection.is_in_transaction():
        await connection.execute("rollback")


def compiled(statement: ClauseElement) -> Statement:
    """Compile for asyncpg. Parameters without a value are left to whoever runs it, as often as it is run."""
    result = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    assert isinstance(result, SQLCompiler), "DML and queries are compiled here, not DDL"
    names: Sequence[str] = result.positiontup or ()
    processors: Mapping[str, Any] = result._bind_processors  # what SQLAlchemy itself runs when it executes
    constants = {}
    for name in names:
        if not result.binds[name].required:
            given = result.binds[name].effective_value
            constants[name] = processors[name](given) if name in processors else given
    return Statement(str(result), tuple(names), constants)
