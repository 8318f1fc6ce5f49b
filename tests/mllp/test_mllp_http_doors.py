"""The pipeline's HTTP doors: pushed Bundles and claim files, ledger first, the same answer to a repeat."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from adapters import claim_xml
from adapters.facilities import claim_xml as sender
from adapters.facilities.arrivals import arrivals
from adapters.facilities.episode import Episode
from adapters.facilities.episodes import episode
from adapters.facilities.population import Population
from adapters.facilities.registry import FACILITIES
from adapters.pipeline import Pipeline
from ehr.access import scopes
from ehr.access.policy import Caller
from ehr.errors import Forbidden
from ehr.fhir import codec
from ehr.intake import Intake, Source
from ehr.store.record import Record
from terminology.claim_tables import SUMS
from tests.mllp.conftest import FACILITY, register
from tests.mllp.mothers import ledger, search
from tests.unit.test_adapters_claim_xml import envelope, rows_of

LOINC = "http://loinc.org"


def pushed(value: str = "13.50", *, identifier: str | None = "B1") -> bytes:
    """A Bundle as text, so that its digits are its own."""
    named = f'"identifier":{{"system":"urn:x","value":"{identifier}"}},' if identifier else ""
    return f"""{{"resourceType":"Bundle",{named}"type":"transaction","entry":[
    {{"fullUrl":"urn:uuid:0b0a3a52-3c5f-4a37-a2c4-000000000001","resource":{{"resourceType":"Patient",
      "identifier":[{{"system":"http://fhir.ehealth.gov.vn/core/sid/patient-internal-id","value":"7"}}],
      "name":[{{"text":"Đỗ Thị Hường"}}]}},
      "request":{{"method":"PUT","url":"Patient?identifier=http://fhir.ehealth.gov.vn/core/sid/patient-internal-id|7"}}}},
    {{"fullUrl":"urn:uuid:0b0a3a52-3c5f-4a37-a2c4-000000000002","resource":{{"resourceType":"Observation","status":"final",
      "code":{{"coding":[{{"system":"{LOINC}","code":"718-7"}}]}},
      "subject":{{"reference":"urn:uuid:0b0a3a52-3c5f-4a37-a2c4-000000000001"}},
      "valueQuantity":{{"value":{value}}}}},"request":{{"method":"POST","url":"Observation"}}}}]}}""".encode()


@pytest.fixture
async def facility(record: Record, pipeline: Pipeline) -> Caller:
    async with record.database.acquire() as connection:
        facility_id = await connection.fetchval("SELECT id FROM facility WHERE code = $1", FACILITY)
    return Caller.of_facility(facility_id, FACILITY)


async def test_a_pushed_bundle_is_applied_once(record: Record, pipeline: Pipeline, facility: Caller) -> None:
    answers = {await pipeline.receive_bundle(pushed(), facility, {}) for _ in range(5)}
    assert len(answers) == 1
    ((status, body),) = answers
    assert status == 200
    assert codec.loads(body)["type"] == "transaction-response"
    (observation,) = await search(record, "Observation", code=f"{LOINC}|718-7")
    assert b'"value":13.50' in codec.dumps(observation)
    assert await ledger(record) == [("applied", "B1", facility.facility_id)]


@pytest.mark.parametrize(
    ("scope", "refused"),
    [
        ("system/*.rs", "c"),
        ("system/Patient.cruds", "Observation"),
        ("system/Patient.cruds system/Observation.rs", "Observation"),
    ],
)
async def test_a_token_writes_what_its_scopes_grant_and_nothing_else(
    record: Record, pipeline: Pipeline, facility: Caller, scope: str, refused: str
) -> None:
    confined = replace(facility, grants=scopes.grants(scopes.parse(scope), "system"))
    with pytest.raises(Forbidden, match=refused):
        await pipeline.receive_bundle(pushed(), confined, {})
    with pytest.raises(Forbidden, match="does not grant"):
        await pipeline.receive_claim_xml(b"<GIAMDINHHS/>", confined)
    assert await ledger(record) == []
    enough = scopes.grants(scopes.parse("system/Patient.cu system/Observation.c"), "system")
    status, _ = await pipeline.receive_bundle(pushed(), replace(facility, grants=enough), {})
    assert status == 200


async def test_the_control_id_is_the_identifier_the_key_or_the_digest(
    record: Record, pipeline: Pipeline, facility: Caller
) -> None:
    await pipeline.receive_bundle(pushed(), facility, {"Idempotency-Key": "K1"})
    await pipeline.receive_bundle(pushed(identifier=None), facility, {"idempotency-key": "K1"})
    await pipeline.receive_bundle(pushed("1.0", identifier=None), facility, {})
    ids = [control_id for _, control_id, _ in await ledger(record)]
    assert ids[:2] == ["B1", "K1"]
    assert ids[2].startswith("sha256:")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "structure"),
        (b"[]", 400, "structure"),
        (b'{"resourceType":"Patient"}', 400, "structure"),
        (b'{"resourceType":"Bundle","type":"batch"}', 400, "not-supported"),
        (pushed().replace(b'"final"', b'"finale"'), 400, "code-invalid"),
        (pushed().replace(b'"status":"final",', b""), 400, "required"),
    ],
)
async def test_wrong_bundles_are_refused_and_kept(
    record: Record, pipeline: Pipeline, facility: Caller, body: bytes, status: int, code: str
) -> None:
    first = await pipeline.receive_bundle(body, facility, {})
    assert first[0] == status
    outcome = codec.loads(first[1])
    assert outcome["resourceType"] == "OperationOutcome"
    assert code in [issue["code"] for issue in outcome["issue"]]
    assert await pipeline.receive_bundle(body, facility, {}) == first
    assert [state for state, _, _ in await ledger(record)] == ["refused"]
    assert await search(record, "Patient", identifier="7") == []


@pytest.fixture(scope="module")
def story() -> Episode:
    population = Population(1, 6000)
    sending = next(one for one in FACILITIES if one.feed == "claim_xml")
    for hour in range(7, 17):
        for arrival in arrivals(1, sending, date(2026, 11, 23), hour):
            found = episode(1, population, arrival)
            if found.citizen.card and len(found.medicines) > 1 and found.orders:
                return found
    raise AssertionError("a day has such a visit")


@pytest.fixture
async def claimant(record: Record, pipeline: Pipeline, story: Episode) -> Caller:
    return Caller.of_facility(await register(record, story.facility.code), story.facility.code)


def keep_medicines(rows: dict[str, list[dict[str, str]]], count: int) -> None:
    """Only so many rows of XML2, and the totals without the others."""
    for row in rows["XML2"][count:]:
        for total, part in SUMS.items():
            rows["XML1"][0][total] = str(Decimal(rows["XML1"][0][total]) - Decimal(row[part]))
    del rows["XML2"][count:]


async def charges(record: Record) -> list[dict[str, Any]]:
    return await search(record, "ChargeItem", _lastUpdated="gt2000-01-01")


async def test_a_claim_file_is_applied_once(
    record: Record, pipeline: Pipeline, claimant: Caller, story: Episode
) -> None:
    answers = {await pipeline.receive_claim_xml(sender.envelope(story), claimant) for _ in range(3)}
    assert len(answers) == 1
    assert answers.pop()[0] == 200
    (visit,) = await search(record, "Encounter", identifier=f"http://fhir.hl7.org.vn/core/sid/ma-lk|{story.link}")
    assert visit["meta"]["versionId"] == "1"
    assert len(await charges(record)) == len(story.medicines) + len(story.services)


async def test_a_later_file_replaces_the_rows_of_the_earlier(
    record: Record, pipeline: Pipeline, claimant: Caller, story: Episode
) -> None:
    rows = rows_of(story)
    await pipeline.receive_claim_xml(envelope(rows, story.facility.code), claimant)
    before = len(await charges(record))
    keep_medicines(rows, 1)
    status, body = await pipeline.receive_claim_xml(envelope(rows, story.facility.code), claimant)
    assert status == 200, body
    assert len(await charges(record)) == before - len(story.medicines) + 1
    assert len(await search(record, "MedicationRequest", status="completed")) == 1


async def test_a_file_that_is_gone_back_to_stands_again(
    record: Record, pipeline: Pipeline, claimant: Caller, story: Episode
) -> None:
    """The same bytes once more are a repeat only while no other file of the episode came between."""
    rows = rows_of(story)
    first = envelope(rows, story.facility.code)
    keep_medicines(rows, 1)
    second = envelope(rows, story.facility.code)
    bills = []
    for body in (first, second, second, first, first, second, first):
        assert (await pipeline.receive_claim_xml(body, claimant))[0] == 200
        bills.append(len(await charges(record)))
    one, other = bills[:2]
    assert other < one
    assert bills == [one, other, other, one, one, other, one]
    assert len(await ledger(record)) == 5


async def test_a_file_that_waited_is_not_laid_over_a_later_one(
    record: Record, pipeline: Pipeline, claimant: Caller, story: Episode
) -> None:
    rows = rows_of(story)
    first = envelope(rows, story.facility.code)
    source = Source(claimant.facility_id, claimant.id, "claim_xml", "GIAMDINHHS", claim_xml.control_id(first))
    await Intake(record).keep(first, source)
    keep_medicines(rows, 1)
    assert (await pipeline.receive_claim_xml(envelope(rows, story.facility.code), claimant))[0] == 200
    bill = len(await charges(record))
    assert await pipeline.recover(older_than_s=0) == 1
    assert len(await charges(record)) == bill
    assert [state for state, _, _ in await ledger(record)] == ["refused", "applied"]
    assert (await pipeline.receive_claim_xml(first, claimant))[0] == 409


async def test_a_wrong_claim_file_is_refused_with_its_row(
    record: Record, pipeline: Pipeline, claimant: Caller, story: Episode
) -> None:
    rows = rows_of(story)
    rows["XML2"][0]["SO_LUONG"] = "hai"
    status, body = await pipeline.receive_claim_xml(envelope(rows, story.facility.code), claimant)
    assert status == 422
    places = [place for issue in codec.loads(body)["issue"] for place in issue["expression"]]
    assert places == ["HOSO[1].XML2[1].SO_LUONG"]
    status, _ = await pipeline.receive_claim_xml(b"<!DOCTYPE x []><GIAMDINHHS/>", claimant)
    assert status == 400
    assert [state for state, _, _ in await ledger(record)] == ["refused", "refused"]
    assert await charges(record) == []
