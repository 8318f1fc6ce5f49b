"""The city's facilities in a real record."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from adapters.facilities.register import in_the_record, register
from adapters.facilities.registry import FACILITIES
from ehr.access.policy import Caller
from ehr.fhir import codec
from ehr.fhir.validate import validate
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.facilities import location, organization
from ehr.store.record import Record

CITY = Caller.system("test")
CLIENTS = "select count(*) from client c join facility f on f.id = c.facility_id where f.feed <> 'hl7v2'"


@pytest.fixture
async def record(database_url: str) -> AsyncIterator[Record]:
    opened = await open_record(Settings(pool_connections_max=4), database_url)
    yield opened
    await opened.close()


async def test_the_whole_city_is_registered_once(record: Record) -> None:
    first = await register(record)
    again = await register(record)
    assert len(first.ids) == 661
    assert again.ids == first.ids
    async with record.database.acquire() as connection:
        kinds = Counter(row["kind"] for row in await connection.fetch("select kind from facility"))
        assert kinds == {"station": 579, "hospital": 42, "centre": 30, "other": 10}
        assert await connection.fetchval("select count(*) from resource where version > 1") == 0
        assert await connection.fetchval(CLIENTS) == len(first.secrets)
    assert first.secrets.keys() == {f.client_id for f in FACILITIES if f.feed != "hl7v2"}
    async with record.reading(CITY) as uow:
        for facility in (FACILITIES[0], FACILITIES[-1]):
            found = await uow.resources.read("Organization", facility.organization_id)
            assert found.body is not None
            assert codec.loads(found.body)["name"] == facility.name
            await uow.resources.read("Location", facility.location_id)


def test_the_resources_of_every_facility_are_valid() -> None:
    codes = {facility.code for facility in FACILITIES}
    for facility in FACILITIES:
        entry = in_the_record(facility, codes)
        assert validate(organization(entry), type_name="Organization") == []
        assert validate(location(entry), type_name="Location") == []
