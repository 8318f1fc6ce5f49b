"""read, vread, conditional read and HEAD over HTTP."""

import httpx
import pytest

from tests.api.conftest import City
from tests.api.mothers import patient

BODY = (
    '{"resourceType":"Observation","status":"final","code":{"text":"Đường huyết"},'
    '"valueQuantity":{"value":13.50,"unit":"mmol/L"},'
    '"component":[{"code":{"text":"long"},"valueQuantity":{"value":1234567890.123456789012345}}]}'
).encode()


async def test_a_read_returns_what_was_sent_with_its_version(client: httpx.AsyncClient) -> None:
    created = await client.post("/Observation", content=BODY)
    assert created.status_code == 201
    id = created.json()["id"]
    read = await client.get(f"/Observation/{id}")
    assert read.status_code == 200
    assert read.headers["etag"] == 'W/"1"'
    assert read.headers["last-modified"].endswith("GMT")
    assert read.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert b'"value":13.50' in read.content
    assert b'"value":1234567890.123456789012345' in read.content
    assert "Đường huyết".encode() in read.content
    assert read.json()["meta"]["versionId"] == "1"


async def test_a_head_is_a_get_without_its_body(client: httpx.AsyncClient) -> None:
    location = (await client.post("/Patient", json=patient())).headers["location"]
    url = location.partition("/_history")[0]
    read, head = await client.get(url), await client.head(url)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("etag", "last-modified", "content-length", "content-type"):
        assert head.headers[name] == read.headers[name]


async def test_a_conditional_read_says_when_nothing_changed(client: httpx.AsyncClient) -> None:
    id = (await client.post("/Patient", json=patient())).json()["id"]
    read = await client.get(f"/Patient/{id}")
    same = await client.get(f"/Patient/{id}", headers={"If-None-Match": read.headers["etag"]})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", 'W/"1"')
    since = await client.get(f"/Patient/{id}", headers={"If-Modified-Since": read.headers["last-modified"]})
    assert since.status_code == 304
    other = await client.get(f"/Patient/{id}", headers={"If-None-Match": 'W/"7"'})
    assert other.status_code == 200
    await client.put(f"/Patient/{id}", json=patient(family="Hai", id=id))
    known = [await client.get(f"/Patient/{id}/_history/{n}", headers={"If-None-Match": 'W/"1"'}) for n in (1, 2)]
    assert [(answer.status_code, answer.headers["etag"]) for answer in known] == [(304, 'W/"1"'), (200, 'W/"2"')]


async def test_a_read_that_insists_on_another_version_is_refused(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    await client.put("/Patient/p1", json=patient(id="p1", family="Hai"))
    for method in ("GET", "HEAD"):
        for url, insists, status in (
            ("/Patient/p1", 'W/"2"', 200),
            ("/Patient/p1", "*", 200),
            ("/Patient/p1", 'W/"1"', 412),
            ("/Patient/p1/_history/1", 'W/"1"', 200),
            ("/Patient/p1/_history/1", 'W/"2"', 412),
            ("/Patient/p1", "2", 400),
            ("/Patient/none", 'W/"1"', 404),
        ):
            answer = await client.request(method, url, headers={"If-Match": insists, "If-None-Match": 'W/"7"'})
            assert answer.status_code == status, (method, url, insists)
    both = await client.get("/Patient/p1", headers={"If-Match": 'W/"1"', "If-None-Match": 'W/"2"'})
    assert both.status_code == 412, "it is looked at first (RFC 9110 13.2.2)"
    before = await client.get("/Patient/p1", headers={"If-Unmodified-Since": "Mon, 30 Nov 2020 10:00:00 GMT"})
    assert (before.status_code, before.json()["issue"][0]["expression"]) == (400, ["If-Unmodified-Since"])


async def test_vread_serves_every_version_and_the_deletion_as_gone(client: httpx.AsyncClient) -> None:
    id = (await client.post("/Patient", json=patient(family="Một"))).json()["id"]
    await client.put(f"/Patient/{id}", json=patient(family="Hai", id=id))
    await client.delete(f"/Patient/{id}")
    first, second = [await client.get(f"/Patient/{id}/_history/{n}") for n in (1, 2)]
    assert (first.json()["name"][0]["family"], second.json()["name"][0]["family"]) == ("Một", "Hai")
    assert second.headers["etag"] == 'W/"2"'
    assert (await client.get(f"/Patient/{id}/_history/3")).status_code == 410
    assert (await client.get(f"/Patient/{id}/_history/4")).status_code == 404
    gone = await client.get(f"/Patient/{id}")
    assert gone.status_code == 410
    assert gone.json()["issue"][0]["code"] == "deleted"


async def test_at_a_second_is_at_some_moment_of_it(client: httpx.AsyncClient) -> None:
    """A version that came and went within the second was current then (http.html#history)."""
    body, seconds = patient(id="p1"), list[str]()
    while len(seconds) < 2 or seconds[-1] != seconds[-2]:  # two versions of one second: almost always the first two
        body["multipleBirthInteger"] = len(seconds) + 1
        seconds.append((await client.put("/Patient/p1", json=body)).json()["meta"]["lastUpdated"][:19])
    shown = await client.get("/Patient/p1/_history", params={"_at": f"{seconds[-1]}Z"})
    found = [one["resource"]["meta"]["versionId"] for one in shown.json()["entry"]]
    assert {str(len(seconds)), str(len(seconds) - 1)} <= set(found)


async def test_pretty_keeps_every_digit(client: httpx.AsyncClient) -> None:
    id = (await client.post("/Observation", content=BODY)).json()["id"]
    pretty = await client.get(f"/Observation/{id}", params={"_pretty": "true"})
    assert b'\n    "value": 13.50' in pretty.content
    assert b"1234567890.123456789012345" in pretty.content


@pytest.mark.parametrize("scope", ["system/Observation.cruds", "system/Patient.cuds", "user/*.cruds", "patient/*.rs"])
async def test_a_read_needs_the_right_to_read_the_type(city: City, client: httpx.AsyncClient, scope: str) -> None:
    id = (await client.post("/Patient", json=patient())).json()["id"]
    other = city.system(scope)
    there, absent = await other.get(f"/Patient/{id}"), await other.get("/Patient/absent")
    assert there.status_code == absent.status_code == 403
    assert there.content == absent.content
