"""A record on a database of its own, with persons, as the composition roots open it."""

from collections.abc import AsyncIterator

import pytest

from ehr.access.policy import Caller
from ehr.database.engine import Database
from ehr.identity import PersonLinker
from ehr.settings import Settings
from ehr.store.record import Record


@pytest.fixture
async def record(database_url: str) -> AsyncIterator[Record]:
    settings = Settings()
    database = await Database.open(database_url, connections_max=40)
    yield Record(database, settings, followers=[PersonLinker(settings)])
    await database.close()


@pytest.fixture
def city() -> Caller:
    return Caller.system("test")
