"""Some hundred generated requests of every family; python -m benchmarks.fuzz sends ten thousand."""

import httpx

from ehr.access.authenticate import issue_token
from tests.abuse.asked import FAMILIES, requests
from tests.abuse.storm import storm
from tests.api.conftest import City

PER_FAMILY = 40
"""In the mean: some seconds in all."""


async def test_no_generated_request_breaks_the_promise(city: City) -> None:
    token = issue_token(city.authenticator.tokens, "abuse", "system/*.cruds")
    async with httpx.AsyncClient(
        base_url=city.base.removesuffix("/fhir"),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"},
        timeout=60,
        trust_env=False,
    ) as client:
        documented = (await client.get("/openapi.json")).json()
        weather = await storm(client, requests(PER_FAMILY * len(FAMILIES), 0, documented))
    assert weather.families().keys() == {*FAMILIES, "documented"}
    assert any(status < 300 for _, status in weather.sent)
    assert weather.faults == []
