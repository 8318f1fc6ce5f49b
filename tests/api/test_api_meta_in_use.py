"""$meta of a type and of the system: what current resources have, each once, and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ehr import limits
from ehr.bulk import files
from ehr.bulk.ingest import ingest
from ehr.ids import new_id
from ehr.index import formats
from ehr.index.extract import Extractor
from ehr.store import backfill
from tests.api.conftest import City
from tests.api.declared import finish
from tests.api.mothers import CCCD, observation, organization, patient
from tests.api.test_api_record_operations import LABEL, TAG, meta_of, refusal

URL = "http://example.org/StructureDefinition/p"


def tag(code: str, **more: Any) -> dict[str, Any]:
    return {"system": "urn:tags", "code": code, **more}


async def put(client: httpx.AsyncClient, tree: dict[str, Any], **meta: Any) -> None:
    answer = await client.put(f"/{tree['resourceType']}/{tree['id']}", json=tree | ({"meta": meta} if meta else {}))
    assert answer.is_success, answer.text


async def test_each_is_listed_once_as_a_resource_says_it(client: httpx.AsyncClient) -> None:
    assert meta_of(await client.get("/$meta")) == {}
    await put(client, patient(id="a"), tag=[tag("b"), TAG, {"code": "bare"}], security=[LABEL], profile=[URL])
    await put(client, patient(id="b"), tag=[TAG, {"system": "urn:no-code"}, {"display": "words"}])
    await put(client, {**organization(), "id": "o"}, tag=[tag("o"), {"system": "urn:other", "code": "b"}])
    of_patients = {
        "profile": [URL],
        "security": [LABEL],
        "tag": [{"code": "bare"}, tag("b"), TAG],
    }
    assert meta_of(await client.get("/Patient/$meta")) == of_patients
    assert meta_of(await client.post("/Patient/$meta")) == of_patients
    of_all = [{"code": "bare"}, {"system": "urn:other", "code": "b"}, tag("b"), TAG, tag("o")]
    assert meta_of(await client.get("/$meta")) == of_patients | {"tag": of_all}
    assert meta_of(await client.get("/Encounter/$meta")) == {}
    assert refusal(await client.get("/Patient/$meta?meta=a")) == (400, "meta")


async def test_what_no_resource_has_any_more_is_not_listed(client: httpx.AsyncClient) -> None:
    await put(client, patient(id="a"), tag=[tag("first", display="Old words")])
    await put(client, patient(id="a"), tag=[tag("first", display="New words")])
    await put(client, patient(id="b"), tag=[tag("gone")], profile=[URL])
    await put(client, patient(id="b"))
    await put(client, patient(id="c"), security=[LABEL])
    await client.delete("/Patient/c")
    assert meta_of(await client.get("/$meta")) == {"tag": [tag("first", display="New words")]}
    await put(client, patient(id="c"), security=[LABEL])
    assert meta_of(await client.get("/$meta"))["security"] == [LABEL]


async def test_versions_of_a_profile_are_told_apart(client: httpx.AsyncClient) -> None:
    await put(client, patient(id="a"), profile=[f"{URL}|1", "http://example.org/StructureDefinition/q|1"])
    await put(client, patient(id="b"), profile=[f"{URL}|2"])
    both = ["http://example.org/StructureDefinition/q|1", f"{URL}|1", f"{URL}|2"]
    assert sorted(meta_of(await client.get("/$meta"))["profile"]) == sorted(both)
    await put(client, patient(id="c"), profile=[URL])
    assert sorted(meta_of(await client.get("/$meta"))["profile"]) == sorted([*both, URL])
    await put(client, patient(id="c"))
    assert sorted(meta_of(await client.get("/$meta"))["profile"]) == sorted(both)


async def test_only_what_the_caller_may_search(city: City, client: httpx.AsyncClient) -> None:
    await put(client, patient((CCCD, "001200000001"), id="a"), tag=[tag("a")])
    await put(client, observation("Patient/a", id="x"), tag=[tag("x")])
    await put(client, patient(id="b"), tag=[tag("b")])
    await put(client, {**organization(), "id": "o"}, tag=[tag("o")])
    linked = (await client.get("/Person?link=Patient/a")).json()["entry"][0]["resource"]["id"]
    citizen = city.citizen(linked)
    assert meta_of(await citizen.get("/$meta")) == {"tag": [tag("a"), tag("o"), tag("x")]}
    assert meta_of(await citizen.get("/Patient/$meta")) == {"tag": [tag("a")]}
    some = city.system("system/Patient.s system/Observation.r")
    assert meta_of(await some.get("/$meta")) == {"tag": [tag("a"), tag("b")]}
    assert (await some.get("/Observation/$meta")).status_code == 403
    async with city.record.database.acquire() as connection:
        rows = await connection.fetch("select detail->>'on' as of from audit where detail->>'operation' = 'meta'")
    assert [row["of"] for row in rows] == ["system", "Patient", "system"]


@pytest.mark.parametrize("how", ["writes", "import"])
async def test_where_every_resource_has_its_own_none_is_kept(
    city: City, client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    many = [patient(id=f"p{number}", meta={"tag": [tag(f"t{number}")]}) for number in range(limits.meta_values_max + 1)]
    path = tmp_path / "patients.ndjson"
    path.write_bytes(b"\n".join(map(orjson.dumps, many)))
    (part,) = files.parts("patients", path)
    await ingest(city.record, part, job_id=new_id())
    if how == "writes":
        await put(client, patient(id="further"), tag=[tag("further")])
    assert refusal(await client.get("/$meta")) == (413, "meta.tag")
    async with city.record.database.acquire() as connection:
        kept = await connection.fetchval("select count(*) from term where param_id > 1 << 30")
    assert kept == limits.meta_values_max + 1


async def test_a_store_of_before_is_read_for_them_first(city: City, client: httpx.AsyncClient) -> None:
    await put(client, patient(id="a"), tag=[TAG], profile=[URL])
    async with city.record.database.acquire() as connection:
        await connection.execute("update installation set index_format = $1", formats.META - 1)
        await connection.execute("delete from term where param_id > 1 << 30")
    record = city.record
    record.installation = replace(record.installation, index_format=formats.META - 1)  # as a process that begins now
    record.extractor = Extractor(record.hasher)
    assert refusal(await client.get("/$meta")) == (400, "$meta")
    assert await backfill.bring_up(record) is not None
    await finish(city.record)
    assert meta_of(await client.get("/$meta")) == {"tag": [TAG], "profile": [URL]}
