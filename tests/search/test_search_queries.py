"""Every kind of query against a real database, with answers worked out by hand."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from ehr.database.engine import Database
from ehr.errors import TooMuch
from ehr.search import probe
from ehr.search.page import search
from ehr.search.parse import parse
from ehr.search.plan import plan
from tests.search.store import EVERYTHING, Plain, Records

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
CCCD = "http://fhir.ehealth.gov.vn/core/sid/national_id"


def codeable(system: str, code: str) -> dict[str, object]:
    return {"coding": [{"system": system, "code": code}]}


def patient(id: str, family: str, given: list[str], **more: object) -> dict[str, object]:
    return {"resourceType": "Patient", "id": id, "name": [{"family": family, "given": given}], **more}


def observation(id: str, subject: str, code: str, **more: object) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": codeable(LOINC, code),
        "subject": {"reference": subject},
        **more,
    }


def quantity(value: float, code: str = "kg") -> dict[str, object]:
    return {"value": value, "unit": code, "system": UCUM, "code": code}


def pressure(high: float, low: float) -> list[dict[str, object]]:
    return [
        {"code": codeable(LOINC, "8480-6"), "valueQuantity": quantity(high, "mm[Hg]")},
        {"code": codeable(LOINC, "8462-4"), "valueQuantity": quantity(low, "mm[Hg]")},
    ]


SEE_P2 = {"other": {"reference": "Patient/p2"}, "type": "seealso"}

WORLD = (
    {
        "resourceType": "Organization",
        "id": "o1",
        "name": "Bệnh viện Bạch Mai",
        "partOf": {"reference": "Organization/o2"},
    },
    {"resourceType": "Organization", "id": "o2", "name": "Sở Y tế Hà Nội"},
    {"resourceType": "Practitioner", "id": "d1", "name": [{"family": "Đặng", "given": ["Thùy", "Trâm"]}]},
    patient(
        "p1",
        "Nguyễn",
        ["Văn", "An"],
        gender="male",
        active=True,
        birthDate="1980-02-29",
        identifier=[{"system": CCCD, "value": "001080000011"}],
        telecom=[{"system": "phone", "value": "091 234-5678"}, {"system": "email", "value": "An@Example.vn"}],
        managingOrganization={"reference": "Organization/o1"},
    ),
    patient(
        "p2",
        "Trần",
        ["Thị", "Bình"],
        gender="female",
        birthDate="1990",
        deceasedDateTime="2026-01-05",
        identifier=[{"value": "001080000011"}],
    ),
    patient("p3", "Nguyen-Smith", ["Åsa"], gender="female", birthDate="2001-07", link=[SEE_P2]),
    {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-03-01T08:00:00+07:00", "end": "2026-03-03T10:00:00+07:00"},
        "serviceProvider": {"reference": "Organization/o1"},
        "participant": [{"individual": {"reference": "Practitioner/d1"}}],
    },
    {
        "resourceType": "Encounter",
        "id": "e2",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/p2"},
        "period": {"start": "2026-05-01T08:00:00+07:00"},
    },
    observation(
        "w1",
        "Patient/p1",
        "29463-7",
        effectiveDateTime="2026-03-01T09:30:00+07:00",
        valueQuantity=quantity(61.5),
        encounter={"reference": "Encounter/e1"},
        performer=[{"reference": "Practitioner/d1"}, {"identifier": {"system": "urn:x", "value": "77"}}],
    ),
    observation("w2", "Patient/p2", "29463-7", effectiveDateTime="2026-04", valueQuantity=quantity(48)),
    observation(
        "w3", "Patient/p1", "29463-7", valueQuantity={"value": 62, "unit": "kilogram", "system": UCUM, "code": "kg"}
    ),
    observation("b1", "Patient/p1", "85354-9", effectiveDateTime="2026-03-02", component=pressure(150, 85)),
    observation("b2", "Patient/p2", "85354-9", effectiveDateTime="2026-05-02", component=pressure(110, 125)),
    observation("g1", "Group/x", "1-8", status="preliminary", valueCodeableConcept=codeable("urn:v", "POS")),
    {
        "resourceType": "RiskAssessment",
        "id": "r1",
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "prediction": [{"probabilityDecimal": 0.25}],
    },
    {
        "resourceType": "ValueSet",
        "id": "v1",
        "status": "active",
        "url": "http://x.vn/fhir/ValueSet/a/b",
        "meta": {"profile": ["http://x.vn/profile|1.0"], "tag": [{"system": "urn:t", "code": "T"}], "source": "urn:s"},
    },
    {
        "resourceType": "DocumentReference",
        "id": "n1",
        "status": "current",
        "content": [{"attachment": {"contentType": "text/plain", "creation": "2026-01-01"}}],
        "date": "2026-02-01T00:00:00Z",
        "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/n0"}}],
    },
)


@pytest.fixture
async def records(module_database_url: str) -> AsyncIterator[Records]:
    opened = await Database.open(module_database_url, connections_max=4)
    made = Records(opened)
    async with opened.acquire() as connection:
        empty = await connection.fetchval("select not exists (select 1 from resource)")
    if empty:
        await made.put(*WORLD)
        await made.put(
            {"resourceType": "Basic", "id": "old", "code": {"text": "x"}}, updated=datetime(2020, 6, 1, tzinfo=UTC)
        )
    yield made
    await opened.close()


QUERIES: tuple[tuple[str, str, str, str], ...] = (
    # type, parameter, value, ids in the order they were written
    ("Patient", "_id", "p2,p1,none", "p1 p2"),
    ("Patient", "identifier", "001080000011", "p1 p2"),
    ("Patient", "identifier", f"{CCCD}|001080000011", "p1"),
    ("Patient", "identifier", "|001080000011", "p2"),
    ("Patient", "identifier", f"{CCCD}|", "p1"),
    ("Patient", "identifier:not", f"{CCCD}|001080000011", "p2 p3"),
    ("Patient", "identifier:missing", "true", "p3"),
    ("Patient", "identifier:missing", "false", "p1 p2"),
    ("Patient", "name", "nguyen", "p1 p3"),
    ("Patient", "name", "NGUYỄN VĂN AN", "p1"),
    ("Patient", "name", "văn an nguyễn", "p1"),
    ("Patient", "given", "asa", "p3"),
    ("Patient", "family:exact", "Nguyễn", "p1"),
    ("Patient", "family:exact", "nguyễn", ""),
    ("Patient", "family:contains", "smith", "p3"),
    ("Patient", "family:contains", "%", ""),
    ("Patient", "gender", "female", "p2 p3"),
    ("Patient", "gender", "http://hl7.org/fhir/administrative-gender|female", "p2 p3"),
    ("Patient", "gender", "urn:other|female", ""),
    ("Patient", "gender:not", "female", "p1"),
    ("Patient", "active", "true", "p1"),
    ("Patient", "deceased", "true", "p2"),
    ("Patient", "deceased", "false", "p1 p3"),
    ("Patient", "death-date", "2026-01", "p2"),
    ("Patient", "phone", "0912345678", "p1"),
    ("Patient", "email", "an@example.vn", "p1"),
    ("Patient", "phone", "an@example.vn", ""),
    ("Patient", "birthdate", "1980-02-29", "p1"),
    ("Patient", "birthdate", "1980", "p1"),
    ("Patient", "birthdate", "ne1980", "p2 p3"),
    ("Patient", "birthdate", "lt1990-06-01", "p1 p2"),
    ("Patient", "birthdate", "gt1990-06-01", "p2 p3"),
    ("Patient", "birthdate", "sa1990-06-01", "p3"),
    ("Patient", "birthdate", "eb1990-06-01", "p1"),
    ("Patient", "birthdate", "ge1990", "p2 p3"),
    ("Patient", "birthdate", "le1990", "p1 p2"),
    ("Patient", "organization", "o1", "p1"),
    ("Patient", "organization.name", "benh vien", "p1"),
    ("Patient", "organization.partof.name", "Sở Y tế", "p1"),
    ("Patient", "_has:Observation:patient:code", "29463-7", "p1 p2"),
    ("Patient", "_has:Observation:subject:combo-code-value-quantity", "8480-6$gt140", "p1"),
    ("Patient", "_has:Encounter:patient:_has:Observation:encounter:code", "29463-7", "p1"),
    ("Organization", "_has:Patient:organization:gender", "male", "o1"),
    ("Organization", "_has:Organization:partof:name", "Bệnh", "o2"),
    ("Practitioner", "_has:Observation:performer:patient", "Patient/p1", "d1"),
    ("Encounter", "class", "AMB", "e1"),
    ("Encounter", "date", "2026-03", "e1"),
    ("Encounter", "date", "2026-03-02", ""),
    ("Encounter", "date", "ge2026-03-02", "e1 e2"),
    ("Encounter", "date", "gt2030", "e2"),
    ("Encounter", "date", "le2026-03-31", "e1"),
    ("Encounter", "patient", "p1", "e1"),
    ("Encounter", "practitioner", "d1", "e1"),
    ("Encounter", "patient:Patient.name", "tran", "e2"),
    ("Observation", "code", f"{LOINC}|29463-7", "w2 w1 w3"),  # the newest first
    ("Observation", "code", "29463-7,1-8", "w1 w2 w3 g1"),
    ("Observation", "patient", "Patient/p1", "w1 w3 b1"),
    ("Observation", "subject", "Patient/p1,Group/x", "w1 w3 b1 g1"),
    ("Observation", "subject", "p1", "w1 w3 b1"),
    ("Observation", "subject:Group", "x", "g1"),
    ("Observation", "patient", "Group/x", ""),
    ("Observation", "patient:missing", "true", "g1"),
    ("Observation", "patient.identifier", f"{CCCD}|001080000011", "w1 w3 b1"),
    ("Observation", "subject.name", "tran", "w2 b2"),
    ("Observation", "encounter.class", "AMB", "w1"),
    ("Observation", "encounter.patient.name", "an", "w1"),
    ("Observation", "performer:identifier", "urn:x|77", "w1"),
    ("Observation", "performer:identifier", "77", "w1"),
    ("Observation", "performer:identifier", "|77", ""),
    ("Observation", "date", "2026-03-01", "w1"),
    ("Observation", "date", "2026-03-01T09:30", "w1"),
    ("Observation", "date", "2026-04", "w2"),
    ("Observation", "date", "2026-04-10", ""),
    ("Observation", "date", "sa2026-03", "w2 b2"),
    ("Observation", "date:missing", "true", "w3 g1"),
    ("Observation", "value-quantity", "61.5", "w1"),
    ("Observation", "value-quantity", "62", "w1 w3"),  # 62 means 61.5 to 62.5
    ("Observation", "value-quantity", "62.0", "w3"),
    ("Observation", "value-quantity", f"gt50|{UCUM}|kg", "w1 w3"),
    ("Observation", "value-quantity", "lt60||kg", "w2"),
    ("Observation", "value-quantity", "ge62||kilogram", "w3"),
    ("Observation", "value-quantity", "gt50||g", ""),
    ("Observation", "value-quantity", "ap60", "w1 w3"),
    ("Observation", "value-quantity", "ne48", "w1 w3"),
    ("Observation", "value-concept", "urn:v|POS", "g1"),
    ("Observation", "code-value-quantity", f"{LOINC}|29463-7$gt61", "w1 w3"),
    ("Observation", "code-value-concept", "1-8$POS", "g1"),
    ("Observation", "component-code-value-quantity", f"{LOINC}|8480-6$gt120", "b1"),
    ("Observation", "component-code-value-quantity", f"8462-4$gt120|{UCUM}|mm[Hg]", "b2"),
    ("Observation", "component-code-value-quantity", "8480-6$gt120|urn:no|mm[Hg]", ""),
    ("Observation", "component-code-value-quantity", "8480-6$lt120||mm[Hg]", "b2"),
    ("Observation", "combo-code", "8480-6", "b1 b2"),
    ("Observation", "combo-value-quantity", "gt120", "b1 b2"),
    ("RiskAssessment", "probability", "gt0.2", "r1"),
    ("RiskAssessment", "probability", "0.3", "r1"),
    ("RiskAssessment", "probability", "0.30", ""),
    ("ValueSet", "url", "http://x.vn/fhir/ValueSet/a/b", "v1"),
    ("ValueSet", "url:below", "http://x.vn/fhir", "v1"),
    ("ValueSet", "url:below", "http://x.vn/fh", ""),
    ("ValueSet", "url:above", "http://x.vn/fhir/ValueSet/a/b/c", "v1"),
    ("ValueSet", "_profile", "http://x.vn/profile", "v1"),
    ("ValueSet", "_profile", "http://x.vn/profile|1.0", "v1"),
    ("ValueSet", "_profile:below", "http://x.vn", "v1"),
    ("ValueSet", "_profile:below", "http://x.vn/profile", "v1"),
    ("ValueSet", "_profile:below", "http://x.vn/prof", ""),
    ("ValueSet", "_profile:above", "http://x.vn/profile/deeper", "v1"),
    ("ValueSet", "_tag", "urn:t|T", "v1"),
    ("ValueSet", "_source", "urn:s", "v1"),
    ("DocumentReference", "relationship", "DocumentReference/n0$replaces", "n1"),
    ("DocumentReference", "relationship", "DocumentReference/n0$signs", ""),
    ("DocumentReference", "relatesto", "n0", "n1"),
    ("Basic", "_lastUpdated", "lt2021", "old"),
    ("Basic", "_lastUpdated", "2020-06-01", "old"),
    ("Basic", "_lastUpdated", "gt2021", ""),
)


@pytest.mark.parametrize(("type_name", "name", "value", "expected"), QUERIES)
async def test_a_query_finds_exactly(records: Records, type_name: str, name: str, value: str, expected: str) -> None:
    assert await records.ids(type_name, (name, value)) == expected.split()


@pytest.mark.parametrize(
    ("type_name", "name", "value", "expected"), [query for query in QUERIES if "." in query[1] or "_has" in query[1]]
)
async def test_chains_find_the_same_when_many_stand_behind_them(
    records: Records, monkeypatch: pytest.MonkeyPatch, type_name: str, name: str, value: str, expected: str
) -> None:
    monkeypatch.setattr(probe, "NARROW_MAX", 0)
    assert await records.ids(type_name, (name, value)) == expected.split()
    monkeypatch.setattr(probe, "BROAD_MAX", 0)
    assert await records.ids(type_name, (name, value)) == expected.split()


@pytest.mark.parametrize(
    ("type_name", "name", "value", "expected"), [one for one in QUERIES if "." in one[1] or "_has" in one[1]]
)
async def test_what_very_many_stand_behind_is_counted(
    records: Records, monkeypatch: pytest.MonkeyPatch, type_name: str, name: str, value: str, expected: str
) -> None:
    """All at once, and with others beside it; inside a negation row by row."""
    monkeypatch.setattr(probe, "NARROW_MAX", 0)
    monkeypatch.setattr(probe, "BROAD_MAX", 0)
    counted = [("_total", "accurate"), ("_count", "0")]
    assert (await records.page(type_name, [(name, value), *counted])).total == len(expected.split())
    assert (await records.page(type_name, [(name, value), (name, value), *counted])).total == len(expected.split())
    assert (await records.page(type_name, [(name, value), ("_total", "estimate")])).total == len(expected.split())


async def test_what_cannot_be_counted_in_time_is_refused_by_name(records: Records) -> None:
    planned = plan(parse("Observation", [("_total", "accurate"), ("code:not", "x")]), EVERYTHING)
    installation = records.database.installation
    async with (
        records.database.acquire() as other,
        other.transaction(),
        records.database.acquire() as connection,
        connection.transaction(),
    ):
        await other.execute("lock table resource in access exclusive mode")
        await connection.execute("set local statement_timeout = 200")
        with pytest.raises(TooMuch, match="_total=estimate") as refused:
            await search(connection, planned, installation=installation, bodies=Plain())
    assert refused.value.issues[0].at == "_total"


async def test_conditions_are_an_and(records: Records) -> None:
    assert await records.ids("Observation", ("patient", "p1"), ("code", "29463-7"), ("date", "2026-03")) == ["w1"]
    assert await records.ids("Patient", ("name", "nguyen"), ("name", "van an")) == ["p1"]


async def test_several_types_are_searched_by_what_they_share(records: Records) -> None:
    assert await records.ids(None, ("_type", "ValueSet,Patient"), ("_id", "v1,p1,w1")) == ["p1", "v1"]
    assert await records.ids(None, ("_tag", "T")) == ["v1"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("birthdate", "p1 p2 p3"),
        ("-birthdate", "p3 p2 p1"),
        ("family", "p1 p3 p2"),
        ("-family,_id", "p2 p3 p1"),
        ("-_id", "p3 p2 p1"),
        ("death-date,-birthdate", "p2 p3 p1"),
    ],
)
async def test_sorting(records: Records, sort: str, expected: str) -> None:
    assert await records.ids("Patient", ("_sort", sort)) == expected.split()


@pytest.mark.parametrize(
    ("compartment", "type_name", "expected"),
    [
        (("Patient", "p1"), "Observation", "w1 w3 b1"),
        (("Patient", "p1"), "Patient", "p1"),
        (("Patient", "p2"), "Patient", "p2 p3"),
        (("Encounter", "e1"), "Observation", "w1"),
        (("Practitioner", "d1"), "Encounter", "e1"),
        (("Patient", "p1"), None, "p1 e1 w1 w3 b1 r1"),
    ],
)
async def test_compartments(
    records: Records, compartment: tuple[str, str], type_name: str | None, expected: str
) -> None:
    assert await records.ids(type_name, compartment=compartment) == expected.split()


async def test_includes(records: Records) -> None:
    page = await records.page(
        "Observation", [("_id", "w1"), ("_include", "Observation:encounter"), ("_include", "Observation:performer")]
    )
    assert [one.reference for one in page.included] == ["Encounter/e1", "Practitioner/d1"]
    page = await records.page(
        "Observation",
        [
            ("_id", "w1"),
            ("_include", "Observation:patient"),
            ("_include:iterate", "Patient:organization"),
            ("_include:iterate", "Organization:partof"),
        ],
    )
    assert [one.reference for one in page.included] == ["Patient/p1", "Organization/o1", "Organization/o2"]
    page = await records.page("Patient", [("_id", "p1"), ("_revinclude", "Observation:patient")])
    assert sorted(one.id for one in page.included) == ["b1", "w1", "w3"]
    page = await records.page("Encounter", [("_id", "e1"), ("_revinclude", "*"), ("_include", "*")])
    assert sorted(one.id for one in page.included) == ["d1", "o1", "p1", "w1"]


async def test_totals(records: Records) -> None:
    for mode in ("accurate", "estimate"):
        page = await records.page("Observation", [("_total", mode), ("_count", "2")])
        assert (page.total, len(page.matches)) == (6, 2)
    page = await records.page("Observation", [("_summary", "count"), ("code", "29463-7")])
    assert (page.total, page.matches) == (3, [])
    assert (await records.page("Observation", [])).total is None
