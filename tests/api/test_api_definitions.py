"""Definitions that operations of terminology are asked of: sent as the body, loaded anew, named by a code system."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from terminology import codesystem
from tests.api.conftest import City
from tests.api.listing import ALL, LIST, OLD, SET, SYSTEM, WHOLE, load_into, shown, told


async def test_a_definition_may_be_the_body_itself(client: httpx.AsyncClient) -> None:
    """operations.html#executing: where one parameter is a resource, beside those of the query."""
    concept_map = {"resourceType": "ConceptMap", "status": "active", "group": [{
        "source": LIST, "target": OLD, "element": [{"code": "A1", "target": [{"code": "Z", "equivalence": "equal"}]}]
    }]}  # fmt: skip
    listed = {**ALL, "compose": {"include": [{"system": LIST, "concept": [{"code": "A1"}, {"code": "B1"}]}]}}
    assert shown(await client.post("/ValueSet/$expand?count=1", json=listed)) == ["A1"]
    found = await client.post(f"/ValueSet/$validate-code?system={LIST}&code=A1", json=listed)
    assert told(found)["result"] is True
    assert told(await client.post("/CodeSystem/$validate-code?code=A1", json=SYSTEM))["result"] is True
    translated = await client.post(f"/ConceptMap/$translate?system={LIST}&code=A1", json=concept_map)
    assert told(translated) == {"result": True}
    for operation in (
        "ValueSet/$expand",
        "CodeSystem/$validate-code?code=A1",
        f"ConceptMap/$translate?coding={LIST}|A1",
    ):
        refused = await client.post(f"/{operation}", json={"resourceType": "Patient"})
        assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (400, ["resourceType"])


async def test_a_list_that_is_loaded_anew_is_served_anew(
    city: City, client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = {**SYSTEM, "concept": [{**SYSTEM["concept"][2], "display": "Khác"}]}
    for concepts_kept_max in (codesystem.CONCEPTS_KEPT_MAX, 1):
        monkeypatch.setattr(codesystem, "CONCEPTS_KEPT_MAX", concepts_kept_max)
        for one, expected in ((SYSTEM, WHOLE), (renamed, ["AB"])):
            await load_into(city, tmp_path, one)
            for _ in range(2):
                assert shown(await client.get("/ValueSet/$expand", params={"url": f"{LIST}?fhir_vs"})) == expected


async def test_a_code_system_names_the_value_set_of_its_codes(
    city: City, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await load_into(city, tmp_path, SYSTEM)
    assert shown(await client.get("/ValueSet/$expand?url=http://x.vn/vs/everything")) == WHOLE
    await load_into(city, tmp_path, ALL)
    assert shown(await client.get(f"/ValueSet/$expand?url={SET}&activeOnly=true")) == [c for c in WHOLE if c != "A2"]
    settled = await client.get(f"/ValueSet/$expand?url={SET}&system-version={LIST}|2025")
    assert (settled.status_code, settled.json()["issue"][0]["expression"]) == (400, ["url"])


OWN: dict[str, Any] = {
    "resourceType": "ValueSet",
    "id": "own",
    "url": "http://x.vn/vs/own",
    "status": "active",
    "compose": {
        "include": [
            {
                "system": LIST,
                "concept": [
                    {
                        "code": "A1",
                        "display": "Sốt dengue",
                        "designation": [
                            {"language": "en", "value": "Dengue fever"},
                            {"language": "fr", "value": "Dengue"},
                        ],
                    },
                    {"code": "B1"},
                ],
            },
            {"system": "urn:else", "concept": [{"code": "x", "designation": [{"language": "en", "value": "Else"}]}]},
        ]
    },
}


@pytest.mark.parametrize("kept", ["loaded", "stored"])
async def test_a_value_set_may_call_its_codes_otherwise(
    city: City, client: httpx.AsyncClient, tmp_path: Path, kept: str
) -> None:
    await load_into(city, tmp_path, SYSTEM)
    if kept == "loaded":
        await load_into(city, tmp_path, OWN)
    else:
        assert (await client.put("/ValueSet/own", json=OWN)).status_code == 201
    for query, expected in (
        ("", ["Sốt dengue", "Xuất viện", None]),
        ("&displayLanguage=en", ["Dengue fever", "Xuất viện", "Else"]),
        ("&displayLanguage=vi", ["Sốt xuất huyết", "Xuất viện", None]),
        ("&filter=fever", ["Sốt dengue"]),
        ("&filter=els", [None]),
    ):
        answer = await client.get(f"/ValueSet/$expand?url={OWN['url']}{query}")
        assert [one.get("display") for one in answer.json()["expansion"]["contains"]] == expected, query
    answer = await client.get(f"/ValueSet/$expand?url={OWN['url']}&designation=en")
    designations = [
        [each["value"] for each in one["designation"]] for one in answer.json()["expansion"]["contains"][::2]
    ]
    assert designations == [["Dengue fever", "Dengue"], ["Else"]]
    for display, result in (("dengue fever", True), ("Sốt dengue", True), ("Fever", False)):
        asked = f"/ValueSet/$validate-code?url={OWN['url']}&system={LIST}&code=A1&display={display}"
        assert told(await client.get(asked))["result"] is result, display


async def test_a_tree_is_as_deep_as_json_may_be_and_a_cycle_is_cut(client: httpx.AsyncClient) -> None:
    def chain(url: str, parents: dict[str, str]) -> dict[str, Any]:
        listed = [
            {"code": code, "property": [{"code": "parent", "valueCode": parent}] if parent else []}
            for code, parent in parents.items()
        ]
        concepts = [{name: value for name, value in one.items() if value} for one in listed]
        return {
            "resourceType": "CodeSystem",
            "url": url,
            "status": "active",
            "content": "complete",
            "concept": concepts,
        }

    long = {f"c{number}": f"c{number - 1}" if number else "" for number in range(2_000)}
    for one in (chain("urn:long", long), chain("urn:round", {"a": "c", "b": "a", "c": "b", "d": "c"})):
        assert (await client.post("/CodeSystem", json=one)).status_code == 201
    below = shown(await client.get("/ValueSet/$expand", params={"url": "urn:long?fhir_vs=isa/c1990"}))
    assert below == [f"c{number}" for number in range(1990, 2000)]
    for first, status in (("c1970", 200), ("c1969", 413)):
        asked = {"url": f"urn:long?fhir_vs=isa/{first}", "excludeNested": "false"}
        assert (await client.get("/ValueSet/$expand", params=asked)).status_code == status, first
    nested = await client.get("/ValueSet/$expand", params={"url": "urn:round?fhir_vs", "excludeNested": "false"})
    codes, waiting = [], nested.json()["expansion"]["contains"]
    while waiting:
        one = waiting.pop(0)
        codes.append(one["code"])
        waiting += one.get("contains", [])
    assert codes == ["a", "b", "c", "d"]
