"""More callers than connections: who waits in vain is told to come again, and nothing is half done."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from ehr import limits
from tests.api.conftest import City
from tests.api.mothers import patient


@pytest.fixture
async def exhausted(city: City, monkeypatch: pytest.MonkeyPatch) -> AsyncExitStack:
    """Every connection of the pool is held by somebody else."""
    monkeypatch.setattr(limits, "statement_s", 0.5)
    held = AsyncExitStack()
    for _ in range(city.record.settings.pool_connections_max):
        await held.enter_async_context(city.record.database.acquire())
    return held


async def test_who_waits_in_vain_is_told_to_come_again(city: City, exhausted: AsyncExitStack) -> None:
    clinic = city.system()
    asked = [
        clinic.get("/Patient/p"),
        clinic.get("/Patient?gender=male"),
        clinic.put("/Patient/p", json=patient() | {"id": "p"}),
    ]
    for answer in await asyncio.gather(*asked):
        _is_told_to_come_again(answer)
    assert (await clinic.get(city.base.removesuffix("/fhir") + "/livez")).status_code == 200
    await exhausted.aclose()
    assert (await clinic.get("/Patient/p")).status_code == 404, "the write that was refused left nothing"
    assert (await clinic.put("/Patient/p", json=patient() | {"id": "p"})).status_code == 201


def _is_told_to_come_again(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["issue"][0]["code"] == "throttled"


async def test_who_gives_up_leaves_no_place_in_the_queue(
    city: City, exhausted: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = city.system()
    given_up = [asyncio.create_task(impatient.get(f"/Patient/{n}")) for n in range(20)]
    await asyncio.sleep(0.1)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    await exhausted.aclose()
    monkeypatch.setattr(limits, "statement_s", 30)  # a place that was left would be waited for as long
    answers = await asyncio.gather(*(city.system().get(f"/Patient/{n}") for n in range(20)))
    assert {one.status_code for one in answers} == {404}
