"""311 real-world-shaped messages, v2.1 to v2.8: each is answered in time, and what is accepted can be found."""

import asyncio
import json
from collections import Counter
from pathlib import Path

from adapters.mllp.client import MllpClient
from adapters.mllp.server import MllpServer
from adapters.pipeline import Pipeline
from ehr.store.record import Record
from tests.mllp.conftest import register
from tests.mllp.mothers import code_of, errors_of, in_production, search

DEADLINE_S = 10.0
LEAST_ACCEPTED = 245
"""Of 311. What is refused lacks a patient number, an observation code, or has a date that is none."""


def messages(shared: Path) -> list[dict[str, str]]:
    text = (shared / "hl7v2" / "messages.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def fields(message: str, name: str, number: int) -> list[str]:
    """First components of one field of every segment of a name, read without our parser."""
    lines = [line.split("|") for line in message.split("\r") if line.startswith(name + "|")]
    return [line[number].split("~")[0].split("^")[0].strip() for line in lines if len(line) > number]


async def test_every_message_is_answered_and_accepted_content_is_found(
    shared_data: Path, record: Record, pipeline: Pipeline
) -> None:
    outcomes: Counter[str] = Counter()
    for number, sent in enumerate(messages(shared_data)):
        # one facility each: the messages come from many makers' tests, which all know a patient 1234 and an order 1000
        code = f"X{number:04}"
        await register(record, code)
        listener = MllpServer(pipeline, default_facility=code)
        await listener.start()
        client = MllpClient("127.0.0.1", listener.port)
        async with asyncio.timeout(DEADLINE_S):
            answer = await client.send(in_production(sent["msg"]).encode(), timeout_s=DEADLINE_S)
        await client.close()
        await listener.stop()
        outcomes[code_of(answer)] += 1
        if code_of(answer) == "AA":
            await _found(record, sent["msg"], code)
        else:
            assert errors_of(answer), "a refusal says why"
    assert set(outcomes) <= {"AA", "AE", "AR"}
    assert sum(outcomes.values()) == 311
    assert outcomes["AA"] >= LEAST_ACCEPTED, outcomes
    async with record.database.acquire() as connection:
        unfinished = await connection.fetchval(
            "SELECT count(*) FROM intake_message WHERE state NOT IN ('applied', 'refused')"
        )
    assert unfinished == 0


async def _found(record: Record, message: str, facility: str) -> None:
    """The patient, and one fact of every kind the message has, by searches of the FHIR API."""
    numbers = fields(message, "PID", 3) + fields(message, "PID", 2)
    number = next(number for number in numbers if number)
    (organization,) = await search(record, "Organization", identifier=facility)
    patients = await search(record, "Patient", identifier=number, organization=f"Organization/{organization['id']}")
    assert patients, "the patient is found by the number of PID-3"
    subject = f"Patient/{patients[0]['id']}"
    kind = fields(message, "MSH", 8)[0]
    if kind in ("ORU", "ADT"):
        for code in fields(message, "OBX", 3):
            if code:
                assert await search(record, "Observation", patient=subject, code=" ".join(code.split()))
    if kind == "ADT":
        for visit in fields(message, "PV1", 19)[:1]:
            assert not visit or await search(record, "Encounter", identifier=visit, patient=subject)
        for code in fields(message, "AL1", 3):
            assert not code or await search(record, "AllergyIntolerance", patient=subject, code=code)
        for code in fields(message, "DG1", 3):
            assert not code or await search(record, "Condition", patient=subject, code=code)
    if kind == "VXU":
        for code in fields(message, "RXA", 5):
            found = await search(record, "Immunization", **{"patient": subject, "vaccine-code": code or "x"})
            assert not code or found
    if kind in ("RDE", "OMP"):
        assert await search(record, "MedicationRequest", patient=subject)
    if kind == "MDM":
        assert await search(record, "DocumentReference", patient=subject)
    if kind == "PPR":
        for code in fields(message, "PRB", 3):
            assert not code or await search(record, "Condition", patient=subject, code=code)
    if kind == "DFT":
        assert await search(record, "ChargeItem", patient=subject)
