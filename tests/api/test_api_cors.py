"""What a browser lets a page of another origin do: nothing unless the operator names the origin, then the FHIR API."""

from pathlib import Path

import httpx
import pytest

from ehr.errors import Invalid
from ehr.serve import refuse_unsafe
from ehr.settings import Settings
from tests.api.conftest import City
from tests.api.mothers import patient

APP = "https://app.example.org"
ASKS = {
    "Origin": APP,
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization,content-type,if-match",
}


def told(answer: httpx.Response) -> list[str]:
    return sorted(name for name in answer.headers if name.startswith("access-control-"))


async def test_no_origin_is_let_in_unless_it_is_named(city: City, client: httpx.AsyncClient) -> None:
    preflight = await city.client().options("/Patient/p1", headers=ASKS)
    read = await client.get("/metadata", headers={"Origin": APP})
    assert told(preflight) == told(read) == []
    assert "vary" not in (await client.get("/Patient", headers={"Origin": APP})).headers
    assert read.json()["rest"][0]["security"]["cors"] is False


class TestNamed:
    @pytest.fixture
    def settings(self, data_dir: Path) -> Settings:
        return Settings(data_dir=data_dir, port=0, pool_connections_max=6, cors_origins=(APP,))

    async def test_a_preflight_is_answered_without_a_token_at_every_address(self, city: City) -> None:
        for address in ("/Patient/p1", "/Patient/p1/$everything", "/Patient/$nothing", "/patient"):
            preflight = await city.client().options(address, headers=ASKS)
            assert (preflight.status_code, preflight.content) == (204, b""), address
            assert preflight.headers["access-control-allow-origin"] == APP
            assert "PUT" in preflight.headers["access-control-allow-methods"].split(", ")
            sent = preflight.headers["access-control-allow-headers"].lower().split(", ")
            assert {"authorization", "content-type", "if-match", "prefer", "idempotency-key"} <= set(sent)
            assert "access-control-allow-credentials" not in preflight.headers

    async def test_a_page_sees_answers_and_refusals_with_their_headers(
        self, city: City, client: httpx.AsyncClient
    ) -> None:
        origin = {"Origin": APP}
        created = await client.post("/Patient", json=patient(), headers=origin)
        absent = await client.get("/Patient/absent", headers=origin)
        unknown = await city.client().get("/Patient/absent", headers=origin)
        for answer, status in ((created, 201), (absent, 404), (unknown, 401)):
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, APP)
            shown = answer.headers["access-control-expose-headers"].lower().split(", ")
            assert {"location", "etag", "last-modified", "www-authenticate", "content-location"} <= set(shown)
            assert answer.headers["vary"] == "Origin"
        assert (await client.get("/metadata")).json()["rest"][0]["security"]["cors"] is True

    async def test_other_origins_stay_outside(self, city: City, client: httpx.AsyncClient) -> None:
        for other in ("https://app.example.org.evil.example", "http://app.example.org", "null"):
            preflight = await city.client().options("/Patient/p1", headers={**ASKS, "Origin": other})
            read = await client.get("/Patient", headers={"Origin": other})
            assert told(preflight) == told(read) == []
            assert read.headers["vary"] == "Origin"

    async def test_options_that_is_no_preflight_tells_what_the_address_has(self, city: City) -> None:
        answer = await city.client().options("/Patient/p1", headers={"Origin": APP})
        assert "PATCH" in answer.headers["allow"]
        assert answer.headers["access-control-allow-origin"] == APP


class TestAny:
    @pytest.fixture
    def settings(self, data_dir: Path) -> Settings:
        return Settings(data_dir=data_dir, port=0, pool_connections_max=6, cors_origins=("*",))

    async def test_any_origin_reads_with_its_token(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/Patient", headers={"Origin": APP})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "vary" not in answer.headers


def test_an_open_record_is_not_opened_to_every_page(data_dir: Path) -> None:
    refuse_unsafe(Settings(data_dir=data_dir, access="open", cors_origins=(APP,)))
    with pytest.raises(Invalid, match="name the origins"):
        refuse_unsafe(Settings(data_dir=data_dir, access="open", cors_origins=("*",)))


@pytest.mark.parametrize("wrong", ["app.example.org", f"{APP}/", f"{APP}/app", "https://App.example.org", "null", ""])
def test_what_a_browser_never_sends_is_no_origin(data_dir: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Settings(data_dir=data_dir, cors_origins=(wrong,))
