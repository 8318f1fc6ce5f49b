"""A record with one registered facility, the pipeline over it, and a listener on a port of its own."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import pytest

from adapters.mllp.client import MllpClient
from adapters.mllp.server import MllpServer
from adapters.pipeline import Pipeline
from ehr.access.policy import Caller
from ehr.clock import ICT, SystemClock
from ehr.ids import new_id
from ehr.intake import Intake
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.facility import add_facility

FACILITY = "01Z01"
SENT: Final = datetime(2026, 11, 24, tzinfo=ICT)
"""When all messages of these tests were written, whatever the day on which they run."""


class _Afterwards(SystemClock):
    def now(self) -> datetime:
        return max(super().now(), SENT)


@pytest.fixture
async def record(settings: Settings, database_url: str) -> AsyncIterator[Record]:
    """The record after the messages were sent."""
    opened = await open_record(settings, database_url, clock=_Afterwards())
    yield opened
    await opened.close()


async def register(record: Record, code: str) -> int:
    """A facility row with its Organization, as the registration of the city writes them."""
    organization_id = new_id()
    tree = {
        "resourceType": "Organization",
        "id": organization_id,
        "identifier": [{"system": "http://fhir.hl7.org.vn/core/sid/ma-cskcb", "value": code}],
        "name": f"Trạm Y tế {code}",
    }
    async with record.unit_of_work(Caller.system("test registration")) as uow:
        await uow.resources.create("Organization", None, tree, id=organization_id)
        return await add_facility(uow.connection, code, organization_id=organization_id)


@pytest.fixture
async def pipeline(record: Record) -> Pipeline:
    await register(record, FACILITY)
    return Pipeline(Intake(record))


@pytest.fixture
async def server(pipeline: Pipeline) -> AsyncIterator[MllpServer]:
    listener = MllpServer(pipeline)
    await listener.start()
    yield listener
    await listener.stop()


@pytest.fixture
async def client(server: MllpServer) -> AsyncIterator[MllpClient]:
    opened = MllpClient("127.0.0.1", server.port)
    yield opened
    await opened.close()
