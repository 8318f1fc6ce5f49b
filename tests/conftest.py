"""One PostgreSQL for each test worker, one migrated template in it, and a fresh database for whoever asks.

xdist              a transaction in any database of a server holds back the change feed of all: workers share no server
memory             a database is a thousand files that soon go again, and ext4, before it gives an inode, steps over
                   all that went in the last minutes: 1.1 s and 290 ms of CPU a database, against 110 ms and 24 ms.
                   A kill -9 takes from a disk no more than from memory: what was written is the kernel's
EHR_DATABASE_URL   names an outside server instead: databases are made and dropped beside the one it names.
                   It is for one worker: make test WORKERS=0
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import psutil
import pytest
from pydantic import SecretStr

from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.database.engine import Database
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

T = TypeVar("T")

MEMORY = Path("/dev/shm")
ROOMY = 4 * 1024**3
"""Free bytes from which folders are made there: a worker's server has some 100 MB, a city of its own a few hundred."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end outside any loop: fixtures of a session or module are not asynchronous."""
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL where databases can be made; template is a migrated one."""

    url: str
    template: str

    def named(self, database: str) -> str:
        """Not by urllib alone: it would drop the empty host of a unix socket URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")

    async def create(self, *, template: str = "template0") -> str:
        name = f"ehr_test_{uuid4().hex}"
        await self.execute(f"create database {name} template {template} strategy file_copy")  # half the time
        return name

    async def drop(self, name: str) -> None:
        await self.execute(f"drop database if exists {name} with (force)")

    async def execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


def folder_for(content: str) -> Path:
    """A new folder that the unprivileged account can enter (pytest's own are closed to it), in memory where that is
    roomy: containers often give /dev/shm 64 MB, and other systems none.
    """
    roomy = MEMORY.is_dir() and min(psutil.virtual_memory().available, shutil.disk_usage(MEMORY).free) > ROOMY
    made = Path(tempfile.mkdtemp(prefix=f"ehr-{content}-", dir=MEMORY if roomy else None))
    made.chmod(0o755)
    return made


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    folder = folder_for("test")
    outside = Settings().database_url
    embedded = EmbeddedPostgres(folder, Settings().postgres_bin, durable=False)
    url = outside.get_secret_value() if outside else run(embedded.start())
    server = Server(url, f"ehr_template_{uuid4().hex}")
    try:
        run(server.execute(f"create database {server.template}"))
        run(migrate.upgrade(server.named(server.template)))
        yield server
    finally:
        run(server.drop(server.template))
        run(embedded.stop())
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(postgres_server: Server) -> Iterator[str]:
    """A migrated database of this test alone."""
    name = run(postgres_server.create(template=postgres_server.template))
    yield postgres_server.named(name)
    run(postgres_server.drop(name))


@pytest.fixture(scope="module")
def module_database_url(postgres_server: Server) -> Iterator[str]:
    """A migrated database shared by the tests of one file."""
    name = run(postgres_server.create(template=postgres_server.template))
    yield postgres_server.named(name)
    run(postgres_server.drop(name))


@pytest.fixture
def empty_database_url(postgres_server: Server) -> Iterator[str]:
    """A database with nothing in it."""
    name = run(postgres_server.create())
    yield postgres_server.named(name)
    run(postgres_server.drop(name))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, connections_max=10)
    yield opened
    await opened.close()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    made = folder_for("data")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data beside the checkout (or EHR_SHARED); tests that need it skip where it is absent."""
    place = Path(os.environ.get("EHR_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
    if not place.is_dir():
        pytest.skip(f"no shared data at {place}")
    return place


@pytest.fixture
def settings(data_dir: Path, database_url: str) -> Settings:
    """Settings of this test alone: nothing of the environment, free ports, a folder and a database of its own."""
    return Settings(data_dir=data_dir, database_url=SecretStr(database_url), port=0, mllp_port=0, broker_url=None)


@pytest.fixture
async def record(settings: Settings, database_url: str) -> AsyncIterator[Record]:
    """The record as every process opens it, on a database of this test alone."""
    opened = await open_record(settings, database_url)
    yield opened
    await opened.close()
