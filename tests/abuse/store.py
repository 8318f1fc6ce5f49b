"""The few resources that generated requests may find."""

import httpx

from tests.api.mothers import CCCD, observation, patient

HELD = (
    {**patient((CCCD, "001070000001")), "id": "a"},
    {**patient((CCCD, "001070000002"), family="Trần", birthDate="1980-01-01"), "id": "b"},
    {**observation("Patient/a", 5), "id": "a1"},
    {**observation("Patient/b", 9), "id": "b1"},
)


async def fill(client: httpx.AsyncClient) -> None:
    for one in HELD:
        answer = await client.put(f"/fhir/{one['resourceType']}/{one['id']}", json=one)
        assert answer.status_code in (200, 201), answer.text
