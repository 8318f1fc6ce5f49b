"""A record on a database of its own, opened as the composition roots open it."""

from collections.abc import AsyncIterator

import pytest

from ehr.access.policy import Caller
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record


@pytest.fixture
async def record(database_url: str) -> AsyncIterator[Record]:
    opened = await open_record(Settings(pool_connections_max=40), database_url)
    yield opened
    await opened.close()


@pytest.fixture
def city() -> Caller:
    return Caller.system("test")
