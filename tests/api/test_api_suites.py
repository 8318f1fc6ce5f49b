"""What public test suites and the clients of other libraries send, as R4 and the guides have it answered."""

import json

import pytest

from tests.api.conftest import JSON, City
from tests.api.mothers import bundle, entry, patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

XML = "application/fhir+xml"
AS_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("headers", "query", "status", "shown"),
    [
        ({"Accept": ""}, "", 200, JSON),
        ({}, "?_format=application/fhir%2Bjson%3BfhirVersion%3D4.0", 200, JSON),
        ({}, "?_format=application/fhir%2Bxml;fhirVersion=4.0", 200, XML),
        ({}, "?_format=application/fhir%2Bjson%3BfhirVersion%3D5.0", 406, JSON),
        ({"Accept": f"{JSON}; fhirVersion=5.0"}, "", 406, JSON),
    ],
)
async def test_a_format_is_of_a_version_whichever_way_it_is_named(
    shared_city: City, headers: dict[str, str], query: str, status: int, shown: str
) -> None:
    answer = await shared_city.client().get(f"/metadata{query}", headers=headers)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, shown)


@pytest.mark.parametrize(
    ("accept", "shown"),
    [
        ("application/json", "application/json"),
        ("text/xml", "text/xml"),
        ("application/xml+fhir", "application/xml+fhir"),
        ("application/json, application/fhir+json", JSON),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "application/xml"),
        ("application/*", JSON),
    ],
)
async def test_an_answer_has_the_type_by_which_it_was_asked_for(shared_city: City, accept: str, shown: str) -> None:
    for path, status in (("/metadata", 200), ("/Nothing", 404)):
        answer = await shared_city.system().get(path, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (status, f"{shown}; charset=utf-8")
    named = await shared_city.system().get("/metadata?_format=json", headers={"Accept": accept})
    assert named.headers["content-type"] == f"{JSON}; charset=utf-8"


@pytest.mark.parametrize("summary", ["true", "text", "data"])
async def test_the_statement_can_be_had_in_part(shared_city: City, summary: str) -> None:
    """Clients that only want to know the version ask so."""
    part = (await shared_city.client().get("/metadata", params={"_summary": summary})).json()
    assert part["fhirVersion"] == "4.0.1"
    assert part["meta"]["tag"][0]["code"] == "SUBSETTED"


async def test_the_statement_has_no_element_that_is_not_asked_for(shared_city: City) -> None:
    whole = (await shared_city.client().get("/metadata")).json()
    part = (await shared_city.client().get("/metadata", params={"_elements": "software"})).json()
    assert part["software"] == whole["software"]
    assert "rest" not in part
    refused = await shared_city.client().get("/metadata", params={"_elements": "nonsense"})
    assert refused.status_code == 400


async def test_every_page_looks_as_the_first_one_was_asked_for(shared_city: City) -> None:
    for _ in range(3):
        await shared_city.system().post("/Patient", json=patient())
    for address in ("/Patient?_count=1&_format=xml", "/Patient/_history?_count=1&_format=xml"):
        first = await shared_city.system().get(address)
        (following,) = (
            one.split('"')[0].replace("&amp;", "&")
            for one in first.text.split('<url value="')[1:]
            if "_cursor" in one.split('"')[0] or "_page" in one.split('"')[0]
        )
        assert (await shared_city.system().get(following)).headers["content-type"].startswith(XML)
    by_form = await shared_city.system().post("/Patient/_search", content="_count=1&_pretty=true", headers=AS_FORM)
    assert by_form.json()["link"][0]["url"].partition("?")[2] == "_count=1&_pretty=true"
    inside = entry("GET", "Patient?_count=1")
    answered = await shared_city.system().post("/?_pretty=true", json=bundle("batch", inside))
    assert "_pretty" not in json.dumps(answered.json()["entry"][0]["resource"]["link"])


@pytest.mark.parametrize(
    "query",
    ["_count=1&_count=2", "_total=none&_total=accurate", "_summary=true&_summary=text", "_count:exact=1"],
)
async def test_of_two_answers_to_one_question_neither_is_taken(shared_city: City, query: str) -> None:
    answer = await shared_city.system().get(f"/Patient?{query}")
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == [query.rsplit("&", maxsplit=1)[-1].partition("=")[0]]


@pytest.mark.parametrize("path", ["//Patient/1", "/metadata/", "/Patient/", "/Patient//1", "/Patient/1/"])
async def test_slashes_too_many_are_told(shared_city: City, path: str) -> None:
    answer = await shared_city.system().get(f"{shared_city.base}{path}")
    assert answer.status_code == 404
    assert "slash" in answer.json()["issue"][0]["details"]["text"]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_nothing_asked_is_answered_by_a_bundle_without_an_empty_array(shared_city: City, kind: str) -> None:
    answer = await shared_city.system().post("", json={"resourceType": "Bundle", "type": kind})
    assert (answer.status_code, answer.json()) == (200, {"resourceType": "Bundle", "type": f"{kind}-response"})


async def test_a_batch_tells_the_moment_of_a_version_as_the_version_does(shared_city: City) -> None:
    stored = (await shared_city.system().put("/Patient/p", json={**patient(), "id": "p"})).json()
    asked = [entry(method, "Patient/p") for method in ("GET", "HEAD")]
    answer = await shared_city.system().post("", json=bundle("batch", *asked))
    told = [one["response"]["lastModified"] for one in answer.json()["entry"]]
    assert told == [stored["meta"]["lastUpdated"]] * 2


async def test_a_token_request_without_grant_type_lacks_something(shared_city: City) -> None:
    """RFC 6749 5.2."""
    address = f"{shared_city.base.removesuffix('/fhir')}/oauth/token"
    answer = await shared_city.client().post(address, content="a=b", headers=AS_FORM)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


UNKNOWN = {
    JSON: '{"resourceType": "Patient", "nickname": "x"}',
    XML: '<Patient xmlns="http://hl7.org/fhir"><nickname value="x"/></Patient>',
}


@pytest.mark.parametrize("form", UNKNOWN)
async def test_what_is_no_fhir_is_answered_alike_in_both_formats(shared_city: City, form: str) -> None:
    body, headers = UNKNOWN[form], {"Content-Type": form}
    refused = await shared_city.system().post("/Patient", content=body, headers=headers)
    judged = await shared_city.system().post("/Patient/$validate", content=body, headers=headers)
    assert (refused.status_code, judged.status_code) == (400, 200)
    for answer in (refused, judged):
        (issue,) = (one for one in answer.json()["issue"] if one["severity"] == "error")
        assert (issue["code"], issue["expression"]) == ("structure", ["Patient.nickname"])
    cut = await shared_city.system().post("/Patient/$validate", content="<", headers={"Content-Type": XML})
    assert cut.status_code == 400


async def test_a_narrative_of_another_language_is_refused(shared_city: City) -> None:
    """One without a namespace is taken for XHTML, since JSON has no other use for it."""
    for space, status in (("", 201), (' xmlns="http://www.w3.org/1999/xhtml"', 201), (' xmlns="http://other"', 400)):
        text = {"status": "generated", "div": f"<div{space}>x</div>"}
        answer = await shared_city.system().post("/Patient", json={**patient(), "text": text})
        assert answer.status_code == status, answer.text


async def test_what_is_fhir_and_not_served_is_no_bad_request(shared_city: City) -> None:
    channel = {"type": "rest-hook", "endpoint": "https://example.org/hook"}
    asked = {"resourceType": "Subscription", "status": "requested", "reason": "r", "criteria": "Patient?"}
    answer = await shared_city.system().post("/Subscription", json={**asked, "channel": channel})
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (422, "not-supported")


async def test_a_parameter_is_claimed_with_what_defines_it_and_system_wide_where_it_is(shared_city: City) -> None:
    (rest,) = (await shared_city.client().get("/metadata")).json()["rest"]
    listed = {
        one["type"]: {each["name"]: each["definition"] for each in one["searchParam"]} for one in rest["resource"]
    }
    defined = "http://hl7.org/fhir/SearchParameter/"
    assert listed["Patient"]["name"] == f"{defined}Patient-name"
    assert listed["Patient"]["_id"] == f"{defined}Resource-id"
    assert listed["Observation"]["patient"] == f"{defined}clinical-patient"
    everywhere = {one["name"]: one["type"] for one in rest["searchParam"]}
    assert everywhere.keys() >= {"_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_text", "_content"}
    for name, kind in everywhere.items():
        if kind != "special":
            answer = await shared_city.system().get("", params={name: "2020" if kind == "date" else "a"})
            assert answer.status_code == 200, (name, answer.text)


async def test_a_canonical_url_of_no_named_type_may_name_any(shared_city: City) -> None:
    client, url = shared_city.system(), "http://example.org/plan"
    plan = {"resourceType": "PlanDefinition", "id": "plan", "status": "active", "url": url}
    group = {"resourceType": "RequestGroup", "id": "group", "status": "active", "intent": "order"}
    subject = {"subject": {"reference": "Patient/none"}, "instantiatesCanonical": [url]}
    for one in (plan, {**group, **subject}):
        assert (await client.put(f"/{one['resourceType']}/{one['id']}", json=one)).status_code == 201
    asked = {"_id": "group", "_include": "RequestGroup:instantiates-canonical"}
    found = (await client.get("/RequestGroup", params=asked)).json()["entry"]
    assert [one["resource"]["id"] for one in found] == ["group", "plan"]


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [(None, 'Bearer realm="fhir"'), ("Bearer nonsense", 'Bearer realm="fhir", error="invalid_token"')],
)
async def test_the_challenge_tells_no_token_from_a_bad_one(
    shared_city: City, authorization: str | None, challenge: str
) -> None:
    """RFC 6750 3.1."""
    headers = {"Authorization": authorization} if authorization else {}
    answer = await shared_city.client().get("/Patient", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)


async def test_small_things_are_told_as_they_are(shared_city: City) -> None:
    client = shared_city.system()
    long = await client.get("/Patient", params={"name": "a" * 20_000})
    assert (long.status_code, long.json()["issue"][0]["code"]) == (414, "too-costly")
    await client.put("/Patient/v", json={**patient(), "id": "v"})
    assert (await client.get("/Patient/v/_history/01")).status_code == 404
    unshown = await client.get("/Patient/v", params={"?": "x"})
    assert (unshown.status_code, "expression" in unshown.json()["issue"][0]) == (400, False)
    elsewhere = bundle("batch", entry("GET", "https://other.example.org/fhir/Patient/1"))
    (told,) = (await client.post("", json=elsewhere)).json()["entry"]
    assert "another server" in told["response"]["outcome"]["issue"][0]["details"]["text"]
