"""Ways in which other servers went wrong (docs/known-failures.md), as far as no other file shows that ours does not."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from ehr import limits
from ehr.access.policy import Caller
from ehr.store import bundles
from ehr.store.faults import Raced
from ehr.store.unit_of_work import UnitOfWork
from tests.api.conftest import City, statements
from tests.api.mothers import MRN, bundle, entry, observation, patient

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def client(shared_city: City) -> httpx.AsyncClient:
    return shared_city.system()


async def test_a_transaction_that_is_run_anew_answers_what_it_committed(shared_city: City) -> None:
    """10: a retry that went on with half-used state answered 200 for what was never stored."""
    sent = bundle(
        "transaction",
        entry("POST", "Patient", patient((MRN, "anew")), fullUrl="urn:uuid:6f1b6c1e-7d0f-4a53-9b0e-0123456789ab"),
        entry("POST", "Observation", observation("urn:uuid:6f1b6c1e-7d0f-4a53-9b0e-0123456789ab")),
    )
    attempts: list[list[str]] = []

    async def work(uow: UnitOfWork) -> list[str]:
        answer = await bundles.transaction(uow, sent)
        attempts.append([one["response"]["location"] for one in answer["entry"]])
        if len(attempts) < 3:
            raise Raced("another transaction was faster")
        return attempts[-1]

    answered = await shared_city.record.write(Caller.system("test"), work)
    assert len(attempts) == 3
    client = shared_city.system()
    assert [(await client.get(f"/{place}")).status_code for place in answered] == [200, 200]
    for never in (place for attempt in attempts[:2] for place in attempt):
        assert (await client.get(f"/{never}")).status_code == 404
    found = await client.get("/Patient", params={"identifier": f"{MRN}|anew"})
    assert len(found.json()["entry"]) == 1


async def test_a_conflict_inside_a_transaction_is_no_server_error(client: httpx.AsyncClient) -> None:
    """11: a conflict was retried on a transaction that was dead, and answered 500."""

    def sent(number: int) -> dict[str, Any]:
        made = entry("PUT", "Patient/once", patient(id="once", family=f"N{number}"), request={"ifNoneMatch": "*"})
        return bundle("transaction", entry("POST", "Patient", patient((MRN, f"once-{number}"))), made)

    answers = await asyncio.gather(*(client.post("/", json=sent(number)) for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    told = [answer.json()["issue"][0]["expression"] for answer in answers if answer.status_code == 412]
    assert told == [["Bundle.entry[1].request.ifNoneMatch"]] * 7
    found = await client.get("/Patient", params={"identifier": ",".join(f"{MRN}|once-{n}" for n in range(8))})
    assert len(found.json()["entry"]) == 1, "those that were refused left nothing"


async def test_a_long_transaction_holds_up_nobody_else(shared_city: City, client: httpx.AsyncClient) -> None:
    """12: by design one large transaction blocked all smaller ones."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def long(uow: UnitOfWork) -> None:
        for number in range(20):
            tree = patient((MRN, f"long-{number}"))
            await uow.resources.create("Patient", orjson.dumps(tree), tree)
        begun.set()
        await over.wait()

    running = asyncio.create_task(shared_city.record.write(Caller.system("test"), long))
    await begun.wait()
    async with asyncio.timeout(10):
        created = await client.post("/Patient", json=patient((MRN, "short")))
        found = await client.get("/Patient", params={"identifier": f"{MRN}|short"})
        unseen = await client.get("/Patient", params={"identifier": f"{MRN}|long-1"})
    assert (created.status_code, len(found.json()["entry"])) == (201, 1)
    assert "entry" not in unseen.json()
    over.set()
    await running


@pytest.mark.parametrize("url", ["Provenance?target.identifier=", "Observation?subject.identifier="])
async def test_a_chain_over_any_type_is_one_condition(shared_city: City, client: httpx.AsyncClient, url: str) -> None:
    """13, 14: a term for each type and value that may stand behind a chain made the planner give its index up."""
    lengths = []
    for count in (2, 11, 113):
        values = ",".join(f"{MRN}|{number}" for number in range(count))
        with statements(shared_city) as seen:
            answer = await client.get(f"/{url}{values}")
        assert answer.status_code == 200, answer.text
        lengths.append(max(len(one) for one in seen()))
    assert len(set(lengths)) == 1, "more values are no longer statement"


async def test_as_many_values_as_are_allowed_are_answered(client: httpx.AsyncClient) -> None:
    """16: a filter of 1,500 tokens timed out after a minute."""
    await client.put("/Patient/valued", json=patient((MRN, "v7"), id="valued"))
    values = ",".join(f"{MRN}|v{number}" for number in range(limits.search_values_max))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with asyncio.timeout(10):
        found = await client.post("/Patient/_search", data={"identifier": values}, headers=form)
    assert [one["resource"]["id"] for one in found.json()["entry"]] == ["valued"]
    refused = await client.post("/Patient/_search", data={"identifier": f"{values},x"}, headers=form)
    assert refused.status_code in (400, 413)


async def test_totals_by_last_updated_count_no_earlier_version(client: httpx.AsyncClient) -> None:
    """26: _lastUpdated counted versions that were replaced."""
    for number in range(5):
        body = observation("Patient/p1", id="often", code="often") | {"valueQuantity": {"value": number}}
        await client.put("/Observation/often", json=body)
    asked = {"code": "often", "_lastUpdated": "ge2020-01-01", "_total": "accurate"}
    found = (await client.get("/Observation", params=asked)).json()
    assert (found["total"], len(found["entry"])) == (1, 1)
    assert found["entry"][0]["resource"]["meta"]["versionId"] == "5"
