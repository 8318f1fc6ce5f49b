"""Stored profiles: $validate answers with them, and a write keeps what it claims."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from ehr.settings import Settings
from tests.api.conftest import City, running, statements
from tests.unit.profile_definitions import (
    HERE,
    definition,
    element,
    extension,
    observation,
    patient,
    reference_to,
    stored,
)

PROFILE = HERE + "named"
SYSTEM, VALUE_SET = "http://example.org/CodeSystem/kind", "http://example.org/ValueSet/kind"

NAMED = definition("named", "Patient", element("Patient.name", min=1), version="1.0.0")
BOUND = definition(
    "bound",
    "Patient",
    element("Patient.maritalStatus", min=1, binding={"strength": "required", "valueSet": VALUE_SET}),
)


def value_set(**include: Any) -> dict[str, Any]:
    compose = {"include": [{"system": SYSTEM, **include}]}
    return {"resourceType": "ValueSet", "url": VALUE_SET, "status": "active", "compose": compose}


def code_system(*codes: str) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem",
        "url": SYSTEM,
        "status": "active",
        "content": "complete",
        "concept": [{"code": "top", "concept": [{"code": code} for code in codes]}],
    }


async def store(client: httpx.AsyncClient, *trees: dict[str, Any]) -> list[str]:
    found = []
    for tree in trees:
        answer = await client.post(f"/{tree['resourceType']}", json=stored(tree))
        assert answer.status_code == 201, answer.text
        found.append(f"{tree['resourceType']}/{answer.json()['id']}")
    return found


async def issues(client: httpx.AsyncClient, tree: dict[str, Any], at: str = "", **query: str) -> list[dict[str, Any]]:
    answer = await client.post(f"/{tree['resourceType']}{at}/$validate", json=tree, params=query)
    assert answer.status_code == 200, answer.text
    found = answer.json()["issue"]
    return [issue for issue in found if issue["severity"] != "information"]


def places(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(issue["severity"], issue["expression"][0]) for issue in found]


async def test_a_stored_profile_is_checked_and_followed_through_its_versions(city: City) -> None:
    client = city.system()
    refused = await client.post("/Patient/$validate", json=patient(), params={"profile": PROFILE})
    assert (refused.status_code, refused.json()["issue"][0]["code"]) == (400, "not-supported")
    (place,) = await store(client, NAMED)
    assert places(await issues(client, patient(), profile=PROFILE)) == [("error", "Patient.name")]
    assert await issues(client, patient(name=[{"text": "a"}]), profile=PROFILE) == []
    stricter = definition("named", "Patient", element("Patient.birthDate", min=1), version="1.10.0")
    await store(client, stricter, {**NAMED, "version": "1.9.0"})
    assert places(await issues(client, patient(), profile=PROFILE)) == [("error", "Patient.birthDate")]
    assert places(await issues(client, patient(), profile=f"{PROFILE}|1.0.0")) == [("error", "Patient.name")]
    lax = {**NAMED, "id": place.split("/")[1], "differential": {"element": [{"path": "Patient"}]}}
    assert (await client.put(f"/{place}", json=stored(lax))).status_code == 200
    assert await issues(client, patient(), profile=f"{PROFILE}|1.0.0") == []
    assert (await client.delete(f"/{place}")).status_code == 204
    gone = await client.post("/Patient/$validate", json=patient(), params={"profile": f"{PROFILE}|1.0.0"})
    assert gone.status_code == 400


async def test_another_process_sees_a_profile_at_once(city: City, settings: Settings, database_url: str) -> None:
    async with running(settings, database_url) as other:
        await store(city.system(), NAMED)
        assert places(await issues(other.system(), patient(), profile=PROFILE)) == [("error", "Patient.name")]
        await store(city.system(), definition("named", "Patient", version="2.0.0"))
        assert await issues(other.system(), patient(), profile=PROFILE) == []


async def test_a_profile_that_cannot_be_compiled_is_an_error_where_it_is_named(city: City) -> None:
    client = city.system()
    await store(client, definition("p", "Patient", element("Patient.nonsense", min=1)))
    answer = await client.post("/Patient/$validate", json=patient(), params={"profile": HERE + "p"})
    assert answer.status_code == 400
    assert "no element nonsense" in answer.json()["issue"][0]["diagnostics"]


async def test_codes_are_looked_up_in_stored_value_sets_and_code_systems(city: City) -> None:
    client = city.system()

    async def severity(code: str, system: str = SYSTEM) -> list[str]:
        tree = patient(maritalStatus={"coding": [{"system": system, "code": code}]})
        return [issue["severity"] for issue in await issues(client, tree, profile=BOUND["url"])]

    await store(client, BOUND)
    assert await severity("a") == ["warning"], "nobody knows the value set"
    below_top = [{"property": "concept", "op": "is-a", "value": "top"}]
    await store(client, value_set(filter=below_top))
    assert await severity("a") == ["warning"], "nobody knows the code system"
    assert await severity("a", "http://example.org/other") == ["error"], "it is of no system of the set all the same"
    await store(client, code_system("a", "b"))
    assert await severity("a") == []
    assert await severity("c") == ["error"]


@pytest.mark.parametrize(
    ("include", "good", "bad"),
    [
        ({"system": "http://hl7.org/fhir/administrative-gender"}, "male", "masculine"),
        ({"valueSet": ["http://hl7.org/fhir/ValueSet/administrative-gender"]}, "male", "masculine"),
        ({"valueSet": ["http://hl7.org/fhir/ValueSet/all-languages"]}, "vi-VN", "v"),
        ({"valueSet": ["http://hl7.org/fhir/ValueSet/mimetypes"]}, "text/plain; charset=utf-8", "text"),
    ],
)
async def test_r4s_own_codes_need_no_loading(city: City, include: dict[str, Any], good: str, bad: str) -> None:
    client = city.system()
    binding = {"strength": "required", "valueSet": VALUE_SET}
    profile = definition("p", "Basic", element("Basic.language", binding=binding))
    await store(client, profile, {**value_set(), "compose": {"include": [include]}})

    async def found(code: str) -> list[tuple[str, str]]:
        tree = {"resourceType": "Basic", "code": {"text": "a"}, "language": code}
        return places(await issues(client, tree, profile=profile["url"]))

    assert await found(good) == []
    assert await found(bad) == [("error", "Basic.language")]


async def test_a_write_is_held_to_what_it_claims_and_not_to_extensions(city: City) -> None:
    """Its claim is of a profile nobody knows; $validate would tell that the extension is wrong."""
    client = city.system()
    rank = extension("rank", element("Extension.valueInteger", min=1))
    await store(client, rank)
    wrong = {"extension": [{"url": rank["url"], "valueCode": "a"}]}
    await store(client, patient(meta={"profile": [PROFILE]}, **wrong), patient(**wrong))


async def test_an_extension_with_a_known_definition_is_checked_without_a_profile(city: City) -> None:
    client = city.system()
    rank = extension("rank", element("Extension.valueInteger", min=1, maxValueInteger=9))
    await store(client, rank)
    tree = patient(extension=[{"url": rank["url"], "valueInteger": 10}])
    assert places(await issues(client, tree)) == [("error", "Patient.extension[0].value")]


# ---- claims


async def test_a_write_keeps_the_profile_it_claims(city: City) -> None:
    client = city.system()
    claiming = patient(meta={"profile": [PROFILE]})
    assert (await client.post("/Patient", json=claiming)).status_code == 201, "a profile nobody knows binds nobody"
    await store(client, NAMED)
    refused = await client.post("/Patient", json=claiming)
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Patient.name"]
    assert (await client.put("/Patient/a", json={**claiming, "id": "a"})).status_code == 422
    assert (await client.post("/Patient", json={**claiming, "name": [{"text": "a"}]})).status_code == 201
    kept = await client.put("/Patient/b", json={**claiming, "id": "b", "name": [{"text": "a"}]})
    assert kept.status_code == 201
    patched = await client.patch(
        "/Patient/b", json=[{"op": "remove", "path": "/name"}], headers={"Content-Type": "application/json-patch+json"}
    )
    assert (patched.status_code, patched.json()["issue"][0]["expression"]) == (422, ["Patient.name"])
    entry = {"resource": claiming, "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    refused = await client.post("/", json=bundle)
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.name"]


async def test_what_lies_in_a_resource_keeps_its_own_claims(city: City) -> None:
    client = city.system()
    await store(client, NAMED)
    claiming = patient(id="p", meta={"profile": [PROFILE]})
    holder = observation(contained=[claiming], subject={"reference": "#p"})
    refused = await client.post("/Observation", json=holder)
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (422, ["Observation.contained[0].name"])
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": holder}]}
    refused = await client.post("/Bundle", json=bundle)
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.contained[0].name"]
    claiming["name"] = [{"text": "a"}]
    assert (await client.post("/Observation", json=holder)).status_code == 201
    assert (await client.post("/Bundle", json=bundle)).status_code == 201


async def test_a_city_may_trust_claims(data_dir: Path, database_url: str) -> None:
    settings = Settings(data_dir=data_dir, port=0, profile_claims="trusted")
    async with running(settings, database_url) as city:
        await store(city.system(), NAMED, patient(meta={"profile": [PROFILE]}))


# ---- the operation


async def test_validate_of_a_stored_resource_by_get(city: City) -> None:
    client = city.system()
    (place,) = await store(client, patient())
    await store(client, NAMED)
    answer = await client.get(f"/{place}/$validate", params={"profile": PROFILE, "mode": "profile"})
    assert answer.status_code == 200
    assert places(answer.json()["issue"]) == [("error", "Patient.name")]
    assert (await client.get("/Patient/none/$validate")).status_code == 404
    assert (await client.get("/Patient/$validate")).status_code == 400
    assert (await client.get(f"/{place}/$validate", params={"mode": "profile"})).status_code == 400


async def test_modes_rehearse_and_store_nothing(city: City) -> None:
    client = city.system()
    (place,) = await store(client, patient())
    id = place.split("/")[1]
    assert await issues(client, patient(), mode="create") == []
    assert await issues(client, patient(id=id), f"/{id}", mode="update") == []
    assert places(await issues(client, patient(id="b"), f"/{id}", mode="update")) == [("error", "Patient.id")]
    assert places(await issues(client, patient(), f"/{id}", mode="update")) == [("error", "Patient.id")]
    for mode in ("update", "delete"):
        elsewhere = await client.post("/Patient/$validate", json=patient(id=id), params={"mode": mode})
        assert (elsewhere.status_code, elsewhere.json()["issue"][0]["expression"]) == (400, ["mode"])
    answer = await client.get(f"/{place}/$validate", params={"mode": "delete"})
    assert (answer.status_code, answer.json()["issue"][0]["severity"]) == (200, "information")
    assert (await client.get(f"/{place}")).headers["etag"] == 'W/"1"'
    assert (await client.get("/Patient?_total=accurate")).json()["total"] == 1


@pytest.mark.parametrize(("mode", "scope"), [("create", "ru"), ("update", "rc"), ("delete", "rcu")])
async def test_a_mode_tells_what_the_token_does_not_grant(city: City, mode: str, scope: str) -> None:
    (place,) = await store(city.system(), patient())
    id = place.split("/")[1]
    client = city.system(f"system/Patient.{''.join(c for c in 'cruds' if c in scope)}")
    answer = await client.post(f"/{place}/$validate", json=patient(id=id), params={"mode": mode})
    assert answer.status_code == 200
    assert [issue["code"] for issue in answer.json()["issue"]] == ["forbidden"]


async def test_parameters_carry_resource_mode_and_profile(city: City) -> None:
    client = city.system()
    await store(client, NAMED)
    parts = [
        {"name": "resource", "resource": patient()},
        {"name": "mode", "valueCode": "create"},
        {"name": "profile", "valueUri": PROFILE},
    ]
    answer = await client.post("/Patient/$validate", json={"resourceType": "Parameters", "parameter": parts})
    assert (answer.status_code, places(answer.json()["issue"])) == (200, [("error", "Patient.name")])
    parts.append({"name": "usageContext", "valueString": "a"})
    answer = await client.post("/Patient/$validate", json={"resourceType": "Parameters", "parameter": parts})
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["Parameters.parameter[3].name"]


async def test_profiles_that_name_one_another_too_far_are_refused(city: City) -> None:
    client = city.system()
    names = [f"p{n}" for n in range(40)]
    chain = [
        definition(name, "Patient", element("Patient.name", min=1), base=base)
        for name, base in zip(names, [*names[1:], None], strict=True)
    ]
    entries = [{"resource": stored(one), "request": {"method": "POST", "url": "StructureDefinition"}} for one in chain]
    taken = await client.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert taken.status_code == 200
    answer = await client.post("/Patient/$validate", json=patient(), params={"profile": HERE + "p0"})
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (413, "too-costly")
    answer = await client.post("/Patient/$validate", json=patient(), params={"profile": HERE + "p20"})
    assert (answer.status_code, places(answer.json()["issue"])) == (200, [("error", "Patient.name")])


async def test_a_target_profile_is_checked_in_a_contained_resource(city: City) -> None:
    client = city.system()
    await store(client, NAMED)
    await store(client, definition("o", "Observation", element("Observation.subject", type=reference_to("named"))))
    tree = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "a"},
        "subject": {"reference": "#p"},
        "contained": [{"resourceType": "Patient", "id": "p"}],
    }
    assert places(await issues(client, tree, profile=HERE + "o")) == [("error", "Observation.subject")]


async def test_a_check_that_was_made_before_costs_one_statement(city: City) -> None:
    client = city.system()
    await store(client, NAMED)
    right = patient(name=[{"text": "a"}], meta={"profile": [PROFILE]})
    await issues(client, right)
    with statements(city) as seen:
        await issues(client, right)
    assert len(seen()) == 1, seen()
    await store(client, right)  # the connection and the terms of sorted searches know its words from now on
    with statements(city) as seen:
        await store(client, right)
    assert len(seen()) == 4, "BEGIN, whether definitions changed, the write, COMMIT: " + str(seen())
