"""Operations are bound by their definitions: methods, levels, types and parameters, and the definitions are served."""

from typing import Any

import httpx
import pytest

from ehr.api.fhir_operations import BINDINGS
from ehr.fhir import codec
from ehr.fhir.operation_definitions import OPERATIONS, bodies
from ehr.fhir.validate import validate
from ehr.store.operation_definitions import publish
from tests.api.conftest import City
from tests.api.mothers import patient


def parameters(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(parts)}


def test_every_definition_is_bound_once_and_valid() -> None:
    assert sorted(binding.definition for binding in BINDINGS) == sorted(OPERATIONS)
    for body in bodies():
        tree = codec.loads(body)
        assert validate(tree) == [], tree["id"]
        assert OPERATIONS[tree["id"]].levels, "it can be executed somewhere"


async def test_the_statement_names_the_definitions_and_they_can_be_found(city: City, client: httpx.AsyncClient) -> None:
    await publish(city.record)
    await publish(city.record)
    statement = (await city.client().get("/metadata")).json()
    listed = [one for resource in statement["rest"][0]["resource"] for one in resource["operation"]]
    listed += statement["rest"][0].get("operation", [])
    assert {one["definition"] for one in listed} == {one.url for one in OPERATIONS.values()}
    for one in OPERATIONS.values():
        found = (await client.get("/OperationDefinition", params={"url": one.url, "code": one.code})).json()
        assert [entry["resource"]["id"] for entry in found["entry"]] == [one.id]
        read = await client.get(f"/OperationDefinition/{one.id}")
        assert read.json()["meta"]["versionId"] == "1", "publishing again changed nothing"


async def test_nobody_else_changes_a_definition(city: City, client: httpx.AsyncClient) -> None:
    await publish(city.record)
    mine = (await client.get("/OperationDefinition/summary")).json()
    changed = await client.put("/OperationDefinition/summary", json={**mine, "code": "other"})
    assert (changed.status_code, changed.json()["issue"][0]["expression"]) == (403, ["OperationDefinition.id"])
    assert (await client.delete("/OperationDefinition/summary")).status_code == 403
    assert (await client.get("/OperationDefinition/summary")).json() == mine
    other = await client.put("/OperationDefinition/theirs", json={**mine, "id": "theirs"})
    assert other.status_code == 201


REFUSED = {
    "not of the definition": ("GET", "?foo=1", None, 400, "foo"),
    "not of its type": ("GET", "?_since=yesterday", None, 400, "_since"),
    "a number that is none": ("GET", "?_count=x", None, 400, "_count"),
    "too many": ("GET", "?start=2024&start=2025", None, 400, "start"),
    "not of the definition, in the body": (
        "POST",
        "",
        parameters({"name": "foo", "valueString": "x"}),
        400,
        "Parameters.parameter[0].name",
    ),
    "of another type, in the body": (
        "POST",
        "",
        parameters({"name": "_type", "valueCode": "Patient"}, {"name": "start", "valueInteger": 3}),
        400,
        "Parameters.parameter[1].valueInteger",
    ),
    "a value that cannot be of the type": (
        "POST",
        "",
        parameters({"name": "start", "valueString": "soon"}),
        400,
        "Parameters.parameter[0].valueString",
    ),
    "no value": ("POST", "", parameters({"name": "start", "part": []}), 400, "Parameters.parameter[0].part"),
    "no Parameters": ("POST", "", patient(), 400, "resourceType"),
    "too many, in query and body": (
        "POST",
        "?start=2024",
        parameters({"name": "start", "valueDate": "2024"}),
        400,
        "start",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_definition_does_not_allow_is_refused(client: httpx.AsyncClient, name: str) -> None:
    method, query, body, status, at = REFUSED[name]
    answer = await client.request(method, f"/Patient/p/$everything{query}", json=body)
    assert answer.status_code == status, answer.text
    assert at in answer.json()["issue"][0]["expression"], answer.text


async def test_lenient_handling_lets_unknown_query_parameters_be(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p", json=patient(id="p"))
    lenient = {"Prefer": "handling=lenient"}
    assert (await client.get("/Patient/p/$everything?foo=1", headers=lenient)).status_code == 200


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/Patient/$nothing", 404),
        ("POST", "/$nothing", 404),
        ("GET", "/Patient/p/$nothing", 404),
        ("GET", "/Organization/o/$everything", 404),
        ("GET", "/Nothing/o/$everything", 404),
        ("DELETE", "/Patient/p/$everything", 405),
    ],
)
async def test_operations_that_are_none_say_so(client: httpx.AsyncClient, method: str, url: str, status: int) -> None:
    answer = await client.request(method, url)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert ("allow" in answer.headers) == (status == 405)


async def test_the_body_may_be_the_resource_itself_beside_a_query(client: httpx.AsyncClient) -> None:
    answer = await client.post("/Patient/a/$validate?mode=update", json=patient())
    assert answer.json()["issue"][0]["expression"] == ["Patient.id"]
    absent = await client.post("/Patient/$validate")
    assert (absent.status_code, absent.json()["issue"][0]["expression"]) == (400, ["resource"])


async def test_everything_of_the_type_needs_a_caller_who_is_one_person(client: httpx.AsyncClient) -> None:
    refused = await client.get("/Patient/$everything")
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (400, ["id"])
