"""The list that the tests of terminology ask of, and what they read of an answer."""

from pathlib import Path
from typing import Any

import httpx
import orjson

from terminology.load import load
from tests.api.conftest import City

LIST, OLD = "http://x.vn/list", "http://x.vn/old"
SET = "http://x.vn/vs/list"
USE = {"system": "http://x.vn/uses", "code": "short"}
DISPLAY = {"system": "http://terminology.hl7.org/CodeSystem/designation-usage", "code": "display"}
SYSTEM: dict[str, Any] = {
    "resourceType": "CodeSystem",
    "url": LIST,
    "version": "2026",
    "name": "List",
    "title": "Danh mục",
    "status": "active",
    "language": "vi",
    "caseSensitive": False,
    "content": "complete",
    "valueSet": "http://x.vn/vs/everything",
    "concept": [
        {
            "code": "A",
            "display": "Nhóm A",
            "property": [{"code": "notSelectable", "valueBoolean": True}],
            "concept": [
                {
                    "code": "A1",
                    "display": "Sốt xuất huyết",
                    "definition": "Do vi rút dengue",
                    "designation": [
                        {"language": "en", "value": "Dengue"},
                        {"language": "vi", "use": USE, "value": "SXH"},
                        {"value": "breakbone"},
                    ],
                    "property": [
                        {"code": "weight", "valueInteger": 3},
                        {"code": "part", "valueCoding": {"system": LIST, "code": "B1"}},
                        {"code": "part", "valueCode": "B2"},
                    ],
                    "concept": [{"code": "A1.1", "display": "Độ một"}],
                },
                {"code": "A2", "display": "Cũ", "property": [{"code": "status", "valueCode": "retired"}]},
            ],
        },
        {"code": "B", "display": "Nhóm B", "concept": [{"code": "B1", "display": "Xuất viện"}]},
        {"code": "AB", "display": "Cả hai",
         "property": [{"code": "parent", "valueCode": "A"}, {"code": "parent", "valueCode": "B"}]},
    ],
}  # fmt: skip
ALL: dict[str, Any] = {
    "resourceType": "ValueSet",
    "id": "list",
    "url": SET,
    "status": "active",
    "compose": {"include": [{"system": LIST}]},
}
WHOLE = ["A", "A1", "A1.1", "A2", "B", "B1", "AB"]


async def load_into(city: City, folder: Path, *resources: dict[str, Any]) -> None:
    """As an operator does, one after the other."""
    path = folder / "list.json"
    for one in resources:
        path.write_bytes(orjson.dumps(one))
        async with city.record.database.acquire() as connection, connection.transaction():
            await load(connection, path)


def shown(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["code"] for one in answer.json()["expansion"].get("contains", [])]


def parameters(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(parts)}


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {part["name"]: next(value for name, value in part.items() if name.startswith("value"))
            for part in answer.json()["parameter"] if "part" not in part}  # fmt: skip
