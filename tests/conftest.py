"""One PostgreSQL for the whole test run, one migrated template, and a fresh database for whoever asks.

EHR_DATABASE_URL   names an outside server instead: databases are made and dropped beside the one it names
xdist              workers share the server: whoever needs it first starts it, and stops it when the others have left
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.database.engine import Database
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record

T = TypeVar("T")


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
        await self.execute(f"create database {name} template {template}")
        return name

    async def drop(self, name: str) -> None:
        await self.execute(f"drop database if exists {name} with (force)")

    async def execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


async def _ensure_template(server: Server) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        if not await connection.fetchval("select 1 from pg_database where datname = $1", server.template):
            making = f"{server.template}_making"
            await connection.execute(f"drop database if exists {making} with (force)")
            await connection.execute(f"create database {making}")
            await migrate.upgrade(server.named(making))
            await connection.execute(f"alter database {making} rename to {server.template}")
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    run_id = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid4().hex)[:12]
    shared = Path(tempfile.gettempdir()) / f"ehr-test-{run_id}"
    shared.mkdir(mode=0o755, exist_ok=True)
    outside = Settings().database_url
    embedded = EmbeddedPostgres(shared, Settings().postgres_bin, durable=False)
    with (shared / "users.lock").open("ab") as users, (shared / "template.lock").open("ab") as making:
        fcntl.flock(users, fcntl.LOCK_SH)
        url = outside.get_secret_value() if outside else run(embedded.start())
        server = Server(url, f"ehr_template_{run_id}")
        try:
            fcntl.flock(making, fcntl.LOCK_EX)
            run(_ensure_template(server))
            fcntl.flock(making, fcntl.LOCK_UN)
            yield server
        finally:
            last = _leave(server, embedded, users, outside=outside is not None)
    if last:
        shutil.rmtree(shared, ignore_errors=True)


def _leave(server: Server, embedded: EmbeddedPostgres, users: IO[bytes], *, outside: bool) -> bool:
    """The owner of the embedded server waits until all workers left; of an outside one the last worker cleans up."""
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX if embedded.owned else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if outside:
        run(server.drop(server.template))
    last = outside or embedded.owned
    run(embedded.stop())
    return last


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
    """A data folder that the unprivileged account can enter (pytest's own are closed to it)."""
    made = Path(tempfile.mkdtemp(prefix="ehr-data-"))
    made.chmod(0o755)
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
