"""What machines watch, what every answer carries, and what a bug looks like from outside."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import City
from tests.api.mothers import patient

CANARY = "NGUYEN-CANARY-001099"


def address(city: City, path: str) -> str:
    return city.base.removesuffix("/fhir") + path


async def failing_check() -> bool:
    raise ConnectionRefusedError


class TestHealth:
    @pytest.fixture
    def app_options(self) -> dict[str, Any]:
        return {"checks": {"broker": failing_check}}

    async def test_a_lost_broker_is_told_and_does_not_make_us_unready(self, city: City) -> None:
        client = city.client()
        assert (await client.get(address(city, "/livez"))).json() == {"alive": True}
        ready = await client.get(address(city, "/readyz"))
        assert ready.status_code == 200
        assert ready.json()["checks"] == {"database": "ok", "migrations": "ok", "broker": "failed"}

    async def test_readiness_writes_and_leaves_nothing(self, city: City) -> None:
        await city.client().get(address(city, "/readyz"))
        async with city.record.database.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM feed_cursor WHERE reader LIKE 'readiness%'") == 0
            await connection.execute("UPDATE alembic_version SET version_num = 'older'")
        answer = await city.client().get(address(city, "/readyz"))
        assert (answer.status_code, answer.json()["checks"]["migrations"]) == (503, "failed")

    async def test_a_database_that_cannot_be_written_is_not_ready(self, city: City) -> None:
        async with city.record.database.acquire() as connection:
            await connection.execute("ALTER TABLE feed_cursor RENAME TO gone")
        answer = await city.client().get(address(city, "/readyz"))
        assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "failed")


async def test_metrics_count_by_route_and_never_by_address(city: City, client: httpx.AsyncClient) -> None:
    await client.put("/Patient/secret-id", json=patient(id="secret-id"))
    await client.get("/Patient/secret-id")
    await client.get("/Patient", params={"family": CANARY})
    async with city.record.database.acquire() as connection:
        await connection.execute(
            "INSERT INTO intake_message (facility_id, channel, kind, control_id, sha256, state, body) "
            "VALUES (1, 'mllp', 'ADT^A01', '1', '', 'refused', '')"
        )
    text = (await city.client().get(address(city, "/metrics"))).text
    assert 'ehr_http_requests_total{method="GET",route="/fhir/{type:fhirtype}/{id:fhirid}",status="200"} 1.0' in text
    assert 'ehr_ledger_messages{state="refused"} 1.0' in text
    assert 'ehr_outbox_oldest_seconds{topic="summary"}' in text
    for path in ("/livez", "/identity/v1/citizens/001180012345/health-book", "/citizen", "/static/style.css"):
        await city.client().get(address(city, path))
    text = (await city.client().get(address(city, "/metrics"))).text
    for route in ("/livez", "/identity/v1/citizens/{cccd}/health-book", "/citizen", "/static"):
        assert f'route="{route}"' in text, route
    assert "001180012345" not in text
    assert "secret-id" not in text
    assert CANARY not in text


async def test_every_answer_has_an_id_and_forbids_keeping_it(city: City, client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    for path in ("/Patient/p1", "/Patient/absent", "/Patient", "/nothing/at/all"):
        answer = await client.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert len(answer.headers["x-request-id"]) == 36
    named = await client.get("/Patient/p1", headers={"X-Request-Id": "clinic-request-7"})
    assert named.headers["x-request-id"] == "clinic-request-7"
    odd = await client.get("/Patient/p1", headers={"X-Request-Id": "a b<script>"})
    assert odd.headers["x-request-id"] != "a b<script>"


async def test_a_bug_is_500_without_details(
    city: City, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr(city.record.bodies, "decompress", broken)
    id = (await client.post("/Patient", json=patient())).json()["id"]
    answer = await client.get(f"/Patient/{id}")
    assert answer.status_code == 500
    assert CANARY not in answer.text
    assert "ZeroDivision" not in answer.text
    assert answer.json()["issue"][0]["code"] == "exception"


async def test_a_stolen_host_header_is_in_no_link(client: httpx.AsyncClient) -> None:
    answer = await client.get("/Patient", headers={"Host": "evil.example"})
    assert "evil.example" not in answer.text
