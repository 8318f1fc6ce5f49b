"""$expand and $validate-code of value sets, $lookup of codes: loaded, of R4, of this record, and sent."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ehr import limits
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
    assert codes(whole) == ["blue", "orange", "red", "warm"]
    found = whole.json()
    assert (found["url"], found["version"], found["status"]) == (SET, "2", "draft")
    assert (found["expansion"]["total"], found["expansion"]["contains"][0]["display"]) == (4, "Dark blue")
    checked = await client.post("/ValueSet/$validate", json=found)
    assert [one for one in checked.json()["issue"] if one["severity"] == "error"] == []
    for asked, expected in (
        ("/ValueSet/all/$expand", ["blue", "orange", "red", "warm"]),
        ("/ValueSet/all/$expand?filter=RE", ["red"]),
        ("/ValueSet/all/$expand?filter=col war", ["warm"]),
        ("/ValueSet/all/$expand?count=2&offset=1", ["orange", "red"]),
        ("/ValueSet/all/$expand?count=0", []),
        ("/ValueSet/all/$expand?offset=9", []),
        (f"/ValueSet/$expand?url={GENDER}", ["female", "male", "other", "unknown"]),
    ):  # fmt: skip
        assert codes(await client.get(asked)) == expected, asked
    vietnamese = await client.get("/ValueSet/all/$expand?filter=red&displayLanguage=vi-VN")
    assert vietnamese.json()["expansion"]["contains"] == [{"system": COLOURS, "code": "red", "display": "Màu đỏ"}]
    assert codes(await client.post("/ValueSet/$expand", json=sent(WARM))) == ["orange", "red"]
    monkeypatch.setattr(limits, "expansion_codes_max", 3)
    assert (await client.get("/ValueSet/all/$expand")).status_code == 413
    assert codes(await client.get("/ValueSet/all/$expand?count=100")) == ["blue", "orange", "red"]


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
        (f"url={GENDER}&code=male", {"result": True}),
    ):  # fmt: skip
        assert told(await client.get(f"/ValueSet/$validate-code?{query}")) == expected, query
    concept = {
        "name": "codeableConcept",
        "valueCodeableConcept": {"coding": [{"code": "no"}, {"system": COLOURS, "code": "orange"}]},
    }
    answer = await client.post("/ValueSet/$validate-code", json=sent(WARM, concept))
    assert told(answer) == {"result": True, "display": "Orange"}
    assert told(await client.get("/ValueSet/all/$validate-code?code=no"))["result"] is False


@pytest.mark.usefixtures("loaded")
async def test_a_code_is_looked_up(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/CodeSystem/$lookup?system={COLOURS}&code=orange")
    assert told(answer) == {"name": "Màu sắc", "version": "1", "display": "Orange"}
    parts = [part for part in answer.json()["parameter"] if "part" in part]
    assert [(part["name"], *(next(reversed(one.values())) for one in part["part"])) for part in parts] == [
        ("designation", "en", "Orange"),
        ("property", "parent", "warm"),
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
    "ValueSet/all/$expand?displayLanguage=fr": (400, "displayLanguage"),
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
    other = city.system("system/Patient.rs")
    for asked in ("ValueSet/all/$expand", f"CodeSystem/$lookup?system={COLOURS}&code=red"):
        assert (await other.get(f"/{asked}")).status_code == 403
