"""PATCH over HTTP: direct and conditional, guarded by If-Match, through the gate, and no version for nothing."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from tests.api.conftest import City
from tests.api.mothers import MRN, observation, patient

JSON_PATCH = "application/json-patch+json"


def op(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **more}


async def patch(
    client: httpx.AsyncClient, url: str, *operations: dict[str, Any], raw: bytes | None = None, **headers: str
) -> httpx.Response:
    content = orjson.dumps(operations) if raw is None else raw
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.patch(url, content=content, headers={"Content-Type": JSON_PATCH, **named})


async def test_a_patch_makes_the_next_version_and_keeps_every_digit(city: City, client: httpx.AsyncClient) -> None:
    sent = orjson.dumps(observation("Patient/p1", id="o1")).replace(b'"value":5', b'"value":13.50')
    await client.put("/Observation/o1", content=sent)
    done = await patch(client, "/Observation/o1", op("replace", "/status", value="amended"))
    assert (done.status_code, done.headers["etag"]) == (200, 'W/"2"')
    assert done.headers["location"] == f"{city.base}/Observation/o1/_history/2"
    read = await client.get("/Observation/o1")
    assert read.content == done.content
    assert b'"value":13.50' in read.content
    assert read.json()["status"] == "amended"
    found = await client.get("/Observation", params={"status": "amended"})
    assert [one["resource"]["id"] for one in found.json()["entry"]] == ["o1"]


async def test_a_patch_that_changes_nothing_makes_no_version(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    same = await patch(client, "/Patient/p1", op("test", "/gender", value="female"), op("replace", "/id", value="p1"))
    assert (same.status_code, same.headers["etag"]) == (200, 'W/"1"')
    assert (await patch(client, "/Patient/p1")).headers["etag"] == 'W/"1"'
    assert (await client.get("/Patient/p1/_history")).json()["total"] == 1


@pytest.mark.parametrize(
    ("operation", "status", "expression"),
    [
        (op("test", "/gender", value="male"), 422, "Patient.gender"),
        (op("remove", "/contact"), 422, "Patient.contact"),
        (op("replace", "/gender", value="f"), 422, "Patient.gender"),
        (op("add", "/nickname", value="x"), 422, "Patient.nickname"),
        (op("replace", "/id", value="p2"), 422, "Patient.id"),
        (op("replace", "/meta/versionId", value="7"), 422, "Patient.meta.versionId"),
        (op("erase", "/gender"), 400, "patch[0].op"),
        (op("add", "gender", value="male"), 400, "patch[0].path"),
    ],
)
async def test_a_patch_that_cannot_stand_changes_nothing(
    client: httpx.AsyncClient, operation: dict[str, Any], status: int, expression: str
) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    refused = await patch(client, "/Patient/p1", operation)
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (status, [expression])
    assert (await client.get("/Patient/p1")).headers["etag"] == 'W/"1"'


async def test_what_is_not_there_is_not_patched(client: httpx.AsyncClient) -> None:
    change = op("add", "/active", value=True)
    await client.put("/Patient/p1", json=patient(id="p1"))
    await client.delete("/Patient/p1")
    assert (await patch(client, "/Patient/p1", change)).status_code == 410
    for id, status in (("never", 404), ("p1", 410)):  # where there is nothing, no condition is asked (RFC 9110 13.2.1)
        assert (await patch(client, f"/Patient/{id}", change, If_Match='W/"1"')).status_code == status
    assert (await patch(client, "/Binary/b1", change)).status_code == 405
    assert (await patch(client, "/Patient/a_b", change)).status_code == 404


async def test_other_kinds_of_patch_are_refused_by_name(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    for media in ("application/xml-patch+xml", "application/merge-patch+json", ""):
        refused = await client.patch("/Patient/p1", content=b"[]", headers={"Content-Type": media})
        assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (415, ["Content-Type"])
        assert JSON_PATCH in refused.headers["accept-patch"]
    for raw in (b"", b"{}", b"[", b'[{"op":"remove","op":"test","path":"/gender"}]'):
        assert (await patch(client, "/Patient/p1", raw=raw)).status_code == 400


async def test_if_match_and_prefer_hold_for_a_patch(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))

    async def change(number: int) -> int:
        answer = await patch(
            client, "/Patient/p1", op("replace", "/name/0/family", value=f"N{number}"), If_Match='W/"1"'
        )
        return answer.status_code

    assert sorted(await asyncio.gather(*(change(number) for number in range(8)))) == [200] + [412] * 7
    minimal = await patch(client, "/Patient/p1", op("add", "/active", value=True), Prefer="return=minimal")
    assert (minimal.status_code, minimal.content, minimal.headers["etag"]) == (200, b"", 'W/"3"')


async def test_parallel_patches_of_different_elements_all_stand(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    telecom = [{"system": "phone", "value": str(number)} for number in range(8)]
    await patch(client, "/Patient/p1", op("add", "/telecom", value=[]), op("add", "/telecom/-", value=telecom[0]))
    answers = await asyncio.gather(
        *(patch(client, "/Patient/p1", op("add", "/telecom/-", value=one)) for one in telecom[1:])
    )
    assert {answer.status_code for answer in answers} == {200}
    stored = (await client.get("/Patient/p1")).json()
    assert sorted(one["value"] for one in stored["telecom"]) == [str(number) for number in range(8)]
    assert stored["meta"]["versionId"] == "9"


async def test_a_key_gives_the_first_answer_of_a_patch(client: httpx.AsyncClient) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    change = op("add", "/name/-", value={"text": "Đào"})
    first, again = [await patch(client, "/Patient/p1", change, Idempotency_Key="k") for _ in range(2)]
    assert first.content == again.content
    assert len((await client.get("/Patient/p1")).json()["name"]) == 2


async def test_a_conditional_patch_changes_the_one_match(client: httpx.AsyncClient) -> None:
    url, change = f"/Patient?identifier={MRN}|5", op("replace", "/name/0/family", value="Mới")
    assert (await patch(client, url, change)).status_code == 404
    made = [(await client.post("/Patient", json=patient((MRN, number)))).json()["id"] for number in ("5", "6")]
    assert (await patch(client, url, change, If_Match='W/"2"')).status_code == 412
    done = await patch(client, url, change)
    assert (done.status_code, done.json()["id"], done.headers["etag"]) == (200, made[0], 'W/"2"')
    assert (await patch(client, "/Patient?gender=female", change)).status_code == 412
    assert (await patch(client, "/Patient", change)).status_code == 412
    assert (await client.get(f"/Patient/{made[1]}")).headers["etag"] == 'W/"1"'


async def test_rights_of_an_update_are_needed(city: City, client: httpx.AsyncClient, facilities: list[int]) -> None:
    await client.put("/Patient/p1", json=patient(id="p1"))
    asked = op("test", "/gender", value="male")
    reader = city.system("system/*.rs")
    assert (await patch(reader, "/Patient/p1", asked)).status_code == 403
    facility = city.system(facility_id=facilities[0], name="f1")
    assert (await patch(facility, "/Patient/p1", asked)).status_code == 403, "nothing is told of what is there"


async def test_a_fhirpath_patch_is_a_parameters_resource(client: httpx.AsyncClient) -> None:
    sent = orjson.dumps(observation("Patient/p1", id="o1")).replace(b'"value":5', b'"value":13.50')
    await client.put("/Observation/o1", content=sent)

    def parameters(kind: str, path: str, value: str) -> dict[str, Any]:
        parts = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
        parts.append({"name": "value", "valueCode": value})
        return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}

    done = await client.patch("/Observation/o1", json=parameters("replace", "Observation.status", "amended"))
    assert (done.status_code, done.headers["etag"]) == (200, 'W/"2"')
    assert b'"value":13.50' in done.content
    assert done.json()["status"] == "amended"
    for path, value, status, expression in (
        ("Observation.status", "nonsense", 422, "Observation.status"),
        ("Observation.bodySite", "x", 422, "Parameters.parameter[0]"),
        ("Observation.(", "x", 400, "Parameters.parameter[0].part"),
    ):
        refused = await client.patch("/Observation/o1", json=parameters("replace", path, value))
        assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (status, [expression])
    other = await client.patch("/Observation/o1", json=observation("Patient/p1", id="o1"))
    assert (other.status_code, other.json()["issue"][0]["expression"]) == (400, ["resourceType"])
    assert (await client.get("/Observation/o1")).headers["etag"] == 'W/"2"'
