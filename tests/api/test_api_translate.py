"""$translate of codes by concept maps: loaded, of this record, and sent; forwards, backwards, from map to map."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ehr import limits
from terminology.load import load
from tests.api.conftest import City

COLOURS, PAINTS, TONES = "http://x.vn/colours", "http://x.vn/paints", "http://x.vn/tones"
FINISH = "http://x.vn/finish"
LOADED: dict[str, Any] = {
    "resourceType": "ConceptMap",
    "url": "http://x.vn/map/loaded",
    "version": "1",
    "status": "active",
    "sourceUri": "http://x.vn/vs/colours",
    "targetUri": "http://x.vn/vs/paints",
    "group": [
        {
            "source": COLOURS,
            "target": PAINTS,
            "targetVersion": "2026",
            "element": [
                {"code": "red", "target": [{"code": "R1", "display": "Red one", "equivalence": "narrower"}]},
                {"code": "blue"},
                {"code": "pink", "target": [
                    {"code": "P-matt", "equivalence": "equivalent",
                     "dependsOn": [{"property": "http://x.vn/surface", "system": FINISH, "value": "matt"}],
                     "product": [{"property": "http://x.vn/layers", "value": "2"}]},
                    {"code": "P-gloss", "equivalence": "equivalent",
                     "dependsOn": [{"property": "http://x.vn/surface", "system": FINISH, "value": "gloss"}]},
                    {"code": "X", "equivalence": "disjoint"},
                ]},
            ],
            "unmapped": {"mode": "other-map", "url": "http://x.vn/map/stored"},
        }
    ],
}  # fmt: skip
STORED: dict[str, Any] = {
    "resourceType": "ConceptMap",
    "id": "stored",
    "url": "http://x.vn/map/stored",
    "status": "draft",
    "sourceCanonical": "http://x.vn/vs/tones",
    "group": [
        {
            "source": COLOURS,
            "target": TONES,
            "element": [{"code": "red", "target": [{"code": "w", "equivalence": "wider"}]}],
            "unmapped": {"mode": "fixed", "code": "none", "display": "No tone"},
        },
        {
            "source": TONES,
            "target": COLOURS,
            "element": [{"code": "w", "target": [{"code": "red", "equivalence": "equal"}]}],
            "unmapped": {"mode": "provided"},
        },
    ],
}
RETIRED = {**STORED, "id": "retired", "url": "http://x.vn/map/retired", "status": "retired"}
SCOPE = {"resourceType": "ValueSet", "id": "tones", "url": "http://x.vn/vs/tones", "status": "active"}


@pytest.fixture
async def maps(city: City, client: httpx.AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(orjson.dumps(LOADED))
    async with city.record.database.acquire() as connection, connection.transaction():
        await load(connection, path)
    for resource in (STORED, RETIRED, SCOPE):
        answer = await client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code == 201, answer.text


def told(answer: httpx.Response) -> tuple[bool, list[tuple[str, str | None]]]:
    """result, and of each match its equivalence and code."""
    assert answer.status_code == 200, answer.text
    parameters = answer.json()["parameter"]
    matches = [{part["name"]: part for part in one["part"]} for one in parameters if one["name"] == "match"]
    return parameters[0]["valueBoolean"], [
        (one["equivalence"]["valueCode"], one["concept"]["valueCoding"]["code"] if "concept" in one else None)
        for one in matches
    ]


def message(answer: httpx.Response) -> str:
    found: str = next((one["valueString"] for one in answer.json()["parameter"] if one["name"] == "message"), "")
    return found


RED = f"system={COLOURS}&code=red"
NARROWER, WIDER, NONE = ("narrower", "R1"), ("wider", "w"), ("relatedto", "none")
TRANSLATED = {
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&{RED}": (True, [NARROWER]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded|1&coding={COLOURS}|red": (True, [NARROWER]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&conceptMapVersion=1&{RED}": (True, [NARROWER]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&{RED}&targetsystem={PAINTS}": (True, [NARROWER]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&{RED}&targetsystem={TONES}": (False, []),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&{RED}&source=http://x.vn/vs/colours": (True, [NARROWER]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&{RED}&target=http://x.vn/vs/other": (False, []),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&system={COLOURS}&code=blue": (False, [("unmatched", None)]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&system={COLOURS}&code=grey": (True, [NONE]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&system={COLOURS}&code=Red": (True, [NONE]),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&system={PAINTS}&code=R1": (False, []),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded&system={PAINTS}&code=R1&reverse=true": (
        True,
        [("wider", "red")],
    ),
    f"ConceptMap/$translate?system={PAINTS}&code=R1&reverse=true&targetsystem={COLOURS}": (True, [("wider", "red")]),
    f"ConceptMap/$translate?{RED}": (True, [NARROWER, WIDER]),
    f"ConceptMap/$translate?{RED}&targetsystem={TONES}": (True, [WIDER]),
    f"ConceptMap/$translate?{RED}&source=tones": (True, [WIDER]),
    f"ConceptMap/$translate?{RED}&source=ValueSet/tones": (True, [WIDER]),
    f"ConceptMap/$translate?{RED}&source=http://x.vn/vs/tones|4": (True, [WIDER]),
    "ConceptMap/$translate?system=urn:unknown&code=red": (False, []),
    f"ConceptMap/stored/$translate?{RED}": (True, [WIDER]),
    f"ConceptMap/retired/$translate?{RED}": (True, [WIDER]),
    f"ConceptMap/$translate?url=http://x.vn/map/retired&{RED}": (True, [WIDER]),
    f"ConceptMap/stored/$translate?system={TONES}&code=x": (True, [("relatedto", "x")]),
    f"ConceptMap/stored/$translate?system={TONES}&code=w&reverse=true": (True, [("narrower", "red")]),
}


@pytest.mark.usefixtures("maps")
async def test_a_code_is_translated(client: httpx.AsyncClient) -> None:
    for asked, expected in TRANSLATED.items():
        assert told(await client.get(f"/{asked}")) == expected, asked
    whole = await client.get(f"/ConceptMap/$translate?url=http://x.vn/map/loaded&{RED}")
    coding = {"system": PAINTS, "version": "2026", "code": "R1", "display": "Red one"}
    assert whole.json()["parameter"] == [
        {"name": "result", "valueBoolean": True},
        {"name": "match", "part": [
            {"name": "equivalence", "valueCode": "narrower"},
            {"name": "concept", "valueCoding": coding},
            {"name": "source", "valueUri": "http://x.vn/map/loaded|1"},
        ]},
    ]  # fmt: skip
    base = str(client.base_url).rstrip("/")
    assert told(await client.get(f"/ConceptMap/$translate?{RED}&source={base}/ValueSet/tones")) == (True, [WIDER])
    nothing = await client.get("/ConceptMap/$translate?system=urn:unknown&code=red")
    assert message(nothing) == "no translation of urn:unknown|red is known here"


@pytest.mark.usefixtures("maps")
async def test_what_a_mapping_depends_on_is_asked_for(client: httpx.AsyncClient) -> None:
    pink = {"name": "coding", "valueCoding": {"system": COLOURS, "code": "pink"}}
    url = {"name": "url", "valueUri": LOADED["url"]}

    async def asked(*parts: dict[str, Any]) -> httpx.Response:
        parameters = {"resourceType": "Parameters", "parameter": [url, pink, *parts]}
        return await client.post("/ConceptMap/$translate", json=parameters)

    def surface(system: str, code: str) -> dict[str, Any]:
        concept = {"name": "concept", "valueCodeableConcept": {"coding": [{"system": system, "code": code}]}}
        return {"name": "dependency", "part": [{"name": "element", "valueUri": "http://x.vn/surface"}, concept]}

    bare = await asked()
    assert told(bare) == (False, [("disjoint", "X")])
    assert message(bare).endswith("these are given as dependency: http://x.vn/surface")
    matt = await asked(surface(FINISH, "matt"))
    assert told(matt) == (True, [("equivalent", "P-matt"), ("disjoint", "X")])
    assert message(matt) == ""
    product = {"name": "product", "part": [
        {"name": "element", "valueUri": "http://x.vn/layers"}, {"name": "concept", "valueCoding": {"code": "2"}}
    ]}  # fmt: skip
    assert product in matt.json()["parameter"][1]["part"]
    assert told(await asked(surface("urn:other", "matt"))) == (False, [("disjoint", "X")])
    nameless = await asked({"name": "dependency", "part": [surface(FINISH, "matt")["part"][1]]})
    assert (nameless.status_code, nameless.json()["issue"][0]["expression"]) == (400, ["dependency"])


@pytest.mark.usefixtures("maps")
async def test_a_map_may_be_sent_and_one_coding_of_several_is_enough(client: httpx.AsyncClient) -> None:
    sent = {name: value for name, value in STORED.items() if name not in {"id", "url"}}
    codings = [{"system": "urn:unknown", "code": "red"}, {"system": COLOURS, "code": "red"}, {"code": "red"}]
    concept = {"name": "codeableConcept", "valueCodeableConcept": {"coding": codings}}

    async def asked(concept_map: dict[str, Any]) -> httpx.Response:
        part = {"name": "conceptMap", "resource": concept_map}
        parameters = {"resourceType": "Parameters", "parameter": [part, concept]}
        return await client.post("/ConceptMap/$translate", json=parameters)

    answer = await asked(sent)
    assert told(answer) == (True, [WIDER])
    assert "source" not in {part["name"] for part in answer.json()["parameter"][1]["part"]}
    assert (await asked({**sent, "group": [{"source": COLOURS}]})).status_code == 400
    del sent["group"]
    refused = await asked(sent)
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (422, ["ConceptMap.group"])


REFUSED = {
    "ConceptMap/$translate?code=red": (400, "system"),
    f"ConceptMap/$translate?system={COLOURS}": (400, "code"),
    "ConceptMap/$translate": (400, "code"),
    f"ConceptMap/$translate?url=http://x.vn/none&{RED}": (404, "url"),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded|2&{RED}": (404, "url"),
    f"ConceptMap/$translate?url=http://x.vn/map/loaded|1&conceptMapVersion=2&{RED}": (400, "conceptMapVersion"),
    f"ConceptMap/$translate?conceptMapVersion=2&{RED}": (400, "conceptMapVersion"),
    f"ConceptMap/stored/$translate?url=http://x.vn/map/loaded&{RED}": (400, "url"),
    f"ConceptMap/none/$translate?{RED}": (404, None),
    f"ConceptMap/$translate?{RED}&source=none": (404, None),
    f"ConceptMap/$translate?{RED}&coding={COLOURS}|red": (400, "coding"),
    f"ConceptMap/$translate?{RED}&reverse=maybe": (400, "reverse"),
    f"ConceptMap/$translate?{RED}&dependency=x": (400, "dependency"),
    f"ConceptMap/$translate?{RED}&date=2026": (400, "date"),
}


@pytest.mark.usefixtures("maps")
async def test_what_cannot_be_translated_is_refused(
    city: City, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asked, (status, at) in REFUSED.items():
        answer = await client.get(f"/{asked}")
        assert (answer.status_code, answer.json()["issue"][0].get("expression")) == (status, at and [at]), asked
    other = city.system("system/Patient.rs")
    assert (await other.get(f"/ConceptMap/$translate?{RED}")).status_code == 403
    another = {**STORED, "id": "another", "url": "http://x.vn/map/another"}
    assert (await client.put("/ConceptMap/another", json=another)).status_code == 201
    assert told(await client.get(f"/ConceptMap/$translate?{RED}")) == (True, [NARROWER, WIDER, WIDER])
    monkeypatch.setattr(limits, "concept_maps_max", 1)
    assert (await client.get(f"/ConceptMap/$translate?{RED}")).status_code == 413
    assert told(await client.get(f"/ConceptMap/another/$translate?{RED}")) == (True, [WIDER])


@pytest.mark.usefixtures("maps")
async def test_maps_that_leave_codes_to_each_other_come_to_an_end(client: httpx.AsyncClient) -> None:
    for here, there in (("a", "b"), ("b", "a")):
        group = {"source": COLOURS, "unmapped": {"mode": "other-map", "url": f"http://x.vn/map/{there}"}}
        element = {"code": here, "target": [{"code": "found", "equivalence": "equal"}]}
        named = {"resourceType": "ConceptMap", "id": here, "url": f"http://x.vn/map/{here}", "status": "active"}
        answer = await client.put(f"/ConceptMap/{here}", json={**named, "group": [{**group, "element": [element]}]})
        assert answer.status_code == 201, answer.text
    assert told(await client.get(f"/ConceptMap/a/$translate?system={COLOURS}&code=b")) == (True, [("equal", "found")])
    assert told(await client.get(f"/ConceptMap/a/$translate?system={COLOURS}&code=none")) == (False, [])
