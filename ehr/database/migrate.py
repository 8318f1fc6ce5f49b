"""A database at any revision → the newest one.

Order:   the whole upgrade is one transaction under an advisory lock: processes that start together wait for one another
Source:  alembic, "Sharing a Connection across one or more programmatic migration commands"
"""

import functools
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from alembic import command
from ehr.errors import Unavailable

CHECKOUT: Final = Path(__file__).resolve().parents[2] / "alembic"
INSTALLED: Final = ("city-ehr", "alembic", "env.py")
"""The end of the path in share/ that a wheel puts the revisions at: in site-packages the library has the name."""

ADVISORY_LOCK: Final = 0x4548_5231
"""An arbitrary number of ours ("EHR1"), so that only migrations wait for one another."""


@functools.cache
def scripts() -> Path:
    """The folder of the revisions: of the checkout, else of the installed wheel."""
    if (CHECKOUT / "versions").is_dir():
        return CHECKOUT
    for path in metadata.files("city-ehr") or ():
        if path.parts[-len(INSTALLED) :] == INSTALLED:
            return Path(os.path.normpath(path.locate())).parent
    raise Unavailable("the database's revisions (alembic/) are not installed: install the wheel, or use a checkout")


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return made


@functools.cache
def newest() -> str:
    """The revision this program needs. Kept: every revision is loaded to find the last."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    assert head is not None, "there is at least one revision"
    return head


async def current(url: str) -> str | None:
    """The revision the database is at; None before the first."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("select to_regclass('alembic_version')") is None:
            return None
        found: str | None = await connection.fetchval("select version_num from alembic_version")
        return found
    finally:
        await connection.close()


async def upgrade(url: str, revision: str = "head") -> None:
    await _run(url, lambda made: command.upgrade(made, revision))


async def downgrade(url: str, revision: str) -> None:
    await _run(url, lambda made: command.downgrade(made, revision))


async def _run(url: str, order: Callable[[Config], None]) -> None:
    async def connect(*_: object) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(url, command_timeout=None)

    def within(connection: Connection) -> None:
        made = config()
        made.attributes["connection"] = connection
        order(made)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"select pg_advisory_xact_lock({ADVISORY_LOCK})")
            await connection.run_sync(within)
    finally:
        await engine.dispose()
