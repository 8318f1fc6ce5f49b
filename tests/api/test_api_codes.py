"""Codes of a list over HTTP: parts of an expansion, codes of a system, look-ups, filters, implicit value sets."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import City
from tests.api.listing import ALL, DISPLAY, LIST, OLD, SYSTEM, USE, WHOLE, load_into, parameters, shown, told


@pytest.fixture(params=["loaded", "stored"])
async def listed(request: pytest.FixtureRequest, city: City, client: httpx.AsyncClient, tmp_path: Path) -> None:
    """The same list once as an operator loads it, once as a resource of the record."""
    old = {**SYSTEM, "version": "2025", "concept": [{"code": "A1", "display": "Cũ kỹ"}, {"code": "Z", "display": "Z"}]}
    if request.param == "loaded":
        await load_into(city, tmp_path, old, SYSTEM)
    else:
        for one in (old, SYSTEM):
            assert (await client.post("/CodeSystem", json=one)).status_code == 201
    assert (await client.put("/ValueSet/list", json=ALL)).status_code == 201


EXPANDED: dict[str, list[str]] = {
    "": WHOLE,
    "activeOnly=true": ["A", "A1", "A1.1", "B", "B1", "AB"],
    "excludeNotForUI=true": ["A1", "A1.1", "A2", "B", "B1", "AB"],
    "activeOnly=true&excludeNotForUI=true&count=2&offset=1": ["A1.1", "B"],
    "filter=xuat": ["A1", "B1"],
    "filter=sot xuat": ["A1"],
    "filter=deng": ["A1"],
    "filter=a1": ["A1", "A1.1"],
    f"exclude-system={LIST}": [],
    f"exclude-system={LIST}|2026": [],
    f"exclude-system={LIST}|2025": WHOLE,
    f"exclude-system={OLD}": WHOLE,
    f"system-version={LIST}|2025": ["A1", "Z"],
    f"force-system-version={LIST}|2025": ["A1", "Z"],
    f"check-system-version={LIST}|2026": WHOLE,
    "excludeNested=true": WHOLE,
    "excludePostCoordinated=true": WHOLE,
    "count=0&excludeNested=false": [],
}


@pytest.mark.usefixtures("listed")
async def test_parts_of_a_value_set_are_expanded(client: httpx.AsyncClient) -> None:
    for asked, expected in EXPANDED.items():
        assert shown(await client.get(f"/ValueSet/list/$expand?{asked}")) == expected, asked
    whole = (await client.get("/ValueSet/list/$expand?activeOnly=false&filter=&offset=0")).json()
    marks = [(one["code"], one.get("abstract", one.get("inactive"))) for one in whole["expansion"]["contains"]]
    assert marks[:4] == [("A", True), ("A1", None), ("A1.1", None), ("A2", True)]
    assert whole["expansion"]["parameter"] == [
        {"name": "offset", "valueInteger": 0},
        {"name": "activeOnly", "valueBoolean": False},
        {"name": "version", "valueUri": f"{LIST}|2026"},
    ]
    assert "compose" not in whole
    defined = (await client.get("/ValueSet/list/$expand?includeDefinition=true")).json()
    assert defined["compose"] == ALL["compose"]
    checked = await client.post("/ValueSet/$validate", json=defined)
    assert [one for one in checked.json()["issue"] if one["severity"] == "error"] == []


@pytest.mark.usefixtures("listed")
async def test_an_expansion_is_nested_where_it_is_asked_for(client: httpx.AsyncClient) -> None:
    def nest(listed: list[dict[str, Any]]) -> list[Any]:
        return [(one["code"], nest(one["contains"])) if "contains" in one else one["code"] for one in listed]

    answer = (await client.get("/ValueSet/list/$expand?excludeNested=false&count=2&offset=3")).json()
    assert nest(answer["expansion"]["contains"]) == [("A", [("A1", ["A1.1"]), "A2", "AB"]), ("B", ["B1"])]
    assert (answer["expansion"]["total"], "offset" in answer["expansion"]) == (7, False)
    without = (await client.get("/ValueSet/list/$expand?excludeNested=false&excludeNotForUI=true")).json()
    assert nest(without["expansion"]["contains"]) == [("A1", ["A1.1"]), "A2", ("B", ["B1", "AB"])]


@pytest.mark.usefixtures("listed")
async def test_designations_are_told_where_they_are_asked_for(client: httpx.AsyncClient) -> None:
    async def designations(query: str) -> tuple[str, list[Any]]:
        one = (await client.get(f"/ValueSet/list/$expand?filter=A1&count=1&{query}")).json()["expansion"]["contains"][0]
        return one["display"], [(each.get("language"), each["value"]) for each in one.get("designation", [])]

    every = [("vi", "Sốt xuất huyết"), ("en", "Dengue"), ("vi", "SXH"), (None, "breakbone")]
    for query, expected in (
        ("", ("Sốt xuất huyết", [])),
        ("displayLanguage=en", ("Dengue", [])),
        ("displayLanguage=en-GB", ("Dengue", [])),
        ("displayLanguage=fr", ("Sốt xuất huyết", [])),
        ("includeDesignations=true", ("Sốt xuất huyết", every)),
        ("designation=urn:ietf:bcp:47|en", ("Sốt xuất huyết", every[1:2])),
        ("designation=en&designation=http://x.vn/uses|short", ("Sốt xuất huyết", every[1:3])),
        ("designation=short", ("Sốt xuất huyết", every[2:3])),
    ):
        assert await designations(query) == expected, query


FILTERED: dict[tuple[str, str, str], list[str] | None] = {
    ("concept", "is-a", "A"): ["A", "A1", "A1.1", "A2", "AB"],
    ("concept", "descendent-of", "A"): ["A1", "A1.1", "A2", "AB"],
    ("concept", "is-not-a", "A"): ["B", "B1"],
    ("concept", "generalizes", "AB"): ["A", "B", "AB"],
    ("concept", "=", "A1"): ["A1"],
    ("concept", "in", "A1, B1"): ["A1", "B1"],
    ("code", "regex", r"A\d"): ["A1", "A2"],
    ("display", "regex", "Nhóm .*"): ["A", "B"],
    ("parent", "=", "B"): ["B1", "AB"],
    ("child", "=", "AB"): ["A", "B"],
    ("child", "exists", "false"): ["A1.1", "A2", "B1", "AB"],
    ("weight", "=", "3"): ["A1"],
    ("part", "=", "B2"): ["A1"],
    ("part", "in", "B1,x"): ["A1"],
    ("part", "not-in", "B1"): ["A", "A1.1", "A2", "B", "B1", "AB"],
    ("weight", "exists", "true"): ["A1"],
    ("status", "=", "retired"): ["A2"],
    ("inactive", "=", "true"): ["A2"],
    ("notSelectable", "=", "true"): ["A"],
    ("deprecated", "=", "true"): [],
    ("nothing", "=", "x"): None,
    ("concept", "is-a", "none"): None,
    ("constraint", "=", "<< 404684003"): None,
    ("weight", "is-a", "3"): None,
    ("weight", "exists", "perhaps"): None,
    ("code", "regex", "("): None,
}


@pytest.mark.usefixtures("listed")
async def test_every_filter_of_r4_is_served_or_refused_by_name(client: httpx.AsyncClient) -> None:
    for (name, op, value), expected in FILTERED.items():
        part = {"property": name, "op": op, "value": value}
        made = {**ALL, "compose": {"include": [{"system": LIST, "filter": [part]}]}}
        answer = await client.post("/ValueSet/$expand", json=parameters({"name": "valueSet", "resource": made}))
        if expected is None:
            assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (
                422, ["ValueSet.compose.include.filter"]
            ), part  # fmt: skip
            continue
        assert shown(answer) == expected, part
        for code in ("A1", "AB"):
            coding = {"name": "coding", "valueCoding": {"system": LIST, "code": code}}
            asked = parameters(
                {"name": "valueSet", "resource": made}, coding, {"name": "abstract", "valueBoolean": True}
            )
            found = await client.post("/ValueSet/$validate-code", json=asked)
            assert told(found)["result"] is (code in expected), (part, code)


@pytest.mark.usefixtures("listed")
async def test_inactive_codes_may_be_left_out_of_a_value_set(client: httpx.AsyncClient) -> None:
    for include in ({"system": LIST}, {"system": LIST, "concept": [{"code": "A1"}, {"code": "A2"}]}):
        made = {**ALL, "compose": {"inactive": False, "include": [include]}}
        sent = {"name": "valueSet", "resource": made}
        assert "A2" not in shown(await client.post("/ValueSet/$expand", json=parameters(sent)))
        for code in ("A1", "A2"):
            coding = {"name": "coding", "valueCoding": {"system": LIST, "code": code}}
            answer = await client.post("/ValueSet/$validate-code", json=parameters(sent, coding))
            assert told(answer)["result"] is (code == "A1")


VALIDATED: dict[str, dict[str, Any]] = {
    f"url={LIST}&code=A1": {"result": True, "display": "Sốt xuất huyết"},
    f"url={LIST}|2026&code=A1": {"result": True, "display": "Sốt xuất huyết"},
    f"url={LIST}&version=2025&code=A1": {"result": True, "display": "Cũ kỹ"},
    f"url={LIST}&code=a1": {"result": True, "display": "Sốt xuất huyết"},
    f"url={LIST}&code=A1&display=sxh": {"result": True, "display": "Sốt xuất huyết"},
    f"url={LIST}&code=A1&display=Dengue&displayLanguage=en": {"result": True, "display": "Dengue"},
    f"url={LIST}&code=A1&display=Sởi":
        {"result": False, "message": "the display of A1 is another one", "display": "Sốt xuất huyết"},
    f"url={LIST}&code=Z": {"result": False, "message": f"Z is no code of {LIST}"},
    f"url={LIST}&code=A":
        {"result": False, "message": "A is a heading, and no code to be used (abstract)", "display": "Nhóm A"},
    f"url={LIST}&code=A&abstract=true": {"result": True, "display": "Nhóm A"},
    f"url={LIST}&code=A2":
        {"result": True, "message": "A2 is no longer to be used (inactive)", "display": "Cũ"},
    f"coding={LIST}|A1": {"result": True, "display": "Sốt xuất huyết"},
    f"url={LIST}&coding={OLD}|A1": {"result": False, "message": f"{OLD}|A1 is no code of {LIST}"},
    f"url={LIST}&codeableConcept={LIST}|A1": {"result": True, "display": "Sốt xuất huyết"},
    "url=http://unitsofmeasure.org&code=mmol/L": {"result": True, "display": "mmol/L"},
    "url=http://unitsofmeasure.org&code=furlongs":
        {"result": False, "message": "furlongs is no code of http://unitsofmeasure.org"},
    "url=urn:ietf:bcp:47&code=vi-VN": {"result": True, "display": "vi-VN"},
    "url=http://hl7.org/fhir/administrative-gender&code=male": {"result": True, "display": "Male"},
    "url=http://terminology.hl7.org/CodeSystem/condition-clinical&code=active": {"result": True, "display": "Active"},
    "url=urn:iso:std:iso:4217&code=VND": {"result": True, "display": "Vietnamese đồng"},
    "url=urn:iso:std:iso:4217&code=ZZZ": {
        "result": False, "message": "ZZZ is no code of urn:iso:std:iso:4217, of which a fragment is here"
    },
    "url=http://hl7.org/fhir/administrative-gender&code=M":
        {"result": False, "message": "M is no code of http://hl7.org/fhir/administrative-gender"},
    "url=http://hl7.org/fhir/sid/icd-10&code=I10":
        {"result": True, "display": "Tăng huyết áp vô căn (nguyên phát)"},
}  # fmt: skip


@pytest.mark.usefixtures("listed")
async def test_a_code_is_one_of_a_code_system_or_not(client: httpx.AsyncClient) -> None:
    for query, expected in VALIDATED.items():
        assert told(await client.get(f"/CodeSystem/$validate-code?{query}")) == expected, query
    for query, status, at in (
        (f"url={LIST}", 400, "code"),
        ("code=A1", 400, "url"),
        (f"url={LIST}|2020&code=A1", 404, "url"),
        ("url=urn:none&code=A1", 404, "url"),
        ("url=http://hl7.org/fhir/sid/icd-10&code=none", 404, "url"),
        (f"url={LIST}&code=A1&date=2026", 400, "date"),
        (f"url={LIST}&code=A1&coding={LIST}|A1", 400, "coding"),
    ):
        answer = await client.get(f"/CodeSystem/$validate-code?{query}")
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (status, [at]), query


async def test_a_code_system_is_named_by_its_address_or_sent(client: httpx.AsyncClient) -> None:
    sent = {name: value for name, value in SYSTEM.items() if name != "url"}
    assert (await client.put("/CodeSystem/list", json={**SYSTEM, "id": "list"})).status_code == 201
    for code, expected in (("A1.1", True), ("none", False)):
        found = told(await client.get(f"/CodeSystem/list/$validate-code?code={code}"))
        assert found["result"] is expected
        asked = parameters({"name": "codeSystem", "resource": sent}, {"name": "code", "valueCode": code})
        assert told(await client.post("/CodeSystem/$validate-code", json=asked))["result"] is expected
    both = await client.get(f"/CodeSystem/list/$validate-code?code=A1&url={LIST}")
    assert (both.status_code, both.json()["issue"][0]["expression"]) == (400, ["url"])
    other = told(await client.get("/CodeSystem/list/$validate-code?code=A1&version=2025"))
    assert other == {"result": False, "message": "the code system is of version 2026, not 2025"}
    fragment = parameters(
        {"name": "codeSystem", "resource": {**SYSTEM, "content": "fragment"}}, {"name": "code", "valueCode": "x"}
    )
    answer = told(await client.post("/CodeSystem/$validate-code", json=fragment))
    assert answer == {"result": False, "message": f"x is no code of {LIST}, of which a fragment is here"}
    empty = {**SYSTEM, "content": "not-present", "concept": None}
    empty = {name: value for name, value in empty.items() if value is not None}
    asked = parameters({"name": "codeSystem", "resource": empty}, {"name": "code", "valueCode": "x"})
    refused = await client.post("/CodeSystem/$validate-code", json=asked)
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (422, ["CodeSystem.content"])


@pytest.mark.usefixtures("listed")
async def test_the_properties_that_are_asked_for_are_looked_up(client: httpx.AsyncClient) -> None:
    async def properties(query: str) -> list[tuple[Any, ...]]:
        answer = await client.get(f"/CodeSystem/$lookup?system={LIST}&{query}")
        assert answer.status_code == 200, answer.text
        parts = [one for one in answer.json()["parameter"] if "part" in one]
        return [tuple(next(reversed(each.values())) for each in one["part"]) for one in parts]

    described = [
        ("definition", "Do vi rút dengue"),
        ("parent", "A", "Nhóm A"),
        ("child", "A1.1", "Độ một"),
        ("part", {"system": LIST, "code": "B1"}),
        ("part", "B2"),
        ("weight", 3),
    ]
    names = [("vi", DISPLAY, "Sốt xuất huyết"), ("en", "Dengue"), ("vi", USE, "SXH"), ("breakbone",)]
    assert await properties("code=A1") == [*names, *described]
    assert await properties("code=a1&property=*") == [*names, *described]
    assert await properties("code=A1&property=weight&property=child") == [described[2], described[5]]
    assert await properties("code=A1&property=lang.en&property=definition") == [names[1], described[0]]
    assert await properties("code=A1&property=display") == []
    assert await properties("code=AB&property=parent") == [("parent", "A", "Nhóm A"), ("parent", "B", "Nhóm B")]
    assert await properties("code=A2&property=inactive&property=status") == [("inactive", True), ("status", "retired")]
    head = await client.get(f"/CodeSystem/$lookup?system={LIST}&code=A1&displayLanguage=en&property=name")
    assert told(head) == {"name": "Danh mục", "version": "2026", "display": "Dengue"}
    old = await client.get(f"/CodeSystem/$lookup?system={LIST}&version=2025&code=A1&property=name")
    assert told(old)["display"] == "Cũ kỹ"
    unit = await client.get("/CodeSystem/$lookup?system=http://unitsofmeasure.org&code=mmol/L")
    assert told(unit)["display"] == "mmol/L"


@pytest.mark.usefixtures("listed")
async def test_a_url_says_a_value_set_by_itself(client: httpx.AsyncClient) -> None:
    for url, expected in (
        (f"{LIST}?fhir_vs", WHOLE),
        (f"{LIST}?fhir_vs|2025", ["A1", "Z"]),
        (f"{LIST}?fhir_vs=isa/B", ["B", "B1", "AB"]),
    ):
        asked = {"url": url}
        assert shown(await client.get("/ValueSet/$expand", params=asked)) == expected
        found = await client.get("/ValueSet/$validate-code", params={**asked, "system": LIST, "code": "A1"})
        assert told(found)["result"] is ("A1" in expected)
    for url, code, is_in in (
        ("http://hl7.org/fhir/ValueSet/ucum-units", "mm[Hg]", True),
        ("http://unitsofmeasure.org/vs", "mmHg", False),
        ("http://hl7.org/fhir/ValueSet/mimetypes", "text/html", False),
    ):
        unit = {"url": url, "system": "http://unitsofmeasure.org", "code": code}
        assert told(await client.get("/ValueSet/$validate-code", params=unit))["result"] is is_in
    bare = {"url": "http://hl7.org/fhir/ValueSet/ucum-units", "code": "mg"}
    assert told(await client.get("/ValueSet/$validate-code", params=bare)) == {"result": True, "display": "mg"}
    unlisted = await client.get("/ValueSet/$expand?url=http://unitsofmeasure.org/vs")
    assert unlisted.status_code == 422
    observed = {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": LIST, "code": "AB"}]}}
    assert (await client.post("/Observation", json=observed)).status_code == 201
    for below, total in (("A", 1), ("B", 1), ("A1", 0)):
        found = await client.get(
            "/Observation", params={"code:in": f"{LIST}?fhir_vs=isa/{below}", "_total": "accurate"}
        )
        assert found.json()["total"] == total, below
        found = await client.get("/Observation", params={"code:below": f"{LIST}|{below}", "_total": "accurate"})
        assert found.json()["total"] == total, below


@pytest.mark.usefixtures("listed")
async def test_what_nobody_here_knows_is_not_taken_for_a_code(client: httpx.AsyncClient) -> None:
    unknown = {**ALL, "id": "unknown", "url": "http://x.vn/vs/unknown"}
    unknown["compose"] = {"include": [{"system": "urn:nobody"}, {"system": "urn:else", "concept": [{"code": "x"}]}]}
    assert (await client.put("/ValueSet/unknown", json=unknown)).status_code == 201
    for query, status in (
        ("ValueSet/unknown/$validate-code?system=urn:nobody&code=x", 422),
        (f"ValueSet/list/$validate-code?system={LIST}&systemVersion=2099&code=A1", 422),
    ):
        assert (await client.get(f"/{query}")).status_code == status, query
    for query, expected in (
        ("ValueSet/unknown/$validate-code?system=urn:else&code=x", True),
        ("ValueSet/unknown/$validate-code?system=urn:else&code=y", False),
        (f"ValueSet/list/$validate-code?system={LIST}&systemVersion=2025&code=Z", True),
        (f"ValueSet/list/$validate-code?system={LIST}&systemVersion=2026&code=Z", False),
    ):
        assert told(await client.get(f"/{query}"))["result"] is expected, query
