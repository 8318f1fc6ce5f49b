"""Every search parameter of the types that clinics ask for most, by the CapabilityStatement, over HTTP, on data.

The list of parameters is compared with R4's own: what is not served is named here, and refused by name.
"""

from typing import Any

import httpx
import pytest
import pytest_asyncio

from ehr.fhir import parameters
from tests.api.conftest import City, shared_city
from tests.unit.index_expectations import EXPECTED

__all__ = ["shared_city"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

HL7 = "http://terminology.hl7.org/CodeSystem"
STATUS = {
    "Condition": {
        "clinicalStatus": ("condition-clinical", "resolved"),
        "verificationStatus": ("condition-ver-status", "confirmed"),
    },
    "AllergyIntolerance": {
        "clinicalStatus": ("allergyintolerance-clinical", "active"),
        "verificationStatus": ("allergyintolerance-verification", "confirmed"),
    },
}
TYPES = sorted(EXPECTED)
NEVER = {"_query"}
WORDS = {"_text", "_content"}
"""Words of a whole resource: they take no modifier and give no order."""
VALUES = {
    "string": "a",
    "token": "x|y",
    "date": "ge2020-01-01",
    "number": "1",
    "quantity": "gt5",
    "uri": "http://x.example",
    "reference": "Patient/x",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clinic(shared_city: City) -> httpx.AsyncClient:
    """A clinic's client, after one resource of each type was written."""
    client = shared_city.system()
    for name in TYPES:
        tree = EXPECTED[name][0]
        answer = await client.put(f"/{name}/{tree['id']}", json=admissible(tree))
        assert answer.status_code == 201, answer.text
    return client


def admissible(tree: dict[str, Any]) -> dict[str, Any]:
    """The index is lenient about codes and references that the gate of the store refuses."""
    status = STATUS.get(tree["resourceType"], {})
    coded = {name: {"coding": [{"system": f"{HL7}/{system}", "code": code}]} for name, (system, code) in status.items()}
    if tree["resourceType"] == "DiagnosticReport":
        return {**tree, "result": [one for one in tree["result"] if not one["reference"].startswith("#")]}
    return {**tree, **coded}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stated(clinic: httpx.AsyncClient) -> dict[str, dict[str, str]]:
    """Type → parameter → kind, by the CapabilityStatement."""
    resources = (await clinic.get("/metadata")).json()["rest"][0]["resource"]
    return {one["type"]: {p["name"]: p["type"] for p in one["searchParam"]} for one in resources}


async def found(clinic: httpx.AsyncClient, name: str, parameter: str, value: str) -> list[str]:
    answer = await clinic.get(f"/{name}", params={parameter: value})
    assert answer.status_code == 200, f"{name}?{parameter}={value}: {answer.text}"
    return [e["resource"]["id"] for e in answer.json().get("entry", []) if e["search"]["mode"] == "match"]


@pytest.mark.parametrize("name", TYPES)
async def test_the_statement_lists_what_r4_has_but_for_what_is_named(
    clinic: httpx.AsyncClient, stated: dict[str, dict[str, str]], name: str
) -> None:
    assert set(parameters.of(name)) - set(stated[name]) == NEVER
    for parameter in NEVER:
        answer = await clinic.get(f"/{name}", params={parameter: "x"})
        assert answer.status_code == 400
        assert parameter in answer.text


@pytest.mark.parametrize("name", TYPES)
async def test_every_stated_parameter_answers_and_knows_what_is_there(
    clinic: httpx.AsyncClient, stated: dict[str, dict[str, str]], name: str
) -> None:
    tree, expected = EXPECTED[name]
    assert len(stated[name]) > 15
    for parameter, kind in stated[name].items():
        if kind == "composite":
            await found(clinic, name, parameter, composite(name, parameter))
            continue
        await found(clinic, name, parameter, VALUES[kind])
        if parameter in WORDS:
            continue
        known = parameters.of(name)[parameter]
        parts = {parameter} if known.only else {parameter, *known.union}
        there = bool(parts & {*expected, "_id", "_lastUpdated"})
        assert await found(clinic, name, f"{parameter}:missing", "false") == ([tree["id"]] if there else []), parameter
        assert await found(clinic, name, f"{parameter}:missing", "true") == ([] if there else [tree["id"]]), parameter
        if kind in ("string", "date", "number", "quantity") and parameter != "phonetic":  # a sound has no order
            for order in (parameter, f"-{parameter}"):
                assert await found(clinic, name, "_sort", order) == [tree["id"]]


def composite(name: str, parameter: str) -> str:
    known = parameters.of(name)
    one = known[parameter]
    parts: Any = one.components or known[one.union[0]].components
    return "$".join(VALUES[part.kind].removeprefix("ge").removeprefix("gt") for part in parts)
