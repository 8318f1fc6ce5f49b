"""$expand and $validate-code of value sets, $lookup and $subsumes of codes: loaded, of R4, of this record, and sent."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ehr import limits
from ehr.access.policy import Caller
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Codes
from terminology.lists import DIAGNOSES, ICD_10
from terminology.load import load
from tests.api.conftest import City

COLOURS = "http://x.vn/colours"
SET = "http://x.vn/vs/all"
GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
SYSTEM: dict[str, Any] = {
    "resourceType": "CodeSystem",
    "url": COLOURS,
    "version": "1",
    "title": "Màu sắc",
    "language": "en",
    "content": "complete",
    "concept": [
        {
            "code": "warm",
            "display": "Warm colours",
            "concept": [
                {"code": "red", "display": "Red", "designation": [{"language": "vi", "value": "Màu đỏ"}]},
                {"code": "orange", "display": "Orange", "property": [{"code": "tone", "valueCode": "deep"}]},
            ],
        },
        {"code": "blue", "display": "Dark blue"},
    ],
}
ALL: dict[str, Any] = {
    "resourceType": "ValueSet",
    "id": "all",
    "url": SET,
    "version": "2",
    "status": "draft",
    "compose": {"include": [{"system": COLOURS}]},
}
WARM: dict[str, Any] = {
    "resourceType": "ValueSet",
    "status": "active",
    "compose": {
        "include": [{"system": COLOURS, "filter": [{"property": "concept", "op": "descendent-of", "value": "warm"}]}]
    },
}


@pytest.fixture
async def loaded(city: City, client: httpx.AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "colours.json"
    path.write_bytes(orjson.dumps(SYSTEM))
    async with city.record.database.acquire() as connection, connection.transaction():
        await load(connection, path)
    assert (await client.put("/ValueSet/all", json=ALL)).status_code == 201


def codes(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["code"] for one in answer.json()["expansion"].get("contains", [])]


def sent(value_set: dict[str, Any], *parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": "valueSet", "resource": value_set}, *parts]}


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {part["name"]: next(value for name, value in part.items() if name.startswith("value"))
            for part in answer.json()["parameter"] if "part" not in part}  # fmt: skip


@pytest.mark.usefixtures("loaded")
async def test_a_value_set_is_expanded(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await client.get(f"/ValueSet/$expand?url={SET}")
    assert codes(whole) == ["warm", "red", "orange", "blue"]
    found = whole.json()
    assert (found["url"], found["version"], found["status"]) == (SET, "2", "draft")
    assert (found["expansion"]["total"], found["expansion"]["contains"][0]["display"]) == (4, "Warm colours")
    checked = await client.post("/ValueSet/$validate", json=found)
    assert [one for one in checked.json()["issue"] if one["severity"] == "error"] == []
    for asked, expected in (
        ("/ValueSet/all/$expand", ["warm", "red", "orange", "blue"]),
        ("/ValueSet/all/$expand?filter=RE", ["red"]),
        ("/ValueSet/all/$expand?filter=col war", ["warm"]),
        ("/ValueSet/all/$expand?count=2&offset=1", ["red", "orange"]),
        ("/ValueSet/all/$expand?count=0", []),
        ("/ValueSet/all/$expand?offset=9", []),
        (f"/ValueSet/$expand?url={GENDER}", ["female", "male", "other", "unknown"]),
    ):  # fmt: skip
        assert codes(await client.get(asked)) == expected, asked
    vietnamese = await client.get("/ValueSet/all/$expand?filter=red&displayLanguage=vi-VN")
    assert vietnamese.json()["expansion"]["contains"] == [{"system": COLOURS, "code": "red", "display": "Màu đỏ"}]
    assert codes(await client.post("/ValueSet/$expand", json=sent(WARM))) == ["red", "orange"]
    monkeypatch.setattr(limits, "expansion_codes_max", 3)
    assert (await client.get("/ValueSet/all/$expand")).status_code == 413
    assert codes(await client.get("/ValueSet/all/$expand?count=100")) == ["warm", "red", "orange"]


@pytest.mark.usefixtures("loaded")
async def test_a_code_is_in_a_value_set_or_not(client: httpx.AsyncClient) -> None:
    for query, expected in (
        (f"url={SET}&code=red&system={COLOURS}", {"result": True, "display": "Red"}),
        (f"url={SET}&code=red", {"result": True, "display": "Red"}),
        (f"url={SET}&code=red&display=màu đỏ", {"result": True, "display": "Red"}),
        (f"url={SET}&coding={COLOURS}|red&displayLanguage=vi", {"result": True, "display": "Màu đỏ"}),
        (f"url={SET}&code=red&display=Blue",
         {"result": False, "message": "the display of red is another one", "display": "Red"}),
        (f"url={SET}&code=red&system=urn:x", {"result": False, "message": "urn:x|red is not in the value set"}),
        (f"url={GENDER}&code=male", {"result": True, "display": "Male"}),
    ):  # fmt: skip
        assert told(await client.get(f"/ValueSet/$validate-code?{query}")) == expected, query
    concept = {
        "name": "codeableConcept",
        "valueCodeableConcept": {"coding": [{"code": "no"}, {"system": COLOURS, "code": "orange"}]},
    }
    answer = await client.post("/ValueSet/$validate-code", json=sent(WARM, concept))
    assert told(answer) == {"result": True, "display": "Orange"}
    assert told(await client.get("/ValueSet/all/$validate-code?code=no"))["result"] is False
    text = {"name": "codeableConcept", "valueCodeableConcept": {"text": "orange"}}
    assert told(await client.post("/ValueSet/$validate-code", json=sent(WARM, text))) == {
        "result": False, "message": "a text without a code is not in the value set"
    }  # fmt: skip


@pytest.mark.usefixtures("loaded")
async def test_a_code_is_looked_up(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/CodeSystem/$lookup?system={COLOURS}&code=orange")
    assert told(answer) == {"name": "Màu sắc", "version": "1", "display": "Orange"}
    parts = [part for part in answer.json()["parameter"] if "part" in part]
    display = {"system": "http://terminology.hl7.org/CodeSystem/designation-usage", "code": "display"}
    assert [(part["name"], *(next(reversed(one.values())) for one in part["part"])) for part in parts] == [
        ("designation", "en", display, "Orange"),
        ("property", "parent", "warm", "Warm colours"),
        ("property", "tone", "deep"),
    ]
    coding = await client.get(f"/CodeSystem/$lookup?coding={COLOURS}|red&displayLanguage=vi")
    assert told(coding)["display"] == "Màu đỏ"
    ours = await client.get(f"/CodeSystem/$lookup?system={ICD_10}&code={DIAGNOSES[0].code}")
    assert told(ours) == {"name": ICD_10, "display": DIAGNOSES[0].name_vi}


REFUSED = {
    "ValueSet/$expand": (400, "url"),
    f"ValueSet/all/$expand?url={SET}": (400, "url"),
    "ValueSet/$expand?url=http://x.vn/none": (404, "url"),
    "ValueSet/none/$expand": (404, None),
    "ValueSet/all/$expand?count=-1": (400, "count"),
    "ValueSet/all/$expand?date=2026": (400, "date"),
    "ValueSet/all/$validate-code": (400, "code"),
    "ValueSet/all/$validate-code?system=urn:x": (400, "code"),
    "ValueSet/all/$validate-code?code=a&coding=b": (400, "coding"),
    f"CodeSystem/$lookup?system={COLOURS}&code=none": (404, "code"),
    f"CodeSystem/$lookup?system={COLOURS}&code=red&version=9": (404, "code"),
    "CodeSystem/$lookup?code=red": (400, "system"),
}


@pytest.mark.usefixtures("loaded")
async def test_what_cannot_be_answered_is_refused(city: City, client: httpx.AsyncClient) -> None:
    for asked, (status, at) in REFUSED.items():
        answer = await client.get(f"/{asked}")
        issue = answer.json()["issue"][0]
        assert (answer.status_code, issue.get("expression")) == (status, at and [at]), asked
    unknown = {**WARM, "compose": {"include": [{"system": "urn:not-loaded"}]}}
    assert (await client.post("/ValueSet/$expand", json=sent(unknown))).status_code == 422
    broken = {**WARM, "compose": {"include": [{"system": COLOURS, "concept": [{}]}]}}
    assert (await client.post("/ValueSet/$expand", json=sent(broken))).status_code == 400
    nameless = {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    }
    for part, at in (
        ({"concept": [{"_code": nameless}]}, "concept[0].code"),
        ({"filter": [{"property": "concept", "op": "is-a", "_value": nameless}]}, "filter[0].value"),
    ):
        answer = await client.post(
            "/ValueSet/$expand", json=sent({**WARM, "compose": {"include": [{"system": COLOURS, **part}]}})
        )
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (
            422,
            [f"ValueSet.compose.include[0].{at}"],
        )
    other = city.system("system/Patient.rs")
    for asked in ("ValueSet/all/$expand", f"CodeSystem/$lookup?system={COLOURS}&code=red"):
        assert (await other.get(f"/{asked}")).status_code == 403


KEPT = "http://x.vn/kept"
WITHIN_WARM = {"property": "concept", "op": "is-a", "value": "warm"}
COMPOSED: dict[str, dict[str, Any]] = {
    "kept-warm": {"include": [{"system": KEPT, "filter": [WITHIN_WARM]}]},
    "kept-cold": {"include": [{"system": KEPT}], "exclude": [{"valueSet": ["http://x.vn/vs/kept-warm|1"]}]},
    "kept-both": {"include": [{"valueSet": [f"http://x.vn/vs/kept-{one}"]} for one in ("warm", "cold")]},
    "kept-bare": {"include": [{"system": KEPT, "concept": [{"code": "blue"}]}]},
    "kept-next": {"include": [{"valueSet": ["http://x.vn/vs/kept-cold|9"]}]},
    "kept-self": {"include": [{"valueSet": ["http://x.vn/vs/kept-self"]}]},
}


def composed(id_: str) -> dict[str, Any]:
    named = {"resourceType": "ValueSet", "id": id_, "url": f"http://x.vn/vs/{id_}", "version": "1"}
    return {**named, "status": "active", "compose": COMPOSED[id_]}


def observed(code: str) -> dict[str, Any]:
    coded = {"coding": [{"system": KEPT, "code": code}]}
    return {"resourceType": "Observation", "id": f"kept-{code}", "status": "final", "code": coded}


STORED: tuple[dict[str, Any], ...] = (
    {**SYSTEM, "id": "kept", "url": KEPT, "name": "Kept", "status": "active"},
    *map(composed, COMPOSED),
    *map(observed, ("red", "blue")),
)


@pytest.fixture
async def stored(client: httpx.AsyncClient) -> None:
    for resource in STORED:
        answer = await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code == 201, answer.text


@pytest.mark.usefixtures("stored")
async def test_stored_definitions_serve_as_loaded_ones_do(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id_, expected in (
        ("kept-warm", ["warm", "red", "orange"]),
        ("kept-cold", ["blue"]),
        ("kept-both", ["warm", "red", "orange", "blue"]),
    ):  # fmt: skip
        assert codes(await client.get(f"/ValueSet/{id_}/$expand")) == expected
        assert codes(await client.get(f"/ValueSet/$expand?url=http://x.vn/vs/{id_}")) == expected
    bare = await client.get("/ValueSet/kept-bare/$expand")
    assert bare.json()["expansion"]["contains"] == [{"system": KEPT, "code": "blue", "display": "Dark blue"}]
    vietnamese = (await client.get("/ValueSet/kept-warm/$expand?displayLanguage=vi")).json()["expansion"]["contains"]
    assert [one["display"] for one in vietnamese] == ["Warm colours", "Màu đỏ", "Orange"]
    found = await client.get(f"/ValueSet/kept-both/$validate-code?code=red&system={KEPT}&displayLanguage=vi")
    assert told(found) == {"result": True, "display": "Màu đỏ"}
    assert told(await client.get(f"/CodeSystem/$lookup?system={KEPT}&code=blue&version=1"))["display"] == "Dark blue"
    for id_ in ("kept-next", "kept-self"):
        refused = await client.get(f"/ValueSet/{id_}/$expand")
        assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (422, ["ValueSet.compose"])
    monkeypatch.setattr(limits, "value_sets_deep_max", 1)
    assert codes(await client.get("/ValueSet/kept-cold/$expand")) == ["blue"]
    assert (await client.get("/ValueSet/kept-both/$expand")).status_code == 422


@pytest.mark.usefixtures("stored")
async def test_searches_follow_stored_definitions(client: httpx.AsyncClient) -> None:
    for query, expected in (
        ("code:in=http://x.vn/vs/kept-both", ["blue", "red"]),
        ("code:in=http://x.vn/vs/kept-cold|1", ["blue"]),
        ("code:not-in=ValueSet/kept-warm", ["blue"]),
        (f"code:below={KEPT}|warm", ["red"]),
        (f"code:above={KEPT}|blue", ["blue"]),
        (f"code:above={KEPT}|warm", []),
    ):  # fmt: skip
        found = await client.get(f"/Observation?{query}&_sort=_id")
        assert [one["resource"]["id"] for one in found.json().get("entry", [])] == [f"kept-{one}" for one in expected]
    for refused in ("code:in=http://x.vn/vs/kept-cold|2", "code:in=ValueSet/kept-self", f"code:below={KEPT}|none"):
        assert (await client.get(f"/Observation?{refused}")).status_code == 400, refused


@pytest.mark.parametrize(
    ("meaning", "compared", "below"),
    [("is-a", 200, 2), ("classified-with", 200, 2), ("part-of", 200, 1), ("grouped-by", 422, 1)],
)
async def test_a_hierarchy_is_one_of_kinds_where_it_means_that(
    client: httpx.AsyncClient, stored: None, meaning: str, compared: int, below: int
) -> None:
    system = {**SYSTEM, "id": "kept", "url": KEPT, "name": "Kept", "status": "active", "hierarchyMeaning": meaning}
    await client.put("/CodeSystem/kept", json=system)
    await client.put("/Observation/kept-warm", json=observed("warm"))
    answer = await client.get(f"/CodeSystem/$subsumes?system={KEPT}&codeA=warm&codeB=red")
    assert answer.status_code == compared
    if compared == 200:
        assert told(answer) == {"outcome": "subsumes" if below == 2 else "not-subsumed"}
    assert (await client.get("/ValueSet/kept-warm/$expand")).status_code == (200 if below == 2 else 422)
    found = await client.get(f"/Observation?code:below={KEPT}|warm")
    assert len(found.json()["entry"]) == below


@pytest.mark.parametrize(
    ("asked", "at"),
    [
        ("CodeSystem/$lookup?system=urn:x|1&code=a", "system"),
        ("CodeSystem/$subsumes?system=urn:x|1&codeA=a&codeB=b", "system"),
        ("ConceptMap/$translate?system=urn:x|1&code=a", "system"),
        ("ConceptMap/$translate?system=urn:x&code=a&targetsystem=urn:y|1", "targetsystem"),
        ("ValueSet/$validate-code?url=urn:v&system=urn:x|1&code=a", "system"),
    ],
)
async def test_a_system_is_named_without_its_version(client: httpx.AsyncClient, asked: str, at: str) -> None:
    answer = await client.get(f"/{asked}")
    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["expression"]) == (400, [at]), asked
    assert "version" in issue["details"]["text"]


async def test_a_coding_names_its_system_without_its_version(client: httpx.AsyncClient) -> None:
    coding = {"system": "urn:x|1", "code": "a"}
    for name, given in (
        ("coding", {"valueCoding": coding}),
        ("codeableConcept", {"valueCodeableConcept": {"coding": [coding]}}),
    ):
        asked = {
            "resourceType": "Parameters",
            "parameter": [{"name": name, **given}, {"name": "url", "valueUri": "urn:v"}],
        }
        answer = await client.post("/ValueSet/$validate-code", json=asked)
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, [name])


@pytest.mark.usefixtures("stored")
async def test_codes_are_compared(client: httpx.AsyncClient) -> None:
    for a, b, expected in (
        ("warm", "red", "subsumes"),
        ("red", "warm", "subsumed-by"),
        ("red", "red", "equivalent"),
        ("red", "orange", "not-subsumed"),
    ):
        for asked in (f"CodeSystem/$subsumes?system={KEPT}&", "CodeSystem/kept/$subsumes?"):
            answer = await client.get(f"/{asked}codeA={a}&codeB={b}")
            assert told(answer) == {"outcome": expected}, asked
    assert (await client.get("/CodeSystem/kept/$subsumes?system=urn:x&codeA=red&codeB=red")).status_code == 400
    codings = f"codingA={KEPT}|warm&codingB={KEPT}|blue"
    assert told(await client.get(f"/CodeSystem/$subsumes?{codings}")) == {"outcome": "not-subsumed"}
    for asked, status, at in (
        (f"system={KEPT}&codeA=red", 400, "codeB"),
        ("codeA=red&codeB=red", 400, "system"),
        (f"codingA={KEPT}|red&codingB=urn:x|red", 400, "system"),
        (f"system={KEPT}&codeA=red&codingA={KEPT}|red&codeB=red", 400, "codingA"),
        (f"system={KEPT}&codeA=red&codeB=none", 404, "codeB"),
        (f"system={KEPT}&version=9&codeA=red&codeB=red", 404, "system"),
    ):
        answer = await client.get(f"/CodeSystem/$subsumes?{asked}")
        assert (answer.status_code, answer.json()["issue"][0].get("expression")) == (status, [at]), asked


@pytest.mark.usefixtures("stored")
async def test_a_coding_is_looked_up_in_the_version_it_names(client: httpx.AsyncClient) -> None:
    for version, status in (("1", 200), ("9", 404)):
        coding = {"system": KEPT, "version": version, "code": "red"}
        asked = {"resourceType": "Parameters", "parameter": [{"name": "coding", "valueCoding": coding}]}
        assert (await client.post("/CodeSystem/$lookup", json=asked)).status_code == status


@pytest.mark.usefixtures("stored")
async def test_value_sets_that_share_others_are_asked_once(city: City, client: httpx.AsyncClient) -> None:
    deep = 24
    for level in range(deep):
        shared = {"valueSet": [f"http://x.vn/vs/level{level + 1}"]}
        compose = {"include": [shared, shared] if level < deep - 1 else [{"system": KEPT}]}
        named = {"resourceType": "ValueSet", "id": f"level{level}", "url": f"http://x.vn/vs/level{level}"}
        answer = await client.put(f"/ValueSet/level{level}", json={**named, "status": "active", "compose": compose})
        assert answer.status_code == 201, answer.text
    assert len(codes(await client.get("/ValueSet/level0/$expand"))) == 4
    async with city.record.reading(Caller.system("test")) as uow:
        for code, expected in (("red", True), ("none", False)):
            assert await Codes().member(Canonicals.within(uow), "http://x.vn/vs/level0", KEPT, code) is expected
