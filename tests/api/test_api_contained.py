"""Contained resources are found as long as their container has them, however it came, and shown where they are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson

from ehr.bulk import files
from ehr.bulk.ingest import ingest
from ehr.ids import new_id
from ehr.index import formats
from ehr.store import backfill
from tests.api.conftest import City
from tests.api.declared import finish, parameter, put

LEAF = "_contained=true&_containedType=contained"


def prescribed(*codes: str, id: str = "23") -> dict[str, Any]:
    """The example of the specification: a request with Medications of its own; the first one is a lot with decimals."""
    inside = [
        {
            "resourceType": "Medication",
            "id": f"m{place}",
            "code": {"coding": [{"system": "http://example.org/medications", "code": code}]},
            "amount": {"numerator": {"value": 1}, "denominator": {"value": 2}},
            "batch": {"lotNumber": f"lot {code}", "expirationDate": "2027-01-02"},
        }
        for place, code in enumerate(codes)
    ]
    made: dict[str, Any] = {
        "resourceType": "MedicationRequest",
        "id": id,
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "medicationReference": {"reference": "#m0"},
        "supportingInformation": [{"reference": f"#m{place}"} for place in range(len(codes))],
    }
    return {"contained": inside, **made} if inside else made | _WITHOUT


_WITHOUT: dict[str, Any] = {
    "medicationReference": {"display": "none"},
    "supportingInformation": [{"display": "none"}],
}


async def addresses(client: httpx.AsyncClient, query: str) -> list[str]:
    answer = await client.get(f"/Medication?{query}")
    assert answer.status_code == 200, answer.text
    return [one["fullUrl"].rpartition("/fhir/")[2] for one in answer.json().get("entry", [])]


async def test_the_container_or_the_contained_resource_is_the_match(city: City, client: httpx.AsyncClient) -> None:
    body = orjson.dumps(prescribed("abc")).replace(b'"value":1', b'"value":1.500')
    assert (await client.put("/MedicationRequest/23", content=body)).status_code == 201
    assert await addresses(client, "code=abc") == []
    whole = (await client.get("/Medication?code=abc&_contained=true")).json()["entry"]
    assert [one["fullUrl"] for one in whole] == [f"{city.base}/MedicationRequest/23"]
    assert (whole[0]["resource"]["resourceType"], whole[0]["search"]) == ("MedicationRequest", {"mode": "match"})
    answer = await client.get(f"/Medication?code=abc&{LEAF}")
    (leaf,) = answer.json()["entry"]
    assert leaf["fullUrl"] == f"{city.base}/MedicationRequest/23#m0"
    assert (leaf["resource"]["resourceType"], leaf["resource"]["id"]) == ("Medication", "m0")
    assert b'"value":1.500' in answer.content
    part = await client.get(f"/Medication?{LEAF}&_elements=code")
    assert set(part.json()["entry"][0]["resource"]) == {"resourceType", "id", "code", "meta"}
    assert len((await client.get("/MedicationRequest?medication.code=abc")).json()["entry"]) == 1


async def test_they_change_and_go_with_their_container(client: httpx.AsyncClient) -> None:
    await client.put("/MedicationRequest/23", json=prescribed("a", "b"))
    assert await addresses(client, f"code=b&{LEAF}") == ["MedicationRequest/23#m1"]
    await client.put("/MedicationRequest/23", json=prescribed("c"))
    assert await addresses(client, f"code=a,b&{LEAF}") == []
    assert await addresses(client, f"expiration-date=2027-01-02&{LEAF}") == ["MedicationRequest/23#m0"]
    await client.put("/MedicationRequest/23", json=prescribed())
    assert await addresses(client, LEAF) == []
    await client.put("/MedicationRequest/23", json=prescribed("d"))
    await client.delete("/MedicationRequest/23")
    assert await addresses(client, LEAF) == []
    await client.put("/MedicationRequest/23", json=prescribed("e"))
    assert await addresses(client, f"code=e&{LEAF}") == ["MedicationRequest/23#m0"]


async def rows_beside(city: City) -> list[Sequence[Any]]:
    """Everything the index has of contained resources."""
    async with city.record.database.acquire() as connection:
        rows = await connection.fetch("select * from contained order by rid")
        dates = await connection.fetch("select rid, param_id, lo_us, hi_us from date_index where rid > 1 << 62")
    return [*({**row, "tokens": set(row["tokens"])} for row in rows), *map(tuple, dates)]  # type: ignore[list-item]


async def test_an_import_and_a_worker_that_indexes_anew_make_the_same(
    city: City, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "requests.ndjson"
    trees = [prescribed("a", "b", id="1"), prescribed(id="2"), prescribed("c", id="3")]
    path.write_bytes(b"\n".join(map(orjson.dumps, trees)))
    (part,) = files.parts("requests", path)
    await ingest(city.record, part, job_id=new_id())
    assert await addresses(client, f"code=a,c&{LEAF}") == ["MedicationRequest/1#m0", "MedicationRequest/3#m0"]
    made = await rows_beside(city)
    async with city.record.database.acquire() as connection:
        await connection.execute("update installation set index_format = 0")
        await connection.execute("delete from contained where id = 'm1'")
        await connection.execute("update contained set tokens = tokens[1:2] where id = 'm0'")
        await connection.execute("delete from date_index where rid > 1::bigint << 62")
    city.record.installation = replace(city.record.installation, index_format=0)  # as a process that begins now
    for address, at in (
        ("Medication?_contained=true", "_contained"),
        ("Medication?code:text=a", "code:text"),
        (
            "Observation?value-quantity=5|http://unitsofmeasure.org|mg",
            "value-quantity",
        ),
    ):
        refused = await client.get(f"/{address}")
        assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (400, [at])
    assert await backfill.bring_up(city.record) is not None
    assert await backfill.bring_up(city.record) is None, "it is under way"
    await finish(city.record)
    assert await addresses(client, f"code=b&{LEAF}") == ["MedicationRequest/1#m1"]
    assert await rows_beside(city) == made
    assert await backfill.bring_up(city.record) is None, "it is done"
    async with city.record.database.acquire() as connection:
        assert await connection.fetchval("select index_format from installation") == formats.FORMAT
    assert (await backfill.rebuild_all(city.record)).state == "done"
    assert await rows_beside(city) == made


async def test_a_condition_does_not_name_contained_resources(client: httpx.AsyncClient) -> None:
    answer = await client.put("/Medication?code=a&_contained=true", json={"resourceType": "Medication"})
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["_contained"])


async def test_an_added_parameter_is_served_of_contained_resources_too(city: City, client: httpx.AsyncClient) -> None:
    await client.put("/MedicationRequest/1", json=prescribed("a", "b", id="1"))
    lot = parameter("lot", base=["Medication"], expression="Medication.batch.lotNumber")
    await put(client, lot)
    assert (await client.get(f"/Medication?lot=lot%20b&{LEAF}")).status_code == 400
    await finish(city.record)
    assert await addresses(client, f"lot=lot%20b&{LEAF}") == ["MedicationRequest/1#m1"]
    chained = await client.get("/MedicationRequest?medication.lot=lot%20a")
    assert [one["resource"]["id"] for one in chained.json()["entry"]] == ["1"]
