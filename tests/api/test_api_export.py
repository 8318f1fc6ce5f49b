"""$export: what each level and parameter lets out, who may ask, and what is refused by name."""

from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.api.conftest import City
from tests.api.exporting import begun, exported, lines_of, manifest_of, references, work_on
from tests.api.mothers import observation, organization, patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = {"Patient/a", "Patient/b", "Observation/a1", "Observation/a2", "Observation/b1", "Observation/nobody"}


def parameters(**values: str | list[str]) -> dict[str, Any]:
    parts = []
    for name, given in values.items():
        for value in given if isinstance(given, list) else [given]:
            of = {"valueReference": {"reference": value}} if name == "patient" else {"valueString": value}
            parts.append({"name": name, **of})
    return {"resourceType": "Parameters", "parameter": parts}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(shared_city: City) -> City:
    """Two patients, what belongs to them, what belongs to nobody, a Group of one patient."""
    client = shared_city.system()
    device = {"resourceType": "Device", "id": "d"}
    group = {
        "resourceType": "Group",
        "id": "g",
        "type": "person",
        "actual": True,
        "member": [
            {"entity": {"reference": "Patient/a"}},
            {"entity": {"reference": "Patient/b"}, "inactive": True},
            {"entity": {"reference": "Patient/absent"}},
        ],
    }
    for one in (
        {**patient(), "id": "a"},
        {**patient(gender="male"), "id": "b"},
        {**observation("Patient/a", 5), "id": "a1"},
        {**observation("Patient/a", 7, code="1-8"), "id": "a2"},
        {**observation("Patient/b", 9), "id": "b1"},
        {**observation("Device/d"), "id": "nobody"},
        {**organization(), "id": "o"},
        device,
        group,
    ):
        answer = await client.put(f"/{one['resourceType']}/{one['id']}", json=one)
        assert answer.status_code == 201, answer.text
    return shared_city


@pytest.fixture
def client(full: City) -> httpx.AsyncClient:
    return full.system()


async def test_the_system_level_lets_out_everything_as_it_is_read(full: City, client: httpx.AsyncClient) -> None:
    lines = await exported(full, client, "/$export")
    kept = [one for one in lines if one["resourceType"] not in ("Person", "Provenance")]
    assert references(kept) == ALL | {"Organization/o", "Device/d", "Group/g"}
    for line in lines:
        read = await client.get(f"/{line['resourceType']}/{line['id']}")
        assert read.json() == line


async def test_the_manifest_says_what_the_guide_asks_for(full: City, client: httpx.AsyncClient) -> None:
    address = await begun(client, "/$export?_type=Patient")
    waiting = await client.get(address)
    assert waiting.status_code == 202
    assert waiting.headers["x-progress"] == "0% (0 of 1 parts)"
    assert int(waiting.headers["retry-after"]) >= 1
    await work_on(full)
    done = await client.get(address)
    assert done.headers["content-type"] == "application/json"
    assert "expires" in done.headers
    found = done.json()
    assert found["request"] == f"{full.base}/$export?_type=Patient"
    assert found["requiresAccessToken"] is True
    assert found["deleted"] == found["error"] == []
    (file,) = found["output"]
    assert (file["type"], file["count"]) == ("Patient", 2)
    assert file["url"].startswith(address)


async def test_who_does_not_prefer_to_wait_need_not_say_so(client: httpx.AsyncClient) -> None:
    """The guide lets a server take it as said: there is no other answer."""
    assert "prefer" not in client.headers
    assert (await client.get("/$export", params={"_type": "Patient"})).status_code == 202


async def test_an_instant_has_as_many_digits_as_its_sender_counts(full: City, client: httpx.AsyncClient) -> None:
    assert await exported(full, client, "/$export?_type=Patient&_since=2026-01-01T00:00:00.123456789Z")


async def test_files_are_compressed_for_who_takes_gzip(full: City, client: httpx.AsyncClient) -> None:
    manifest = await manifest_of(full, client, "/$export?_type=Observation")
    url = manifest["output"][0]["url"]
    plain = await client.get(url, headers={"Accept-Encoding": "gzip;q=0", "Accept": "application/fhir+ndjson"})
    assert "content-encoding" not in plain.headers
    assert int(plain.headers["content-length"]) == len(plain.content)
    packed = await client.get(url, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    head = await client.head(url)
    assert (head.status_code, head.content) == (200, b"")


async def test_a_download_that_broke_off_goes_on(full: City, client: httpx.AsyncClient) -> None:
    url = (await manifest_of(full, client, "/$export?_type=Observation"))["output"][0]["url"]
    whole = await client.get(url, headers={"Accept-Encoding": "identity"})
    content, etag, length = whole.content, whole.headers["etag"], len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, first, end in (
        ("10-", 10, length),
        ("0-0", 0, 1),
        ("-7", length - 7, length),
        (f"5-{length + 9}", 5, length),
    ):
        sent = {"Range": f"bytes={asked}", "If-Range": etag, "Accept-Encoding": "gzip"}
        rest = await client.get(url, headers=sent)
        assert (rest.status_code, rest.content) == (206, content[first:end])
        assert rest.headers["content-range"] == f"bytes {first}-{end - 1}/{length}"
        assert (rest.headers["content-length"], rest.headers["etag"]) == (str(end - first), etag)
    dated = {"Range": "bytes=3-", "If-Range": whole.headers["last-modified"]}
    assert (await client.get(url, headers=dated)).content == content[3:]


async def test_where_no_part_can_be_had_all_is_sent(full: City, client: httpx.AsyncClient) -> None:
    url = (await manifest_of(full, client, "/$export?_type=Observation"))["output"][0]["url"]
    packed = await client.get(url, headers={"Accept-Encoding": "gzip"})
    etag = packed.headers["etag"]
    for one in (
        {"Range": "bytes=10-", "If-Range": '"another"'},
        {"Range": "bytes=10-", "If-Range": etag},  # of the packed content, of which there are no parts
        {"Range": "bytes=5-2"},
        {"Range": "bytes=-"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "lines=1-2"},
        {"Range": f"bytes={'9' * 400}-"},
    ):
        answer = await client.get(url, headers=one)
        assert (answer.status_code, answer.content) == (200, packed.content), one
    for beyond in (f"bytes={len(packed.content)}-", "bytes=-0"):
        refused = await client.get(url, headers={"Range": beyond})
        assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (416, ["Range"])
        assert refused.headers["content-range"] == f"bytes */{len(packed.content)}"
    head = await client.head(url, headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.headers["accept-ranges"]) == (200, "bytes")


async def test_the_patient_level_is_the_compartment_of_all_patients(full: City, client: httpx.AsyncClient) -> None:
    lines = await exported(full, client, "/Patient/$export")
    kept = [one for one in lines if one["resourceType"] not in ("Person", "Provenance")]
    assert references(kept) == ALL - {"Observation/nobody"}


async def test_a_group_is_its_active_members(full: City, client: httpx.AsyncClient) -> None:
    manifest = await manifest_of(full, client, "/Group/g/$export?_type=Patient,Observation")
    assert references(await lines_of(client, manifest)) == {"Patient/a", "Observation/a1", "Observation/a2"}
    (outcome,) = await lines_of(client, manifest, "error")
    assert "Patient/absent" in outcome["issue"][0]["diagnostics"]


async def test_patients_are_named_in_a_body(full: City, client: httpx.AsyncClient) -> None:
    body = parameters(patient="Patient/b", _type="Observation")
    assert references(await exported(full, client, "/Patient/$export", body)) == {"Observation/b1"}
    absolute = parameters(patient=f"{full.base}/Patient/b", _type="Observation")
    assert references(await exported(full, client, "/Patient/$export", absolute)) == {"Observation/b1"}
    absent = await client.post("/Patient/$export", json=parameters(patient=["Patient/b", "Patient/absent"]))
    assert absent.status_code == 404
    no_member = await client.post("/Group/g/$export", json=parameters(patient="Patient/b"))
    assert no_member.status_code == 404
    assert "no member Patient/b" in no_member.text


async def test_type_filters_are_alternatives_within_their_type(full: City, client: httpx.AsyncClient) -> None:
    query = {
        "_type": "Patient,Observation",
        "_typeFilter": ["Observation?code=1-8,Observation?value-quantity=gt8", "Patient?gender=male"],
    }
    url = str(httpx.URL("/$export", params=query))
    assert references(await exported(full, client, url)) == {"Observation/a2", "Observation/b1", "Patient/b"}
    of_group = str(
        httpx.URL("/Group/g/$export", params={"_type": "Observation", "_typeFilter": "Observation?code=1-8"})
    )
    assert references(await exported(full, client, of_group)) == {"Observation/a2"}


async def test_a_type_filter_means_what_the_same_search_means(full: City, client: httpx.AsyncClient) -> None:
    """What has to be looked up before it can be asked is looked up here, too."""
    entry = [{"item": {"reference": "Observation/a1"}}]
    include = [{"system": "http://loinc.org", "concept": [{"code": "1-8"}]}]
    beside: list[dict[str, Any]] = [
        {"resourceType": "List", "id": "l", "status": "current", "mode": "working", "entry": entry},
        {"resourceType": "ValueSet", "id": "v", "status": "active", "url": "urn:v", "compose": {"include": include}},
    ]
    for one in beside:
        assert (await client.put(f"/{one['resourceType']}/{one['id']}", json=one)).status_code == 201
    wanted = {
        "subject:missing=false": {"a1", "a2", "b1", "nobody"},
        "_list=l": {"a1"},
        "code:in=urn:v": {"a2"},
        "code:not-in=urn:v": {"a1", "b1", "nobody"},
    }
    for query, ids in wanted.items():
        url = str(httpx.URL("/$export", params={"_type": "Observation", "_typeFilter": f"Observation?{query}"}))
        found = references(await exported(full, client, url))
        assert found == {f"Observation/{id}" for id in ids}, query
    for one in beside:
        assert (await client.delete(f"/{one['resourceType']}/{one['id']}")).status_code == 204


async def test_elements_leave_the_others_out_and_say_so(full: City, client: httpx.AsyncClient) -> None:
    lines = await exported(full, client, "/$export?_type=Patient,Device&_elements=Patient.gender,id")
    assert {one["resourceType"] for one in lines} == {"Patient", "Device"}
    for line in lines:
        assert line.keys() <= {"resourceType", "id", "meta", "gender"}
        assert line["meta"]["tag"][-1]["code"] == "SUBSETTED"


async def test_files_are_organized_by_patient(full: City, client: httpx.AsyncClient) -> None:
    manifest = await manifest_of(full, client, "/$export?organizeOutputBy=Patient&_type=Patient,Observation")
    assert manifest["outputOrganizedBy"] == "Patient"
    assert all("type" not in one for one in manifest["output"])
    lines = await lines_of(client, manifest)
    shown = [
        one["parameter"][0]["valueReference"]["reference"] if one["resourceType"] == "Parameters" else one["id"]
        for one in lines
    ]
    blocks = {shown[0]: shown[1:4], shown[4]: shown[5:]} if shown[0] == "Patient/a" else {}
    blocks = blocks or {shown[0]: shown[1:3], shown[3]: shown[4:]}
    assert {name: (ids[0], set(ids[1:])) for name, ids in blocks.items()} == {
        "Patient/a": ("a", {"a1", "a2"}),
        "Patient/b": ("b", {"b1"}),
    }


@pytest.mark.parametrize(
    ("url", "at"),
    [
        ("/$export?_unheard=1", "_unheard"),
        ("/$export?_outputFormat=text/csv", "_outputFormat"),
        ("/$export?_type=Nothing", "_type"),
        ("/Patient/$export?_type=Organization", "_type"),
        ("/$export?_since=yesterday", "_since"),
        ("/$export?_since=9999-12-31T23:59:59-12:00", "_since"),
        ("/$export?_since=2026-01-01T00:00:00Z&_since=2026-01-02T00:00:00Z", "_since"),
        ("/$export?_until=2026", "_until"),
        ("/$export?_elements=Patient.nothing", "_elements"),
        ("/$export?_typeFilter=Patient", "_typeFilter"),
        ("/$export?_typeFilter=Patient%3Funheard%3D1", "_typeFilter"),
        ("/$export?_typeFilter=Patient%3F_sort%3Dname", "_typeFilter"),
        ("/$export?_type=Patient&_typeFilter=Device%3F_id%3Dd", "_typeFilter"),
        ("/$export?organizeOutputBy=Device", "organizeOutputBy"),
        ("/Patient/$export?patient=Patient/a", "patient"),
        ("/$export?patient=Patient/a", "patient"),
        ("/$export?includeAssociatedData=_all", "includeAssociatedData"),
        ("/$export?_type=Provenance&includeAssociatedData=LatestProvenanceResources", "includeAssociatedData"),
        (
            "/$export?organizeOutputBy=Patient&includeAssociatedData=LatestProvenanceResources",
            "includeAssociatedData",
        ),
    ],
)
async def test_what_is_not_served_is_refused_by_name(client: httpx.AsyncClient, url: str, at: str) -> None:
    answer = await client.get(url)
    assert answer.status_code == 400, answer.text
    assert at in answer.json()["issue"][0]["expression"]


async def test_associated_data_go_with_what_is_exported(full: City, client: httpx.AsyncClient) -> None:
    device = {"resourceType": "Provenance", "target": [{"reference": "Device/d"}], "agent": [{"who": {"display": "x"}}]}
    for id, year in (("older", 2020), ("newer", 2021)):
        told = {**device, "id": id, "recorded": f"{year}-01-01T00:00:00Z"}
        assert (await client.put(f"/Provenance/{id}", json=told)).status_code == 201
    latest = await exported(full, client, "/$export?_type=Device&includeAssociatedData=LatestProvenanceResources")
    assert references(latest) == {"Device/d", "Provenance/newer"}
    asked = parameters(_type="Device,Provenance", includeAssociatedData="RelevantProvenanceResources")
    assert references(await exported(full, client, "/$export", asked)) == {
        "Device/d",
        "Provenance/newer",
        "Provenance/older",
    }
    for id in ("older", "newer"):
        await client.delete(f"/Provenance/{id}")
    narrow = full.system("system/Device.rs", name="narrow")
    refused = await narrow.get("/$export?includeAssociatedData=LatestProvenanceResources")
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (403, ["includeAssociatedData"])


async def test_lenient_handling_goes_on_and_tells_what_was_ignored(full: City, client: httpx.AsyncClient) -> None:
    url = "/$export?_type=Device&_unheard=1"
    manifest = await manifest_of(full, client, url, Prefer="respond-async, handling=lenient")
    assert references(await lines_of(client, manifest)) == {"Device/d"}
    (outcome,) = await lines_of(client, manifest, "error")
    assert outcome["issue"][0]["severity"] == "warning"
    assert "_unheard" in outcome["issue"][0]["diagnostics"]


async def test_scopes_bound_what_is_let_out(full: City) -> None:
    narrow = full.system("system/Patient.rs system/Device.rs", name="narrow")
    lines = await exported(full, narrow, "/$export")
    assert {one["resourceType"] for one in lines} == {"Patient", "Device"}
    assert (await narrow.get("/$export?_type=Patient,Observation")).status_code == 403
    assert (await full.system("system/Patient.s", name="none").get("/$export")).status_code == 403


async def test_a_job_is_there_only_for_who_began_it(full: City, client: httpx.AsyncClient) -> None:
    address = await begun(client, "/$export?_type=Patient")
    await work_on(full)
    url = (await client.get(address)).json()["output"][0]["url"]
    other = full.system(name="other")
    for asked in (address, url):
        assert (await other.get(asked)).status_code == 404
        assert (await full.client().get(asked)).status_code == 401
    assert (await other.delete(address)).status_code == 404
    less = full.system("system/Device.rs")
    for asked in (address, url):
        assert (await less.get(asked)).status_code == 403
    assert (await client.get(f"{address}/../../../etc/passwd")).status_code == 404
    assert (await client.get(f"{address}/other.ndjson")).status_code == 404


async def test_a_citizen_exports_nothing(full: City) -> None:
    citizen = full.citizen("someone")
    for url in ("/$export", "/Patient/$export", "/Group/g/$export"):
        assert (await citizen.get(url)).status_code == 403


async def test_a_cancelled_job_and_its_files_are_gone(full: City, client: httpx.AsyncClient) -> None:
    address = await begun(client, "/$export?_type=Patient")
    assert (await client.delete(address)).status_code == 202
    assert (await client.get(address)).status_code == 404
    await work_on(full)
    address = await begun(client, "/$export?_type=Patient")
    await work_on(full)
    url = (await client.get(address)).json()["output"][0]["url"]
    assert (await client.delete(address)).status_code == 202
    for asked in (address, url):
        assert (await client.get(asked)).status_code == 404
    assert not list((full.record.settings.data_dir / "exports").glob(f"{address.rpartition('/')[2]}/*"))


async def test_one_client_has_a_few_jobs_at_a_time(full: City) -> None:
    busy = full.system(name="busy")
    addresses = [await begun(busy, "/$export?_type=Device") for _ in range(4)]
    refused = await busy.get("/$export?_type=Device")
    assert refused.status_code == 429
    assert "retry-after" in refused.headers
    assert (await busy.delete(addresses[0])).status_code == 202
    assert (await busy.get("/$export?_type=Device")).status_code == 202
    await work_on(full)


async def test_an_export_is_logged_once_for_each_patient(full: City, client: httpx.AsyncClient) -> None:
    address = await begun(client, "/$export?_type=Patient,Observation")
    await work_on(full)
    job_id = address.rpartition("/")[2]
    async with full.record.database.acquire() as connection:
        shards = [
            row["shard"]
            for row in await connection.fetch(
                "select shard from audit where detail ->> 'job' = $1 and detail ->> 'operation' = 'export'", job_id
            )
        ]
    hasher = full.record.hasher
    wanted = {hasher.shard(*one.split("/")) for one in ("Patient/a", "Patient/b", "Observation/nobody")}
    assert sorted(shards, key=str) == sorted([None, *wanted], key=str)
