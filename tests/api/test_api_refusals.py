"""Bad requests, each with the status and the expression that tells the caller what to change."""

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.api.conftest import JSON, City
from tests.api.mothers import bundle, entry, observation, patient


@dataclass(frozen=True)
class Bad:
    method: str
    url: str
    status: int
    at: str | None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


PACKED = gzip.compress(json.dumps(patient()).encode())
NOWHERE = "urn:uuid:0b6f1f0c-0000-4000-8000-000000000000"

TABLE = {
    "unknown type": Bad("GET", "/Pateint/1", 404, None),
    "unknown type in lower case": Bad("GET", "/patient/1", 404, None),
    "unknown type to search": Bad("GET", "/Nonsense?x=1", 404, None),
    "a type without an address": Bad("POST", "/Parameters", 404, None, {"resourceType": "Parameters"}),
    "unknown address": Bad("GET", "/Patient/1/2/3/4", 404, None),
    "a line break in an address": Bad("GET", "/Patient/a%0Ab/$validate", 404, None),
    "a line break after an id": Bad("GET", "/Patient/a%0A", 404, None),
    "a line break after a type": Bad("GET", "/Patient%0A", 404, None),
    "unknown system address": Bad("GET", "/$nothing", 404, None),
    "unknown id": Bad("GET", "/Patient/absent", 404, None),
    "an id that is none, read": Bad("GET", "/Patient/a_b", 404, None),
    "an id that is none, put": Bad("PUT", "/Patient/a_b", 400, "Patient.id", patient(id="a_b")),
    "an id of 65 characters": Bad("PUT", "/Patient/" + "a" * 65, 400, "Patient.id", patient(id="a" * 65)),
    "a version that is none": Bad("GET", "/Patient/1/_history/x", 404, None),
    "a huge version": Bad("GET", "/Patient/1/_history/99999999999999999999", 404, None),
    "a method the address has not": Bad("POST", "/Patient/1", 405, None, {}),
    "delete of the base": Bad("DELETE", "/", 405, None),
    "unknown parameter of a read": Bad("GET", "/Patient/1?foo=bar", 400, "foo"),
    "unknown search parameter": Bad("GET", "/Patient?foo=bar", 400, "foo"),
    "unknown modifier": Bad("GET", "/Patient?name:nonsense=x", 400, "name:nonsense"),
    "a date that is none": Bad("GET", "/Patient?birthdate=1970-13", 400, "birthdate"),
    "a number that is none": Bad("GET", "/RiskAssessment?probability=many", 400, "probability"),
    "_count negative": Bad("GET", "/Patient?_count=-1", 400, "_count"),
    "_summary=count of a read": Bad("GET", "/Patient/1?_summary=count", 400, "_summary"),
    "_summary=count of a type's history": Bad("GET", "/Patient/_history?_summary=count", 400, "_summary"),
    "_summary of no kind": Bad("GET", "/Patient/1/_history?_summary=short", 400, "_summary"),
    "_summary and _elements": Bad("GET", "/Patient/1?_summary=true&_elements=name", 400, "_elements"),
    "_summary=text with an include": Bad(
        "GET", "/Observation?_summary=text&_include=Observation:subject", 400, "_summary"
    ),
    "_elements the type has not": Bad("GET", "/Patient/1?_elements=status", 400, "_elements"),
    "_elements that is not below": Bad("GET", "/Patient?_elements=name.status", 400, "_elements"),
    "_elements of another type": Bad("GET", "/Patient?_elements=Observation.name", 400, "_elements"),
    "_elements the searched type has not": Bad("GET", "/Patient?_elements=status", 400, "_elements"),
    "unknown sort": Bad("GET", "/Patient?_sort=shoe-size", 400, "_sort"),
    "a forged cursor": Bad("GET", "/Patient?_cursor=AAAA", 400, "_cursor"),
    "unknown include": Bad("GET", "/Observation?_include=Observation:nonsense", 400, "_include"),
    "a chain too deep": Bad("GET", f"/Encounter?{'part-of:Encounter.' * 9}status=finished", 413, None),
    "200 parameters": Bad("GET", "/Patient?" + "&".join("name=a" for _ in range(200)), 413, None),
    "a query over the limit": Bad("GET", "/Patient?name=" + "a" * 20_000, 414, None),
    "a NUL in a parameter": Bad("GET", "/Patient?name=a%00b", 400, "name"),
    "a parameter that is no UTF-8": Bad("GET", "/Patient?name=%ff%fe", 400, None),
    "_since that is none": Bad("GET", "/Patient/_history?_since=yesterday", 400, "_since"),
    "_at that is none": Bad("GET", "/_history?_at=2026-02-30", 400, "_at"),
    "history's unknown parameter": Bad("GET", "/_history?_sort=x", 400, "_sort"),
    "a history page that is none": Bad("GET", "/_history?_page=1", 400, "_page"),
    "a compartment that is none": Bad("GET", "/Organization/1/Observation", 404, None),
    "a type outside the compartment": Bad("GET", "/Patient/1/Organization", 400, "Organization"),
    "Turtle wanted": Bad("GET", "/Patient/1", 406, "Accept", headers={"Accept": "application/fhir+turtle"}),
    "Turtle wanted by _format": Bad("GET", "/Patient/1?_format=ttl", 406, "_format"),
    "_pretty that is none": Bad("GET", "/Patient/1?_pretty=please", 400, "_pretty"),
    "text sent": Bad("POST", "/Patient", 415, "Content-Type", raw=b"Patient", headers={"Content-Type": "text/plain"}),
    "nothing said of the body": Bad("POST", "/Patient", 415, "Content-Type", raw=b"{}", headers={"Content-Type": ""}),
    "latin-1 sent": Bad(
        "POST", "/Patient", 415, "Content-Type", raw=b"{}", headers={"Content-Type": "application/json;charset=latin1"}
    ),
    "gzip that is none": Bad(
        "POST", "/Patient", 400, "Content-Encoding", raw=b"{}", headers={"Content-Encoding": "gzip"}
    ),
    "gzip cut off": Bad(
        "POST", "/Patient", 400, "Content-Encoding", raw=PACKED[:-9], headers={"Content-Encoding": "gzip"}
    ),
    "gzip and more": Bad(
        "POST", "/Patient", 400, "Content-Encoding", raw=PACKED + b"x", headers={"Content-Encoding": "gzip"}
    ),
    "a body packed otherwise": Bad(
        "POST", "/Patient", 415, "Content-Encoding", raw=b"{}", headers={"Content-Encoding": "br"}
    ),
    "a body of another FHIR": Bad(
        "POST", "/Patient", 415, "Content-Type", patient(), headers={"Content-Type": f"{JSON}; fhirVersion=5.0"}
    ),
    "an empty body": Bad("POST", "/Patient", 400, None, raw=b""),
    "no JSON": Bad("POST", "/Patient", 400, None, raw=b"{"),
    "a list": Bad("POST", "/Patient", 400, None, raw=b"[]"),
    "the same key twice": Bad("POST", "/Patient", 400, None, raw=b'{"resourceType":"Patient","id":"1","id":"2"}'),
    "NaN": Bad("POST", "/Patient", 400, None, raw=b'{"resourceType":"Patient","x":NaN}'),
    "a depth of 100": Bad("POST", "/Basic", 400, None, raw=b'{"a":' * 100 + b"1" + b"}" * 100),
    "another type than the address": Bad("POST", "/Patient", 400, "resourceType", observation("Patient/1")),
    "no type": Bad("POST", "/Patient", 400, "resourceType", {"id": "1"}),
    "an unknown element": Bad("POST", "/Patient", 400, "Patient.nickname", patient(nickname="x")),
    "a code outside a required binding": Bad("POST", "/Patient", 400, "Patient.gender", patient(gender="f")),
    "a missing element": Bad(
        "POST", "/Observation", 400, "Observation.status", {"resourceType": "Observation", "code": {"text": "x"}}
    ),
    "a day that is none": Bad("POST", "/Patient", 400, "Patient.birthDate", patient(birthDate="1970-02-30")),
    "an update without an id": Bad("PUT", "/Patient/p1", 400, "Patient.id", patient()),
    "an update with another id": Bad("PUT", "/Patient/p1", 400, "Patient.id", patient(id="p2")),
    "If-Match that is none": Bad("PUT", "/Patient/p1", 400, "If-Match", patient(id="p1"), {"If-Match": "one"}),
    "If-Match of what is not there": Bad("PUT", "/Patient/p9", 412, None, patient(id="p9"), {"If-Match": 'W/"1"'}),
    "If-None-Match of an update": Bad(
        "PUT", "/Patient/p1", 400, "If-None-Match", patient(id="p1"), {"If-None-Match": 'W/"1"'}
    ),
    "If-None-Exist unknown": Bad("POST", "/Patient", 400, "foo", patient(), {"If-None-Exist": "foo=bar"}),
    "If-None-Exist empty": Bad("POST", "/Patient", 412, "If-None-Exist", patient(), {"If-None-Exist": "identifier="}),
    "a key with a space": Bad("POST", "/Patient", 400, "Idempotency-Key", patient(), {"Idempotency-Key": "a b"}),
    "a bundle that is none": Bad("POST", "/", 400, "resourceType", patient()),
    "a bundle of another type": Bad("POST", "/", 400, "Bundle.type", bundle("collection")),
    "an entry without a request": Bad(
        "POST", "/", 400, "Bundle.entry[0].request", bundle("transaction", {"resource": patient()})
    ),
    "an invalid entry": Bad(
        "POST",
        "/",
        400,
        "Bundle.entry[1].resource.gender",
        bundle("transaction", entry("POST", "Patient", patient()), entry("POST", "Patient", patient(gender="f"))),
    ),
    "an unresolved urn": Bad(
        "POST",
        "/",
        422,
        "Bundle.entry[0].resource.subject.reference",
        bundle("transaction", entry("POST", "Observation", observation(NOWHERE))),
    ),
    "one resource twice": Bad(
        "POST",
        "/",
        422,
        "Bundle.entry[1]",
        bundle("transaction", *[entry("PUT", "Patient/p1", patient(id="p1"))] * 2),
    ),
    "a batch with a key": Bad("POST", "/", 400, "Idempotency-Key", bundle("batch"), {"Idempotency-Key": "k"}),
    "$validate of another type": Bad("POST", "/Patient/$validate?profile=http://x", 400, "profile", patient()),
    "$everything of an organisation": Bad("GET", "/Organization/1/$everything", 404, None),
    "$everything with an unknown parameter": Bad("GET", "/Patient/1/$everything?foo=1", 400, "foo"),
    "$everything with an unknown type": Bad("GET", "/Patient/1/$everything?_type=Foo", 400, "_type"),
    "_search as JSON": Bad("POST", "/Patient/_search", 415, "Content-Type", {"name": "x"}),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", TABLE)
async def test_a_bad_request_is_refused_precisely(shared_city: City, name: str) -> None:
    client, bad = shared_city.system(), TABLE[name]
    content = bad.raw if bad.raw is not None else None if bad.body is None else json.dumps(bad.body).encode()
    answer = await client.request(bad.method, bad.url, content=content, headers={"Content-Type": JSON, **bad.headers})
    assert answer.status_code == bad.status, answer.text
    assert answer.headers["content-type"].startswith(JSON)
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    assert all(issue["severity"] in ("error", "fatal") and issue["details"]["text"] for issue in outcome["issue"])
    if bad.at is not None:
        assert bad.at in [at for issue in outcome["issue"] for at in issue.get("expression", ())]


async def test_an_address_with_a_slash_too_many_is_told_so(client: httpx.AsyncClient) -> None:
    for path in ("/Patient/", "/Patient/p1/", "/Patient//p1", "/Patient/p1/_history/"):
        refused = await client.get(path)
        assert (refused.status_code, "slash" in refused.json()["issue"][0]["diagnostics"]) == (404, True), path


async def test_a_method_not_allowed_lists_those_that_are(client: httpx.AsyncClient) -> None:
    answer = await client.request("POST", "/Patient/1")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"


async def test_lenient_handling_ignores_and_says_so(city: City, client: httpx.AsyncClient) -> None:
    await client.post("/Patient", json=patient())
    answer = await client.get("/Patient?foo=bar&gender=female", headers={"Prefer": "handling=lenient"})
    found = answer.json()
    assert answer.status_code == 200
    assert [e["search"]["mode"] for e in found["entry"]] == ["match", "outcome"]
    assert found["entry"][1]["resource"]["issue"][0]["expression"] == ["foo"]
    assert found["link"][0] == {"relation": "self", "url": f"{city.base}/Patient?gender=female"}


async def test_a_body_over_the_limit_is_refused_before_it_is_read(city: City) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    token = city.system().headers["authorization"]
    writer.write(
        f"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: 999999999\r\n\r\n".encode()
    )
    status = await asyncio.wait_for(reader.readline(), 5)
    assert b" 413 " in status
    writer.close()
    await writer.wait_closed()


async def test_what_gzip_packed_is_read_and_no_more_of_it_than_may_be_there(client: httpx.AsyncClient) -> None:
    packed = {"Content-Encoding": "gzip"}
    stored = await client.post("/Patient", content=PACKED, headers=packed)
    assert (stored.status_code, stored.json()["birthDate"]) == (201, "1970-05-01")
    found = await client.post(
        "/Patient/_search",
        content=gzip.compress(b"birthdate=1970-05-01"),
        headers={**packed, "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert len(found.json()["entry"]) == 1
    bomb = gzip.compress(b"{" + b" " * 50_000_000)
    refused = await client.post("/Patient", content=bomb, headers=packed)
    assert refused.status_code == 413, len(bomb)


async def test_a_body_that_does_not_come_is_not_waited_for(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehr.limits.http_body_read_s", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    token = city.system().headers["authorization"]
    writer.write(
        f"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: 100\r\n\r\n{{".encode()
    )
    status = await asyncio.wait_for(reader.readline(), 5)
    assert b" 400 " in status
    writer.close()
    await writer.wait_closed()


async def test_a_chunked_body_over_the_limit_is_cut_off(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ehr.limits.resource_bytes_max", 10_000)

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 1_000

    answer = await client.post("/Patient", content=endless())
    assert answer.status_code == 413


@pytest.mark.parametrize("first", [b"", b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_headers_that_do_not_end_are_not_waited_for(
    city: City, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr("ehr.limits.http_headers_read_s", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    writer.write(first)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()


async def test_headers_without_bound_are_refused(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehr.limits.http_headers_bytes_max", 10_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    writer.write(b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 431 ")
    writer.close()
    await writer.wait_closed()


CHUNKED = f"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n"


async def sent(writer: asyncio.StreamWriter, piece: bytes, *, times: int, every_s: float = 0) -> None:
    for _ in range(times):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(every_s)


async def test_a_body_that_goes_on_after_its_answer_holds_no_connection(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ehr.limits.http_body_read_s", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    writer.write(b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
    assert b" 401 " in await asyncio.wait_for(reader.readline(), 5)
    with pytest.raises(ConnectionError):
        await sent(writer, b" ", times=60, every_s=0.05)
    writer.transport.abort()


@pytest.mark.parametrize("end", ["0\r\nX-Long: ", "1;x="])
@pytest.mark.parametrize("known", [True, False])
async def test_what_is_in_a_body_and_is_none_is_bounded(city: City, end: str, known: bool) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    token = f"Authorization: {city.system().headers['authorization']}\r\n" if known else ""
    writer.write(f"{CHUNKED}{token}\r\n{end}".encode())
    with pytest.raises(ConnectionError):
        await sent(writer, b"a" * 10_000, times=1_000)
    writer.transport.abort()


async def test_a_trailer_is_no_header(city: City) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", city.server.port)
    token = city.system().headers["authorization"]
    body = '{"resourceType":"Patient"}'
    writer.write(f"{CHUNKED}Authorization: {token}\r\n\r\n{len(body):x}\r\n{body}\r\n".encode())
    writer.write(b"0\r\nAuthorization: Bearer x\r\n\r\n")
    status = await asyncio.wait_for(reader.readline(), 5)
    writer.transport.abort()
    assert b" 201 " in status


async def test_one_connection_serves_many_requests(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehr.limits.http_headers_read_s", 0.3)
    for _ in range(4):
        assert (await client.get("/metadata")).status_code == 200
        await asyncio.sleep(0.2)


def subscription(status: str) -> dict[str, Any]:
    return {
        "resourceType": "Subscription",
        "id": "s",
        "status": status,
        "reason": "results",
        "criteria": "Observation?code=1",
        "channel": {"type": "rest-hook", "endpoint": "https://example.org/hook"},
    }


@pytest.mark.parametrize("status", ["active", "requested", "error"])
async def test_a_subscription_that_would_never_fire_is_refused(
    city: City, client: httpx.AsyncClient, status: str
) -> None:
    """Nothing is delivered; with status off nobody waits for it (docs/adr/0097)."""
    whole = bundle("transaction", entry("PUT", "Subscription/s", subscription(status)))
    answers = [await client.put("/Subscription/s", json=subscription(status)), await client.post("/", json=whole)]
    assert [answer.status_code for answer in answers] == [422, 422]
    first, second = (answer.json()["issue"][0] for answer in answers)
    assert (first["code"], first["expression"]) == ("not-supported", ["Subscription.status"])
    assert second["expression"] == ["Bundle.entry[0].resource.status"]
    assert (await client.put("/Subscription/s", json=subscription("off"))).status_code == 201
    patched = [{"op": "replace", "path": "/status", "value": status}]
    answer = await client.patch(
        "/Subscription/s", content=json.dumps(patched), headers={"Content-Type": "application/json-patch+json"}
    )
    assert answer.json()["issue"][0]["expression"] == ["Subscription.status"]
