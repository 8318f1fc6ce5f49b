"""Binary over HTTP: content as it is, the resource for who names a FHIR type, access by securityContext, no scripts."""

from base64 import b64decode, b64encode
from typing import Any

import httpx
import pytest

from ehr import limits
from tests.api.conftest import City
from tests.api.mothers import CCCD, bundle, entry, patient

FHIR = "application/fhir+json"
PDF = b"%PDF-1.7 \x00\xff not really"
PAGE = b"<script>alert(document.domain)</script>"
CDA = b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><Binary/></ClinicalDocument>'


def binary(content: bytes = PDF, content_type: str = "application/pdf", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Binary", "contentType": content_type, "data": b64encode(content).decode(), **more}


async def send(client: httpx.AsyncClient, url: str, content: bytes, media: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    method = "POST" if url == "/Binary" else "PUT"
    return await client.request(method, url, content=content, headers={"Content-Type": media, **named})


async def get(client: httpx.AsyncClient, url: str, accept: str = "*/*", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get(url, headers={"Accept": accept, **named})


async def test_content_goes_in_and_out_as_it_is(client: httpx.AsyncClient) -> None:
    made = await send(client, "/Binary", PDF, "application/pdf", X_Security_Context="Patient/p")
    assert made.status_code == 201
    id = made.json()["id"]
    for url in (f"/Binary/{id}", f"/Binary/{id}/_history/1"):
        answer = await get(client, url)
        assert (answer.status_code, answer.content) == (200, PDF)
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["x-security-context"] == "Patient/p"
        assert answer.headers["etag"] == 'W/"1"'
        resource = (await get(client, url, FHIR)).json()
        assert b64decode(resource["data"]) == PDF
        assert resource["contentType"] == "application/pdf"
        assert resource["securityContext"] == {"reference": "Patient/p"}
    head = await client.head(f"/Binary/{id}", headers={"Accept": "application/pdf"})
    assert (head.headers["content-length"], head.headers["content-type"]) == (str(len(PDF)), "application/pdf")
    assert head.content == b""
    changed = await send(client, f"/Binary/{id}", b"xin ch\xc3\xa0o", "text/plain; charset=utf-8")
    assert (changed.status_code, changed.headers["etag"]) == (200, 'W/"2"')
    read = await get(client, f"/Binary/{id}")
    assert (read.text, read.headers["content-type"]) == ("xin chào", "text/plain; charset=utf-8")
    assert "x-security-context" not in read.headers
    new = await send(client, "/Binary/b7", PDF, "application/pdf", If_None_Match="*")
    assert (new.status_code, new.json()["id"]) == (201, "b7")
    assert (await send(client, "/Binary/b7", PDF, "application/pdf", If_Match='W/"9"')).status_code == 412


@pytest.mark.parametrize(
    ("accept", "query", "wanted"),
    [
        ("*/*", "", "application/pdf"),
        ("application/pdf", "", "application/pdf"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "", "application/pdf"),
        ("application/*", "", "application/pdf"),
        (f"application/pdf, {FHIR};q=0.5", "", "application/pdf"),
        ("*/*", "?_pretty=true", "application/pdf"),
        (FHIR, "", FHIR),
        (f"{FHIR}, */*", "", FHIR),
        ("application/fhir+xml", "", "application/fhir+xml"),
        ("application/json", "", FHIR),
        ("application/pdf;q=0, application/xml", "", "application/fhir+xml"),
        ("application/pdf", "?_format=json", FHIR),
        ("*/*", "?_format=xml", "application/fhir+xml"),
        ("*/*", "?_elements=contentType", FHIR),
        ("image/png", "", 406),
        ("application/pdf;q=0", "", 406),
        ("*/*", "?download=1", 400),
    ],
)
async def test_who_names_a_fhir_type_gets_the_resource(
    client: httpx.AsyncClient, accept: str, query: str, wanted: str | int
) -> None:
    await client.put("/Binary/b", json=binary(id="b"))
    answer = await get(client, f"/Binary/b{query}", accept)
    if isinstance(wanted, int):
        assert answer.status_code == wanted
        assert answer.json()["issue"][0]["expression"] == (["Accept"] if wanted == 406 else ["download"])
        return
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == wanted
    assert (answer.content == PDF) == (wanted == "application/pdf")


async def test_what_is_not_changed_is_not_sent_again(client: httpx.AsyncClient) -> None:
    await client.put("/Binary/b", json=binary(id="b"))
    answer = await get(client, "/Binary/b")
    again = await get(client, "/Binary/b", If_None_Match=answer.headers["etag"])
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", 'W/"1"')
    since = await get(client, "/Binary/b", If_Modified_Since=answer.headers["last-modified"])
    assert since.status_code == 304
    assert (await get(client, "/Binary/b", If_None_Match='W/"2"')).status_code == 200
    assert (await get(client, "/Binary/b/_history/1", If_None_Match='W/"1"')).status_code == 304
    assert (await get(client, "/Binary/b", If_Match='W/"2"')).status_code == 412
    await client.delete("/Binary/b")
    assert (await get(client, "/Binary/b")).status_code == 410
    assert (await get(client, "/Binary/b/_history/1")).content == PDF


@pytest.mark.parametrize(
    ("content", "media"),
    [
        (CDA, "text/xml"),
        (b'{"a": 1}', "application/json"),
        (b"{ broken", "application/json"),
        (b'{"resourceType":"Patient","gender":"female"}', FHIR),
        (b"a=1&b=2", "application/x-www-form-urlencoded"),
    ],
)
async def test_all_that_is_no_binary_is_content(client: httpx.AsyncClient, content: bytes, media: str) -> None:
    made = await send(client, "/Binary", content, media)
    assert made.status_code == 201, made.text
    assert made.json()["contentType"] == media
    assert b64decode(made.json()["data"]) == content
    read = await get(client, f"/Binary/{made.json()['id']}")
    assert (read.content, read.headers["content-type"]) == (content, media)


async def test_a_binary_in_a_fhir_type_is_the_resource(client: httpx.AsyncClient) -> None:
    xml = b'<Binary xmlns="http://hl7.org/fhir"><contentType value="text/plain"/><data value="YWJj"/></Binary>'
    for media in ("application/fhir+xml", "text/xml"):
        made = await send(client, "/Binary", xml, media)
        assert (made.status_code, made.json()["contentType"]) == (201, "text/plain")
    assert (await client.post("/Binary", json=binary())).json()["contentType"] == "application/pdf"
    answer = await client.post(
        "/", json=bundle("batch", entry("GET", "Binary/none"), entry("POST", "Binary", binary()))
    )
    assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["404", "201"]
    id = answer.json()["entry"][1]["response"]["location"].rpartition("Binary/")[2].partition("/")[0]
    inside = await client.post("/", json=bundle("batch", entry("GET", f"Binary/{id}")))
    assert inside.json()["entry"][0]["resource"]["contentType"] == "application/pdf"


@pytest.mark.parametrize(
    ("content", "media", "headers", "status", "at"),
    [
        (PDF, "", {}, 415, "Content-Type"),
        (PDF, "pdf", {}, 415, "Content-Type"),
        (b"", "application/pdf", {}, 400, "Binary.data"),
        (b"{ broken", FHIR, {}, 400, None),
        (b"<Binary", "application/fhir+xml", {}, 400, None),
        (b'{"contentType":"text/plain"}', FHIR, {}, 400, "resourceType"),
        (PDF, "application/pdf", {"X_Security_Context": "no reference"}, 400, "Binary.securityContext.reference"),
        (b'{"resourceType":"Binary","contentType":"text/plain"}', FHIR, {"X_Security_Context": "Patient/p"}, 400,
         "X-Security-Context"),
        (b"x" * (limits.resource_bytes_max * 3 // 4 + 4), "text/plain", {}, 413, None),
    ],
)  # fmt: skip
async def test_what_cannot_be_taken_is_refused(
    client: httpx.AsyncClient, content: bytes, media: str, headers: dict[str, str], status: int, at: str | None
) -> None:
    answer = await send(client, "/Binary", content, media, **headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["issue"][0].get("expression") == ([at] if at else None)


async def test_stored_pages_run_nowhere(client: httpx.AsyncClient) -> None:
    await send(client, "/Binary/page", PAGE, "text/html")
    answer = await get(client, "/Binary/page", "text/html,*/*;q=0.8")
    assert (answer.content, answer.headers["content-type"]) == (PAGE, "text/html")
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert "allow-" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for odd in ("text/html\nSet-Cookie: a=b", "tệp/văn", "html"):
        stored = await client.put("/Binary/odd", json=binary(PAGE, odd, id="odd"))
        assert stored.status_code in (200, 201), stored.text
        read = await get(client, "/Binary/odd")
        assert (read.status_code, read.headers["content-type"]) == (200, "application/octet-stream")
        assert "set-cookie" not in read.headers


async def test_a_binary_is_seen_with_the_patient_of_its_context(city: City, client: httpx.AsyncClient) -> None:
    for id, number in (("mine", "001070000001"), ("theirs", "001070000002")):
        await client.put(f"/Patient/{id}", json=patient((CCCD, number), id=id, family=id))
        await send(client, f"/Binary/of-{id}", PDF, "application/pdf", X_Security_Context=f"Patient/{id}")
    await send(client, "/Binary/of-nobody", PDF, "application/pdf")
    found = (await client.get("/Person", params={"link": "Patient/mine"})).json()
    person = found["entry"][0]["resource"]["id"]
    me = city.citizen(person)
    assert (await get(me, "/Binary/of-mine")).content == PDF
    assert (await get(me, "/Binary/of-mine/_history/1")).content == PDF
    for other in ("of-theirs", "of-nobody"):
        for url in (f"/Binary/{other}", f"/Binary/{other}/_history/1", f"/Binary/{other}?_format=json"):
            hidden = await get(me, url)
            absent = await get(me, url.replace(other, "never-there"))
            assert (hidden.status_code, hidden.content) == (404, absent.content)
    listed = (await me.get("/Binary")).json()["entry"]
    assert [one["resource"]["id"] for one in listed] == ["of-mine"]
    query = "SELECT count(*) FROM audit WHERE action = 'R' AND resource_id = 'of-mine' AND person_id = $1"
    async with city.record.database.acquire() as connection:
        assert await connection.fetchval(query, person) == 2
    taken = await send(client, "/Binary/of-mine", PDF, "application/pdf", X_Security_Context="Patient/theirs")
    assert taken.status_code == 200
    assert (await get(me, "/Binary/of-mine")).status_code == 404


async def test_content_needs_a_token_that_grants_it(city: City, client: httpx.AsyncClient) -> None:
    await client.put("/Binary/b", json=binary(id="b"))
    assert (await get(city.client(), "/Binary/b")).status_code == 401
    narrow = city.system("system/Patient.cruds", name="narrow")
    assert (await get(narrow, "/Binary/b")).status_code == 403
    assert (await send(narrow, "/Binary", PDF, "application/pdf")).status_code == 403


async def test_the_capability_statement_tells_it(client: httpx.AsyncClient) -> None:
    resources = (await client.get("/metadata")).json()["rest"][0]["resource"]
    told = {one["type"]: one.get("documentation", "") for one in resources}
    assert "X-Security-Context" in told["Binary"]
    assert not told["Patient"]
