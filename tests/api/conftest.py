"""A real HTTP server over a real PostgreSQL, and clients with the rights a test wants."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ehr.access.authenticate import Authenticator, citizen_token, issue_token
from ehr.api.server import HttpServer, run_http
from ehr.app import create_app
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.facility import add_facility

JSON = "application/fhir+json"


@dataclass
class City:
    """A running server, what stands behind it, and clients for it."""

    server: HttpServer
    record: Record
    authenticator: Authenticator
    opened: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def base(self) -> str:
        return self.server.base_url

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """Plain HTTP, so no authorities: to read them takes longer than to start the server."""
        headers = {"Content-Type": JSON} | ({"Authorization": f"Bearer {token}"} if token else {})
        made = httpx.AsyncClient(base_url=self.base, headers=headers, timeout=30, trust_env=False, verify=False)
        self.opened.append(made)
        return made

    def system(self, scope: str = "system/*.cruds", *, facility_id: int = 0, name: str = "clinic") -> httpx.AsyncClient:
        return self.client(issue_token(self.authenticator.tokens, name, scope, facility_id=facility_id))

    def citizen(self, person_id: str) -> httpx.AsyncClient:
        return self.client(citizen_token(self.authenticator.tokens, person_id))


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, port=0, pool_connections_max=6)


@pytest.fixture
def app_options() -> dict[str, Any]:
    """What a test gives create_app beside the record; overridden where a test needs a door or a check."""
    return {}


@asynccontextmanager
async def running(settings: Settings, database_url: str, **options: Any) -> AsyncIterator[City]:
    """A server on a free port, stopped with its clients at the end."""
    record = await open_record(settings, database_url)
    app = create_app(record, settings, **options)
    server = await run_http(app, "127.0.0.1", 0)
    made = City(server, record, app.state.authenticator)
    yield made
    for client in made.opened:
        await client.aclose()
    await server.stop()
    await record.close()


@pytest.fixture
async def city(settings: Settings, database_url: str, app_options: dict[str, Any]) -> AsyncIterator[City]:
    async with running(settings, database_url, **app_options) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_city(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    """One server for a file whose tests only read."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), port=0, pool_connections_max=6)
    async with running(settings, module_database_url) as made:
        yield made


@pytest.fixture
async def hands(settings: Settings, database_url: str) -> AsyncIterator[Record]:
    """Another process beside the server, with its own memory: a worker, or a second server."""
    opened = await open_record(settings, database_url)
    yield opened
    await opened.close()


@pytest.fixture
def client(city: City) -> httpx.AsyncClient:
    """A client that may do everything."""
    return city.system()


@pytest.fixture
async def facilities(city: City) -> list[int]:
    """Two registered facilities."""
    return await two_facilities(city)


async def two_facilities(city: City) -> list[int]:
    async with city.record.database.acquire() as connection:
        return [await add_facility(connection, code, feed="fhir") for code in ("01Z01", "01Z02")]


@contextmanager
def statements(city: City) -> Iterator[Callable[[], list[str]]]:
    """Every SQL statement the pool runs meanwhile, transaction control included; not what the driver asks once a
    connection about the types of arrays."""
    seen: list[str] = []

    def note(query: Any) -> None:
        if not any(words in query.query for words in ("typeinfo_tree", "set_config('jit'")):
            seen.append(query.query)

    pool: Any = city.record.database.pool
    holders = [holder._con for holder in pool._holders if holder._con is not None]
    for connection in holders:
        connection.add_query_logger(note)
    yield lambda: seen
    for connection in holders:
        connection.remove_query_logger(note)
