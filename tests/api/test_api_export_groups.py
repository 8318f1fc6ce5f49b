"""$export of a Group: who is a member, who is told not to be, and what comes of those who joined since."""

from typing import Any

import httpx
import pytest
import pytest_asyncio

from ehr import limits
from tests.api.conftest import City
from tests.api.exporting import Lines, lines_of, manifest_of, references
from tests.api.mothers import observation, patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENTS = ("a", "b", "c", "d", "e")


def member(reference: str, **beside: Any) -> dict[str, Any]:
    return {"entity": {"reference": reference}, **beside}


async def put_group(client: httpx.AsyncClient, id: str, *members: dict[str, Any], actual: bool = True) -> None:
    group: dict[str, Any] = {"resourceType": "Group", "id": id, "type": "person", "actual": actual}
    if members:
        group["member"] = list(members)
    assert (await client.put(f"/Group/{id}", json=group)).is_success


def told(lines: Lines) -> list[str]:
    return [issue["diagnostics"] for line in lines for issue in line["issue"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(shared_city: City) -> City:
    """Five patients with an observation each."""
    client = shared_city.system()
    for id in PATIENTS:
        for one in ({**patient(), "id": id}, {**observation(f"Patient/{id}", 5), "id": f"of-{id}"}):
            assert (await client.put(f"/{one['resourceType']}/{one['id']}", json=one)).status_code == 201
    return shared_city


@pytest.fixture
def client(full: City) -> httpx.AsyncClient:
    return full.system()


async def test_groups_within_the_group_and_versions_are_followed(full: City, client: httpx.AsyncClient) -> None:
    await put_group(client, "ward", member("Patient/a"), member("Group/ring"))
    await put_group(client, "ring", member("Patient/a"), member("Patient/b/_history/1"), member("Group/ward"))
    await put_group(client, "house", member("Group/ward"), member(f"{full.base}/Patient/c"))
    manifest = await manifest_of(full, client, "/Group/house/$export?_type=Patient")
    assert references(await lines_of(client, manifest)) == {"Patient/a", "Patient/b", "Patient/c"}
    assert manifest["error"] == []


async def test_whose_time_in_the_group_is_over_or_to_come_is_no_member(full: City, client: httpx.AsyncClient) -> None:
    await put_group(
        client,
        "timed",
        member("Patient/a", period={"end": "2020-01-01"}),
        member("Patient/b", period={"start": "2020-01-01", "end": "2999"}),
        member("Patient/c", period={"start": "2999-01-01"}),
        member("Patient/d", period={"end": "2999-01-01"}, inactive=True),
    )
    manifest = await manifest_of(full, client, "/Group/timed/$export?_type=Patient")
    assert references(await lines_of(client, manifest)) == {"Patient/b"}


async def test_members_that_are_no_patients_of_this_record_are_told(full: City, client: httpx.AsyncClient) -> None:
    by_number = {"entity": {"type": "Patient", "identifier": {"system": "urn:x", "value": "1"}}}
    await put_group(client, "described", actual=False)
    await put_group(
        client,
        "odd",
        member("Patient/a"),
        by_number,
        member("https://other.example/fhir/Patient/b"),
        member("Practitioner/p"),
        member("Group/absent"),
        member("Group/described"),
    )
    manifest = await manifest_of(full, client, "/Group/odd/$export?_type=Patient")
    assert references(await lines_of(client, manifest)) == {"Patient/a"}
    found = "\n".join(told(await lines_of(client, manifest, "error")))
    for text in ("without a reference", "other.example", "Practitioner/p", "Group/absent", "Group/described"):
        assert text in found


async def test_who_joined_since_comes_whole_and_who_is_gone_is_told(full: City, client: httpx.AsyncClient) -> None:
    await put_group(client, "growing", member("Patient/a"), member("Patient/e"))
    first = await manifest_of(full, client, "/Group/growing/$export")
    since = f"_since={first['transactionTime']}"
    assert (await client.delete("/Observation/of-e")).status_code == 204
    assert (await client.delete("/Patient/e")).status_code == 204
    await put_group(client, "growing", member("Patient/a"), member("Patient/e"), member("Patient/d"))
    manifest = await manifest_of(full, client, f"/Group/growing/$export?_type=Patient,Observation&{since}")
    assert references(await lines_of(client, manifest)) == {"Patient/d", "Observation/of-d"}
    gone = [entry["request"]["url"] for line in await lines_of(client, manifest, "deleted") for entry in line["entry"]]
    assert sorted(gone) == ["Observation/of-e", "Patient/e"]


async def test_groups_within_groups_have_an_end(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "group_nested_max", 2)
    await put_group(client, "g2")
    await put_group(client, "g1", member("Group/g2"))
    await put_group(client, "g0", member("Group/g1"))
    refused = await client.get("/Group/g0/$export")
    assert (refused.status_code, "Groups within a Group" in refused.text) == (413, True)
