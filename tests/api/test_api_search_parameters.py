"""Search parameters added at run time: refused, made ready, served, changed and retired."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ehr import limits
from ehr.access.policy import Caller
from ehr.bulk import files
from ehr.bulk.ingest import ingest
from ehr.database.engine import Database
from ehr.errors import NotSupported
from ehr.fhir.parameters import R4
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import new_id
from ehr.index.extract import Extractor
from ehr.interactions.search import search
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.api.conftest import City
from tests.api.declared import finish, found, listed, parameter, patient, put
from tests.api.exporting import exported, references

PATIENT = TYPE_IDS["Patient"]


async def test_it_is_served_when_every_resource_is_indexed_and_not_before(
    city: City, client: httpx.AsyncClient, hands: Record
) -> None:
    for number, group in enumerate(["O-", "AB+", "A+", "A+"]):
        await put(client, patient(number, group))
    await put(client, parameter())
    early = await client.get("/Patient?blood-group=A")
    assert early.status_code == 400
    assert "is being made ready" in early.json()["issue"][0]["diagnostics"]
    assert early.json()["issue"][0]["expression"] == ["blood-group"]
    assert (await client.get("/Patient?_sort=blood-group")).status_code == 400
    assert "blood-group" not in await listed(client)
    await finish(hands)
    assert sorted(await found(client, "blood-group=a")) == ["p1", "p2", "p3"]
    assert await found(client, "blood-group:exact=A%2B&_count=1") == ["p2", "p3"]
    assert await found(client, "_sort=-blood-group") == ["p0", "p1", "p3", "p2"]
    assert (await listed(client))["blood-group"] == {
        "name": "blood-group",
        "definition": "http://example.org/fhir/SearchParameter/blood-group",
        "type": "string",
    }
    await put(client, patient(9, "A-"))
    assert sorted(await found(client, "blood-group=a")) == ["p1", "p2", "p3", "p9"]


async def test_it_filters_exports(city: City, client: httpx.AsyncClient, hands: Record) -> None:
    for number, group in enumerate(["O-", "A+"]):
        await put(client, patient(number, group))
    await put(client, parameter())
    await finish(hands)
    assert references(await exported(city, client, "/$export?_type=Patient&_typeFilter=Patient%3Fblood-group%3Da")) == {
        "Patient/p1"
    }


OF_OBSERVATION = {"base": ["Observation"]}
EVERY_KIND = (
    parameter("marital", type="token", expression="Patient.maritalStatus"),
    parameter("with", type="reference", expression="Observation.device", target=["Device"], **OF_OBSERVATION),
    parameter("told", type="date", expression="Observation.issued", **OF_OBSERVATION),
    parameter("low", type="number", expression="Observation.referenceRange.low.value", **OF_OBSERVATION),
    parameter("high", type="quantity", expression="Observation.referenceRange.high", **OF_OBSERVATION),
    parameter("said", type="uri", expression="Resource.meta.profile", base=["Resource"]),
    parameter("points", type="number", expression="Observation.component.value.ofType(integer)", **OF_OBSERVATION),
    parameter(
        "code-and-status",
        type="composite",
        expression="Observation",
        component=[
            {"definition": "http://hl7.org/fhir/SearchParameter/clinical-code", "expression": "code"},
            {"definition": "http://hl7.org/fhir/SearchParameter/Observation-status", "expression": "status"},
        ],
        **OF_OBSERVATION,
    ),
)


async def test_every_kind_is_indexed_chained_included_and_counted(
    city: City, client: httpx.AsyncClient, hands: Record
) -> None:
    plain = {"status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "1-1"}]}}
    await put(client, {"resourceType": "Device", "id": "d"})
    await put(client, patient(1, maritalStatus={"coding": [{"system": "urn:m", "code": "M"}]}))
    await put(
        client,
        {
            "resourceType": "Observation",
            "id": "o",
            **plain,
            "subject": {"reference": "Patient/p1"},
            "device": {"reference": "Device/d"},
            "issued": "2026-11-02T08:00:00Z",
            "referenceRange": [{"low": {"value": 3.5}, "high": {"value": 9, "unit": "mmol/L"}}],
            "component": [{"code": plain["code"], "valueInteger": 7}],
        },
    )
    for one in EVERY_KIND:
        await put(client, one)
    await finish(hands)
    for query in (
        "marital=urn:m|M",
        "marital:missing=false",
        "_has:Observation:subject:with=Device/d",
    ):
        assert await found(client, query) == ["p1"], query
    for query in (
        "with=Device/d",
        "with:Device=d",
        "told=2026-11",
        "low=gt3",
        "high=9||mmol/L",
        "points=7",
        "code-and-status=http://loinc.org|1-1$final",
        "patient.marital=M",
        "_sort=-told",
    ):
        assert await found(client, query, "Observation") == ["o"], query
    assert await found(client, "said:missing=true", "Device") == ["d"]
    assert await found(client, "_has:Observation:with:code=1-1", "Device") == ["d"]
    page = (await client.get("/Observation?_include=Observation:with")).json()
    assert [entry["search"]["mode"] for entry in page["entry"]] == ["match", "include"]
    none = (await client.get("/Observation?code-and-status=1-1$amended&_total=accurate")).json()
    assert none["total"] == 0


MARK = "http://example.org/mark"
ANY_VALUE = {
    "valueCode": ("A-b", ["A-b"]),
    "valueString": ("Nhóm A.1", ["Nhóm A.1"]),
    "valueUri": ("urn:A-b", ["urn:A-b"]),
    "valueId": ("C-3", ["C-3"]),
    "valueBoolean": (True, ["true"]),
    "valueCoding": ({"system": "urn:s", "code": "D-4"}, ["D-4", "urn:s|D-4"]),
    "valueCodeableConcept": ({"coding": [{"system": "urn:s", "code": "E-5"}]}, ["E-5", "urn:s|E-5", "urn:s|E-5,x"]),
    "valueIdentifier": ({"system": "urn:i", "value": "F-6"}, ["F-6", "urn:i|F-6"]),
    "valueContactPoint": ({"system": "phone", "value": "024 1234-56"}, ["024 1234-56", "024123456"]),
}


async def test_the_value_of_an_extension_is_found_whatever_its_type(client: httpx.AsyncClient, hands: Record) -> None:
    for number, (name, (value, _)) in enumerate(ANY_VALUE.items()):
        await put(client, patient(number, extension=[{"url": MARK, name: value}]))
    await put(client, parameter("mark", type="token", expression=f"Patient.extension('{MARK}').value"))
    await finish(hands)
    for number, (_, queries) in enumerate(ANY_VALUE.values()):
        for query in queries:
            assert await found(client, f"mark={query}") == [f"p{number}"], query
    assert await found(client, "mark:not=A-b") == [f"p{number}" for number in range(1, len(ANY_VALUE))]


REFUSED = [
    ({"expression": "Patient.name.given.count()"}, "SearchParameter.expression"),
    ({"expression": "Patient.photo"}, "SearchParameter.expression"),
    ({"expression": "Observation.code"}, "SearchParameter.expression"),
    ({"type": "special"}, "SearchParameter.type"),
    ({"xpathUsage": "phonetic"}, "SearchParameter.xpathUsage"),
    ({"code": "a.b"}, "SearchParameter.code"),
    ({"code": "family", "expression": "Patient.contact.name.family"}, "SearchParameter.code"),
    (
        {"type": "composite", "component": [{"definition": "http://example.org/x", "expression": "code"}] * 2}
        | {"expression": "Patient"},
        "SearchParameter.component[0].definition",
    ),
]


@pytest.mark.parametrize(("changed", "at"), REFUSED)
async def test_what_cannot_be_served_is_refused_at_the_write(
    client: httpx.AsyncClient, changed: dict[str, Any], at: str
) -> None:
    answer = await client.post("/SearchParameter", json=parameter(**changed))
    assert answer.status_code == 422, answer.text
    assert at in [one for issue in answer.json()["issue"] for one in issue["expression"]], answer.text
    draft = await client.post("/SearchParameter", json=parameter(**changed) | {"status": "draft"})
    assert draft.status_code == 201, draft.text


async def test_one_code_has_one_meaning_and_their_number_is_bounded(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, parameter())
    twice = await client.post("/SearchParameter", json=parameter(id="again", expression="Patient.name.text"))
    assert twice.status_code == 422
    assert "SearchParameter/blood-group" in twice.json()["issue"][0]["diagnostics"]
    own = await client.post("/SearchParameter", json=parameter("gender", type="token", expression="Patient.gender"))
    assert own.status_code == 201  # says what R4 says: nothing is added
    monkeypatch.setattr(limits, "search_parameters_added_max", 1)
    assert (await client.post("/SearchParameter", json=parameter("other"))).status_code == 413


async def test_a_changed_one_answers_anew_and_a_retired_one_not_at_all(
    city: City, client: httpx.AsyncClient, hands: Record, database: Database
) -> None:
    await put(client, patient(1, "A+"))
    await put(client, parameter())
    await finish(hands)
    assert await found(client, "blood-group=A") == ["p1"]
    await hands.learn_parameters()
    await put(client, parameter(expression="Patient.communication.language.text"))
    with pytest.raises(NotSupported, match="no longer served"):  # asked of a process that has not heard of it
        await search(hands, Caller.system("test"), "Patient", [("blood-group", "A")])
    await put(client, patient(2, "A+", communication=[{"language": {"text": "Tiếng Việt"}}]))
    await finish(hands)
    assert await found(client, "blood-group=tieng") == ["p2"]
    assert await found(client, "blood-group=A") == []
    await put(client, parameter(status="retired"))
    await gone(client, hands, database)
    await put(client, parameter())
    await finish(hands)
    assert sorted(await found(client, "blood-group=A")) == ["p1", "p2"]
    assert (await client.delete("/SearchParameter/blood-group")).status_code == 204
    await gone(client, hands, database)


async def gone(client: httpx.AsyncClient, hands: Record, database: Database) -> None:
    """It is refused at once, and in the background nothing is left of it."""
    assert (await client.get("/Patient?blood-group=A")).status_code == 400
    assert "blood-group" not in await listed(client)
    await finish(hands)
    async with database.acquire() as connection:
        left = await connection.fetchval("select count(*) from string_index where param_id >= 1000000")
        tokens = await connection.fetchval("select tokens from resource where type_id = $1 and id = 'p1'", PATIENT)
        states = await connection.fetch("select distinct state from search_parameter")
    assert (left, [row["state"] for row in states]) == (0, ["retired"])
    assert set(tokens) == set(Extractor(hands.hasher, R4).extract(patient(1), "Patient", "p1").tokens)


async def test_an_import_follows_what_is_declared(
    city: City, client: httpx.AsyncClient, hands: Record, settings: Settings, database_url: str, data_dir: Path
) -> None:
    stranger = await open_record(settings, database_url)
    await put(client, parameter())
    lines = [
        patient(1),
        parameter("bad", expression="Patient.name.given.count()"),
        parameter("other"),
        patient(2, "B+"),
    ]
    path = data_dir / "lines.ndjson"
    await asyncio.to_thread(path.write_bytes, b"".join(orjson.dumps(line) + b"\n" for line in lines))
    (part,) = files.parts(path.name, path)
    done = await ingest(stranger, part, job_id=new_id())
    assert (done.tally.stored, [one.line for one in done.refused]) == (3, [2])
    assert done.refused[0].issues[0].at == "SearchParameter.expression"
    await stranger.close()
    await finish(hands)
    assert await found(client, "blood-group=A&other=A") == ["p1"]
    assert await found(client, "blood-group=B") == ["p2"]
