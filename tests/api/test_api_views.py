"""$viewdefinition-run: rows of the caller's part of the store, or of what is sent with the view."""

import csv
import json
from base64 import b64encode
from io import BytesIO, StringIO
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pyarrow import parquet

from ehr import limits
from tests.api.conftest import City
from tests.api.exporting import begun, work_on
from tests.api.mothers import CCCD, observation, patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIEW: dict[str, Any] = {
    "resourceType": "ViewDefinition",
    "resource": "Observation",
    "select": [
        {
            "column": [
                {"name": "patient", "path": "subject.getReferenceKey(Patient)", "type": "string"},
                {"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"},
            ]
        }
    ],
}


def asked(view: dict[str, Any] = VIEW, **more: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "viewResource", "resource": view}]
    for name, value in more.items():
        key = {bool: "valueBoolean", int: "valueInteger", str: "valueCode"}[type(value)]
        if name == "patient":
            parts.append({"name": name, "valueReference": {"reference": value}})
        elif name == "since":
            parts.append({"name": "_since", "valueInstant": value})
        else:
            parts.append({"name": name, key: value})
    return {"resourceType": "Parameters", "parameter": parts}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(shared_city: City) -> City:
    client = shared_city.system()
    for one in (
        {**patient((CCCD, "001070000001")), "id": "a"},
        {**patient((CCCD, "001070000002"), family="Trần", birthDate="1980-01-01"), "id": "b"},
        {**observation("Patient/a", 5), "id": "a1"},
        {**observation("Patient/a", 7), "id": "a2"},
        {**observation("Patient/b", 9), "id": "b1"},
    ):
        answer = await client.put(f"/{one['resourceType']}/{one['id']}", json=one)
        assert answer.status_code == 201, answer.text
    return shared_city


@pytest.fixture
def client(full: City) -> httpx.AsyncClient:
    return full.system()


ROWS = [{"patient": f"Patient/{of}", "value": value} for of, value in (("a", 5), ("a", 7), ("b", 9))]


@pytest.mark.parametrize("url", ["/$viewdefinition-run", "/ViewDefinition/$viewdefinition-run", "/ViewDefinition/$run"])
async def test_the_rows_of_the_store(client: httpx.AsyncClient, url: str) -> None:
    answer = await client.post(url, json=asked())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == ROWS


async def test_every_format_has_the_same_rows(client: httpx.AsyncClient) -> None:
    lines = await client.post("/$viewdefinition-run", json=asked(format="ndjson"))
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert len(lines.content.splitlines()) == 3
    table = await client.post("/$viewdefinition-run", json=asked(format="csv"))
    assert list(csv.DictReader(StringIO(table.text))) == [{**row, "value": str(row["value"])} for row in ROWS]
    bare = await client.post("/$viewdefinition-run", json=asked(format="csv", header=False))
    assert table.text == "patient,value\r\n" + bare.text
    columns = await client.post("/$viewdefinition-run", json=asked(format="parquet"))
    assert parquet.read_table(BytesIO(columns.content)).to_pylist() == ROWS


async def test_patients_and_a_limit_choose(client: httpx.AsyncClient) -> None:
    assert (await client.post("/$viewdefinition-run", json=asked(patient="Patient/b"))).json() == ROWS[2:]
    assert (await client.post("/$viewdefinition-run", json=asked(_limit=1))).json() == ROWS[:1]
    later = await client.post("/$viewdefinition-run", json=asked(since="2999-01-01T00:00:00Z"))
    assert later.json() == []


async def test_resources_may_be_sent_with_the_view(client: httpx.AsyncClient) -> None:
    body = asked()
    body["parameter"].append({"name": "resource", "resource": observation("Patient/sent", 3)})
    answer = await client.post("/$viewdefinition-run", json=body)
    assert answer.json() == [{"patient": "Patient/sent", "value": 3}]


async def test_members_of_groups_choose(client: httpx.AsyncClient) -> None:
    group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
    member = [{"entity": {"reference": "Patient/a"}}, {"entity": {"reference": "Patient/b"}, "inactive": True}]
    assert (await client.put("/Group/g", json={**group, "member": member})).status_code == 201
    body = asked()
    body["parameter"].append({"name": "group", "valueReference": {"reference": "Group/g"}})
    assert (await client.post("/$viewdefinition-run", json=body)).json() == ROWS[:2]
    body["parameter"].append({"name": "patient", "valueReference": {"reference": "Patient/b"}})
    assert (await client.post("/$viewdefinition-run", json=body)).json() == []
    body["parameter"][1]["valueReference"] = {"reference": "Group/none"}
    assert (await client.post("/$viewdefinition-run", json=body)).status_code == 404
    body["parameter"][1]["valueReference"] = {"reference": "List/g"}
    wrong = await client.post("/$viewdefinition-run", json=body)
    assert (wrong.status_code, wrong.json()["issue"][0]["expression"]) == (400, ["group"])


async def test_a_view_may_be_stored_as_a_binary(client: httpx.AsyncClient) -> None:
    data = b64encode(json.dumps(VIEW).encode()).decode()
    binary = {"resourceType": "Binary", "contentType": "application/json", "data": data}
    made = (await client.post("/Binary", json=binary)).headers["location"].split("/Binary/")[1].split("/")[0]
    named = {"name": "viewReference", "valueReference": {"reference": f"Binary/{made}"}}
    parameters = {"resourceType": "Parameters", "parameter": [named]}
    assert (await client.post("/$viewdefinition-run", json=parameters)).json() == ROWS
    both = {"resourceType": "Parameters", "parameter": [*asked()["parameter"], named]}
    assert (await client.post("/$viewdefinition-run", json=both)).status_code == 400
    other = await client.post("/Binary", json={**binary, "data": b64encode(b"no view").decode()})
    named["valueReference"] = {"reference": f"Binary/{other.json()['id']}"}
    wrong = await client.post("/$viewdefinition-run", json=parameters)
    assert (wrong.status_code, wrong.json()["issue"][0]["expression"]) == (422, ["viewReference"])


async def test_a_bundle_stands_for_its_resources(client: httpx.AsyncClient) -> None:
    sent = [{"resource": observation("Patient/sent", value)} for value in (1, 2)]
    body = asked()
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": sent}
    body["parameter"].append({"name": "resource", "resource": bundle})
    answer = await client.post("/$viewdefinition-run", json=body)
    assert [row["value"] for row in answer.json()] == [1, 2]


async def test_rows_as_a_fhir_resource(client: httpx.AsyncClient) -> None:
    answer = await client.post("/$viewdefinition-run", json=asked(format="fhir", _limit=1))
    assert answer.headers["content-type"] == "application/fhir+json"
    patient, value = {"name": "patient", "valueString": "Patient/a"}, {"name": "value", "valueDecimal": 5}
    assert answer.json() == {"resourceType": "Parameters", "parameter": [{"name": "row", "part": [patient, value]}]}


async def test_the_files_of_an_export_are_a_source(full: City, client: httpx.AsyncClient) -> None:
    address = await begun(client, "/$export?_type=Observation")
    body = asked()
    body["parameter"].append({"name": "source", "valueString": address})
    early = await client.post("/$viewdefinition-run", json=body)
    assert (early.status_code, early.json()["issue"][0]["expression"]) == (400, ["source"])
    await work_on(full)
    assert sorted((await client.post("/$viewdefinition-run", json=body)).json(), key=str) == sorted(ROWS, key=str)
    assert (await full.system(name="other").post("/$viewdefinition-run", json=body)).status_code == 404
    body["parameter"][1]["valueString"] = "s3://bucket"
    assert (await client.post("/$viewdefinition-run", json=body)).status_code == 400


async def test_a_citizen_sees_rows_of_one_record_and_a_client_what_its_scopes_name(full: City) -> None:
    person = (await full.system().get("/Person", params={"link": "Patient/a"})).json()["entry"][0]["resource"]["id"]
    answer = await full.citizen(person).post("/$viewdefinition-run", json=asked())
    assert answer.json() == ROWS[:2]
    refused = await full.system("system/Patient.rs").post("/$viewdefinition-run", json=asked())
    assert refused.status_code == 403


async def test_what_cannot_be_run_is_refused_by_place(client: httpx.AsyncClient) -> None:
    wrong = await client.post("/$viewdefinition-run", json=asked({**VIEW, "resource": "Nothing"}))
    assert (wrong.status_code, wrong.json()["issue"][0]["expression"]) == (422, ["ViewDefinition.resource"])
    other = await client.post("/$viewdefinition-run", json=asked(format="xlsx"))
    assert (other.status_code, other.json()["issue"][0]["expression"]) == (400, ["format"])
    none = await client.post("/$viewdefinition-run", json={"resourceType": "Parameters"})
    assert none.status_code == 400
    assert (await client.get("/$viewdefinition-run")).status_code == 400
    negative = await client.post("/$viewdefinition-run", json=asked(_limit=0))
    assert negative.status_code == 400


async def test_a_view_of_too_much_is_an_exports(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "view_rows_max", 2)
    assert (await client.post("/$viewdefinition-run", json=asked())).status_code == 413
    assert (await client.post("/$viewdefinition-run", json=asked(_limit=2))).json() == ROWS[:2]


async def test_the_rows_are_logged_with_their_patients(full: City, client: httpx.AsyncClient) -> None:
    await client.post("/$viewdefinition-run", json=asked(patient="Patient/a"))
    async with full.record.database.acquire() as connection:
        found = await connection.fetch(
            "select shard from audit where detail ->> 'operation' = 'viewdefinition-run' order by id desc limit 1"
        )
    assert [row["shard"] for row in found] == [full.record.hasher.shard("Patient", "a")]
