"""The capability statements tell the truth: each thing they name is asked for, and what they do not name is refused."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import City
from tests.api.mothers import patient


async def statement(client: httpx.AsyncClient, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/metadata{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    checked = await client.post(f"/{found['resourceType']}/$validate", content=answer.content)
    assert [one for one in checked.json()["issue"] if one["severity"] == "error"] == []
    return found


def resource(found: dict[str, Any], type_name: str) -> dict[str, Any]:
    (one,) = [one for one in found["rest"][0]["resource"] if one["type"] == type_name]
    assert isinstance(one, dict)
    return one


async def test_full_is_the_default_and_what_it_includes_is_served(client: httpx.AsyncClient) -> None:
    full = await statement(client, "?mode=full")
    assert full == await statement(client)
    observation = resource(full, "Observation")
    assert {"*", "Observation:subject", "Observation:encounter"} <= set(observation["searchInclude"])
    for name in ("Observation", "Organization", "Provenance"):
        told = resource(full, name)
        for value in told["searchInclude"]:
            assert (await client.get(f"/{name}", params={"_include": value})).status_code == 200, value
        for value in told["searchRevInclude"][:40]:
            assert (await client.get(f"/{name}", params={"_revinclude": value})).status_code == 200, value
    assert "Observation:subject" not in resource(full, "Organization")["searchRevInclude"]


async def test_every_compartment_it_names_is_served(client: httpx.AsyncClient) -> None:
    (rest,) = (await statement(client))["rest"]
    names = [url.removeprefix("http://hl7.org/fhir/CompartmentDefinition/") for url in rest["compartment"]]
    assert sorted(names) == ["device", "encounter", "patient", "practitioner", "relatedPerson"]
    for name in names:
        place = f"/{name[0].upper()}{name[1:]}/x"
        for within in ("*", "Observation" if name != "relatedPerson" else "Patient"):
            assert (await client.get(f"{place}/{within}")).status_code == 200, (name, within)


async def test_what_is_normative_is_a_part_of_it(client: httpx.AsyncClient) -> None:
    full, normative = await statement(client), await statement(client, "?mode=normative")
    types = [one["type"] for one in normative["rest"][0]["resource"]]
    assert {"Patient", "Observation", "Bundle"} <= set(types)
    assert "Encounter" not in types
    for one in normative["rest"][0]["resource"]:
        whole = resource(full, one["type"])
        assert {**whole, "operation": one["operation"]} == one
        named = {operation["name"] for operation in one["operation"]}
        assert "validate" in named
        assert named <= {"validate", "meta-add", "meta-delete", "subsumes"}


async def test_terminology_names_what_was_loaded(city: City, client: httpx.AsyncClient) -> None:
    grammars = ["http://unitsofmeasure.org", "urn:ietf:bcp:13", "urn:ietf:bcp:47"]
    before = await statement(client, "?mode=terminology")
    assert [one["uri"] for one in before["codeSystem"]] == grammars
    async with city.record.database.acquire() as connection:
        await connection.execute(
            "INSERT INTO code_system (url, version, title, file_name, digest, language, concept_count) VALUES "
            "('urn:x', '1', '', 'x', '', 'vi', 0), ('urn:x', '2', '', 'x', '', 'en', 0),"
            "('urn:y', '', '', 'y', '', 'vi', 0)"
        )
    found = await statement(client, "?mode=terminology")
    assert found["resourceType"] == "TerminologyCapabilities"
    assert found["codeSystem"][:2] == [
        {"uri": "urn:x", "version": [
            {"code": "1", "isDefault": False, "language": ["vi"]}, {"code": "2", "isDefault": True, "language": ["en"]}
        ], "subsumption": True},
        {"uri": "urn:y", "subsumption": True},
    ]  # fmt: skip
    parameters = [one["name"] for one in found["expansion"]["parameter"]]
    assert {"filter", "activeOnly", "includeDesignations", "system-version", "count"} <= set(parameters)
    assert "date" not in parameters
    valid = await client.post("/TerminologyCapabilities/$validate", json=found)
    assert [one for one in valid.json()["issue"] if one["severity"] == "error"] == []


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?mode=other", {}, 400),
        ("?nothing=1", {}, 400),
        ("", {"Accept": "text/turtle"}, 406),
        ("?_format=ttl", {}, 406),
    ],
)
async def test_other_statements_are_refused(city: City, query: str, headers: dict[str, str], status: int) -> None:
    answer = await city.client().get(f"/metadata{query}", headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/metadata", "GET, HEAD, OPTIONS"),
        ("/Patient/p", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/Binary/b", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/Binary", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
        ("/Patient/_search", "OPTIONS, POST"),
        ("/Patient/p/$meta-add", "OPTIONS, POST"),
    ],
)
async def test_options_lists_the_methods_of_an_address(city: City, path: str, allowed: str) -> None:
    answer = await city.client().options(path)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (204, b"", allowed)


async def test_options_of_no_address_is_not_found(city: City) -> None:
    assert (await city.client().options("/Nothing")).status_code == 404


async def test_every_write_answers_as_preferred(client: httpx.AsyncClient) -> None:
    writes: list[tuple[str, str, Any, int]] = [
        ("POST", "/Patient", patient(), 201),
        ("PUT", "/Patient/p", patient(id="p"), 201),
        ("PUT", "/Patient/p", patient(id="p", active=True), 200),
        ("PUT", "/Patient?_id=p", patient(id="p", active=False), 200),
    ]
    for method, url, body, status in writes:
        for returns in ("representation", "minimal", "OperationOutcome"):
            answer = await client.request(method, url, json=body, headers={"Prefer": f"return={returns}"})
            assert answer.status_code in (status, 200), answer.text
            assert answer.headers["location"].startswith(f"{client.base_url}Patient/".replace("//P", "/P"))
            shown = answer.json()["resourceType"] if answer.content else None
            assert shown == {"representation": "Patient", "minimal": None}.get(returns, "OperationOutcome")
    told = await client.delete("/Patient/p", headers={"Prefer": "return=OperationOutcome"})
    assert (told.status_code, told.json()["resourceType"]) == (200, "OperationOutcome")
    quiet = await client.delete("/Patient/p", headers={"Prefer": "return=minimal"})
    assert (quiet.status_code, quiet.content) == (204, b"")
