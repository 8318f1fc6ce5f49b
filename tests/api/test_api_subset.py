"""_summary and _elements: what is asked for, what must be there, the tag that says so, and every digit."""

import json
from typing import Any

import httpx
import pytest

from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import shape
from ehr.fhir.subset import subset_of
from ehr.fhir.validate import validate
from tests.api.conftest import City
from tests.api.mothers import observation, organization, patient

TEXT = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}
NOTE: dict[str, Any] = {"note": [{"text": "not of the summary"}]}
PHOTO = {"photo": [{"contentType": "image/png", "data": "QUJD"}]}


@pytest.fixture
async def seen(client: httpx.AsyncClient) -> str:
    await client.put("/Organization/o", json={**organization(), "id": "o"})
    await client.put("/Patient/p", json=patient(id="p", text=TEXT))
    performer = [{"reference": "Organization/o"}]
    body = json.dumps(observation("Patient/p", text=TEXT, performer=performer, id="seen", **NOTE))
    await client.put("/Observation/seen", content=body.replace('"value": 5', '"value": 13.50'))
    return "seen"


def names(tree: dict[str, Any]) -> set[str]:
    assert tree["meta"]["tag"][-1]["code"] == "SUBSETTED"
    return set(tree) - {"id", "meta", "resourceType"}


ASKED = {
    "_elements=value": {"code", "status", "valueQuantity"},
    "_elements=valueQuantity": {"code", "status", "valueQuantity"},
    "_elements=value,subject.reference": {"code", "status", "valueQuantity", "subject"},
    "_elements=Observation.subject": {"code", "status", "subject"},
    "_summary=text": {"code", "status", "text"},
    "_summary=data": {"code", "status", "effectiveDateTime", "valueQuantity", "subject", "performer", "note"},
    "_summary=true": {"code", "status", "effectiveDateTime", "valueQuantity", "subject", "performer"},
}


@pytest.mark.parametrize("asked", ASKED)
async def test_every_way_to_a_resource_shows_the_part(client: httpx.AsyncClient, seen: str, asked: str) -> None:
    whole = (await client.get(f"/Observation/{seen}")).json()
    for url in (f"/Observation/{seen}", f"/Observation/{seen}/_history/1"):
        answer = await client.get(f"{url}?{asked}")
        assert names(answer.json()) == ASKED[asked], answer.text
        assert answer.headers["etag"] == 'W/"1"'
        assert (b"13.50" in answer.content) == ("valueQuantity" in ASKED[asked])
    for url in ("/Observation", f"/Observation/{seen}/_history", "/Observation/_history"):
        found = (await client.get(f"{url}?{asked}")).json()
        assert [names(one["resource"]) for one in found["entry"]] == [ASKED[asked]]
    assert (await client.get(f"/Observation/{seen}")).json() == whole
    for url in (f"/Observation/{seen}?_summary=false", f"/Observation/{seen}/_history/1?_summary=false"):
        assert (await client.get(url)).json() == whole


async def test_a_path_keeps_only_what_it_names(client: httpx.AsyncClient, seen: str) -> None:
    found = (await client.get(f"/Observation/{seen}?_elements=value.value,code.coding.code")).json()
    assert found["valueQuantity"] == {"value": 13.5}
    assert found["code"] == {"coding": [{"code": "2345-7"}]}


async def test_everything_and_other_types_together(client: httpx.AsyncClient, seen: str) -> None:
    found = (await client.get("/Patient/p/$everything?_elements=Patient.name.family,Observation.status")).json()
    by_type = {one["resource"]["resourceType"]: one["resource"] for one in found["entry"]}
    assert by_type["Patient"]["name"] == [{"family": "Nguyễn"}]
    assert names(by_type["Observation"]) == {"code", "status"}
    assert "tag" not in by_type["Organization"]["meta"], "nothing was said of this type"
    paged = (await client.get("/Patient/p/$everything?_summary=true&_count=1")).json()
    following = next(link["url"] for link in paged["link"] if link["relation"] == "next")
    assert "text" not in names(paged["entry"][0]["resource"])
    assert "note" not in names((await client.get(following)).json()["entry"][0]["resource"])
    system = (await client.get("/?_type=Patient,Observation&_elements=Patient.gender,code")).json()
    assert [names(one["resource"]) for one in system["entry"]] == [{"gender"}, {"code", "status"}]


async def test_what_is_included_is_a_part_only_where_it_was_meant(client: httpx.AsyncClient, seen: str) -> None:
    query = "/Observation?_include=Observation:subject"
    plain = (await client.get(f"{query}&_elements=status")).json()["entry"]
    assert [("tag" in one["resource"]["meta"]) for one in plain] == [True, False]
    named = (await client.get(f"{query}&_elements=status,Patient.gender")).json()["entry"]
    assert names(named[1]["resource"]) == {"gender"}
    summary = (await client.get(f"{query}&_summary=true")).json()["entry"]
    assert "text" not in names(summary[1]["resource"])


async def test_a_count_is_only_a_count(client: httpx.AsyncClient, seen: str) -> None:
    for url in ("/Observation?_summary=count", f"/Observation/{seen}/_history?_summary=count"):
        found = (await client.get(url)).json()
        assert (found["total"], "entry" in found) == (1, False)


async def test_a_part_does_not_replace_the_whole(city: City, client: httpx.AsyncClient, seen: str) -> None:
    part = (await client.get(f"/Observation/{seen}?_elements=status")).json()
    refused = await client.put(f"/Observation/{seen}", json=part)
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (422, ["Observation.meta.tag"])
    assert (await client.put(f"/Observation?_id={seen}", json=part)).status_code == 422
    entry = {"resource": part, "request": {"method": "PUT", "url": f"Observation/{seen}"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert (await client.post("/", json=bundle)).status_code == 422
    assert (await client.get(f"/Observation/{seen}")).json()["meta"]["versionId"] == "1"


def test_a_summary_goes_down_to_the_datatypes() -> None:
    part = subset_of(["Patient"], "true", ())
    assert part is not None
    body = codec.dumps(
        patient(
            photo=PHOTO["photo"],
            link=[{"other": {"reference": "Patient/x"}, "type": "seealso", "id": "l"}],
            identifier=[{"extension": [{"url": "http://x", "valueString": "only this"}]}],
            modifierExtension=[{"url": "http://x/not", "valueBoolean": True}],
        )
    )
    found = codec.loads(part.of("Patient", body))
    assert found["modifierExtension"], "it may negate all that the summary says"
    assert "photo" not in found
    assert found["link"] == [{"other": {"reference": "Patient/x"}, "type": "seealso"}]
    assert found["identifier"][0]["extension"], "nothing would be left of it, and FHIR has no empty elements"
    assert validate(found) == []


def test_every_type_has_a_summary_with_what_it_must_have() -> None:
    for name in TYPE_IDS:
        marked = {member.element.name for member in shape(name).members.values() if member.element.is_summary}
        assert {"id", "meta", "implicitRules"} <= marked, name
        assert len(marked) < len({member.element.name for member in shape(name).members.values()}) or name == "Bundle"
