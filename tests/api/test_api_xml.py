"""FHIR XML in and out of every interaction, chosen by the headers and by _format; what is stored is the same."""

from typing import Any

import httpx
import pytest
from lxml import etree

from ehr.store.operation_definitions import publish
from tests.api.conftest import City
from tests.api.mothers import patient

XML = "application/fhir+xml"
F = "{http://hl7.org/fhir}"
SENT = """<?xml version="1.0" encoding="UTF-8"?>
<Observation xmlns="http://hl7.org/fhir">
  <!-- who sends this is not told -->
  <text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml"><p>Đường huyết &lt; 14</p></div></text>
  <status value="final"/>
  <code><text value="Đường huyết &quot;đói&quot;"/></code>
  <valueQuantity><value value="13.50"/><unit value="mmol/L"/></valueQuantity>
</Observation>
"""


def parsed(answer: httpx.Response) -> Any:
    assert answer.headers["content-type"] == "application/fhir+xml; charset=utf-8", answer.text
    return etree.fromstring(answer.content)


async def test_xml_is_stored_as_json_would_be(client: httpx.AsyncClient) -> None:
    created = await client.post("/Observation", content=SENT.encode(), headers={"Content-Type": XML, "Accept": XML})
    assert created.status_code == 201
    id = parsed(created).find(f"{F}id").get("value")
    read = await client.get(f"/Observation/{id}")
    assert b'"value":13.50' in read.content
    stored = read.json()
    assert stored["code"]["text"] == 'Đường huyết "đói"'
    assert stored["text"]["div"] == '<div xmlns="http://www.w3.org/1999/xhtml"><p>Đường huyết &lt; 14</p></div>'
    again = await client.put(
        f"/Observation/{id}",
        content=(await client.get(f"/Observation/{id}?_format=xml")).content,
        headers={"Content-Type": "text/xml"},
    )
    assert (again.status_code, again.json()) == (200, stored), "what came out goes in, and changes nothing"


EVERY = [
    "/Patient/p",
    "/Patient/p/_history/1",
    "/Patient/p/_history",
    "/Patient",
    "/?_type=Patient",
    "/_history",
    "/Patient/p/Observation",
    "/metadata",
    "/Patient/p/$everything",
    "/Patient/p/$summary",
    "/OperationDefinition/summary",
    "/Patient/absent",
    "/Nothing",
    "/Patient?nothing=1",
    "/Patient/p/$nothing",
    f"/Patient?family={'x' * 20_000}",
]


async def test_everything_that_is_answered_is_answered_in_xml(city: City, client: httpx.AsyncClient) -> None:
    await publish(city.record)
    await client.put("/Patient/p", json=patient(id="p"))
    for url in EVERY:
        in_json = await client.get(url)
        answer = await client.get(url, headers={"Accept": f"{XML};q=0.9, application/fhir+json;q=0.5"})
        assert answer.status_code == in_json.status_code, url
        assert parsed(answer).tag == F + in_json.json()["resourceType"], url
        assert answer.headers.get("last-modified") == in_json.headers.get("last-modified")
        head = await client.head(url, headers={"Accept": XML})
        assert head.headers["content-type"] == answer.headers["content-type"]


async def test_refusals_before_any_handler_are_xml_too(city: City) -> None:
    unknown = await city.client().get("/Patient/p", headers={"Accept": XML})
    assert (unknown.status_code, parsed(unknown).tag) == (401, f"{F}OperationOutcome")
    method = await city.client().request("PATCH", "/metadata?_format=xml")
    assert (method.status_code, parsed(method).tag) == (405, f"{F}OperationOutcome")


async def test_transactions_and_operations_take_xml(client: httpx.AsyncClient) -> None:
    sent = """<Bundle xmlns="http://hl7.org/fhir"><type value="{}"/><entry><resource><Patient><id value="p"/>
      <birthDate value="1970-05"/></Patient></resource><request><method value="PUT"/><url value="Patient/p"/></request>
      </entry></Bundle>"""
    for kind in ("transaction", "batch"):
        answer = await client.post("/", content=sent.format(kind), headers={"Content-Type": XML, "Accept": XML})
        assert answer.status_code == 200, answer.text
        assert parsed(answer).find(f"{F}entry/{F}response/{F}location") is not None
    assert (await client.get("/Patient/p")).json()["birthDate"] == "1970-05"
    parameters = """<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="_type"/><valueCode value="Patient"/>
      </parameter></Parameters>"""
    everything = await client.post("/Patient/p/$everything", content=parameters, headers={"Content-Type": XML})
    assert [one["resource"]["id"] for one in everything.json()["entry"]] == ["p"]


async def test_the_form_of_a_search_may_say_the_format(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p"))
    form = {"_id": "p", "_format": "application/fhir+xml", "_pretty": "true"}
    answer = await client.post(
        "/Patient/_search", data=form, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert parsed(answer).find(f"{F}entry/{F}resource/{F}Patient/{F}id").get("value") == "p"
    assert b"\n        <id " in answer.content


async def test_a_plus_that_came_as_a_space_is_read(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p"))
    for written in ("application/fhir+xml", "application/fhir%2Bxml", "text/xml", "application/xml", "xml"):
        answer = await client.get(f"/Patient/p?_format={written}", headers={"Accept": "application/fhir+json"})
        assert parsed(answer).tag == f"{F}Patient"


BAD = {
    "no XML": ("<Patient", 400, None),
    "a document type": ("<!DOCTYPE Patient [<!ENTITY x 'y'>]><Patient xmlns='http://hl7.org/fhir'/>", 400, None),
    "no namespace": ("<Patient/>", 400, None),
    "an unknown element": ("<Patient xmlns='http://hl7.org/fhir'>\n<foo value='1'/></Patient>", 400, "Patient.foo"),
    "what the gate refuses": (
        "<Patient xmlns='http://hl7.org/fhir'><gender value='f'/></Patient>",
        400,
        "Patient.gender",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_fhir_xml_is_refused(client: httpx.AsyncClient, name: str) -> None:
    body, status, at = BAD[name]
    answer = await client.post("/Patient", content=body.encode(), headers={"Content-Type": XML})
    assert answer.status_code == status, answer.text
    assert answer.json()["issue"][0].get("expression", [None]) == [at]


async def test_a_search_by_form_is_refused_in_the_format_the_form_asks_for(client: httpx.AsyncClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = await client.post("/Patient/_search", content="_format=xml&bogus=1", headers=form)
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/fhir+xml; charset=utf-8")
