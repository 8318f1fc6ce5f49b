"""Promise C79: where the audit row cannot be written, nothing of a person is given out, whatever the way of asking."""

from typing import Any

import pytest

from tests.api.conftest import City
from tests.api.mothers import CCCD, observation, patient

CANARY = "Canary-2345"
WAYS = [
    "/Patient/p",
    "/Patient/p/_history/1",
    "/Patient/p/_history",
    "/Patient/_history",
    "/_history",
    "/Patient?family=Canary-2345",
    "/Patient?family:contains=2345&_summary=count",
    "/Observation?patient=p&_include=Observation:subject",
    "/Patient/p/Observation",
    "/Patient/p/$everything",
    "/Patient/p/$summary",
    "/Patient/p/$meta",
    "/Observation/$lastn?patient=p&code=2345-7",
    "/DocumentReference/$docref?patient=p",
    "/Encounter/e/$everything",
    "/Composition/c/$document",
    "/Person",
]


@pytest.mark.parametrize("broken", [False, True])
async def test_no_access_without_its_audit_row(city: City, broken: bool) -> None:
    client = city.system()
    await client.put("/Patient/p", json=patient((CCCD, "001170000001"), family=CANARY, id="p"))
    await client.put("/Observation/o", json=observation("Patient/p", id="o"))
    of = {"subject": {"reference": "Patient/p"}}
    visit = {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"}, **of}
    assert (await client.put("/Encounter/e", json=visit)).status_code == 201
    letter: dict[str, Any] = {
        "resourceType": "Composition",
        "id": "c",
        "status": "final",
        "type": {"text": "x"},
        "title": "x",
        **of,
    }
    letter |= {"date": "2026", "author": [{"reference": "Patient/p"}]}
    assert (await client.put("/Composition/c", json=letter)).status_code == 201
    async with city.record.database.acquire() as connection:
        if broken:
            await connection.execute("ALTER TABLE audit ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
        before = await connection.fetchval("SELECT count(*) FROM audit")
    statuses = {}
    for way in WAYS:
        answer = await client.get(way)
        statuses[way] = answer.status_code
        if broken:
            assert CANARY not in answer.text, way
    wanted = 500 if broken else 200
    assert {way: status for way, status in statuses.items() if status != wanted} == {}
    async with city.record.database.acquire() as connection:
        after = await connection.fetchval("SELECT count(*) FROM audit")
    assert after == before if broken else after - before >= len(WAYS)
