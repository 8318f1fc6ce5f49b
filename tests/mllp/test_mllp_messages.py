"""Messages through real sockets into a real database: answered when durable, once, and findable."""

import asyncio
import base64
import random
import unicodedata
from typing import Any, Literal

import pytest

from adapters.draft import Tree
from adapters.mllp.client import MllpClient
from adapters.mllp.server import MllpServer
from adapters.pipeline import Pipeline
from adapters.port import Bundle
from ehr.errors import Busy, Unavailable
from ehr.fhir import codec
from ehr.intake import Intake, Receipt, Source
from ehr.store.record import Record
from tests.mllp.mothers import (
    CCCD,
    LINK,
    MRN,
    admission,
    code_of,
    discharge,
    errors_of,
    header,
    ledger,
    message,
    pid,
    pv1,
    result,
    search,
    update,
)

PATIENT_NUMBER = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"
NATIONAL_ID = "http://fhir.ehealth.gov.vn/core/sid/national_id"
EPISODE = "http://fhir.hl7.org.vn/core/sid/ma-lk"


async def test_an_acknowledged_visit_is_found(record: Record, client: MllpClient) -> None:
    for sent in (admission(), result(), discharge()):
        assert code_of(await client.send(sent)) == "AA"
    (patient,) = await search(record, "Patient", identifier=f"{NATIONAL_ID}|{CCCD}")
    assert patient["name"][0]["text"] == "Nguyễn Văn An"
    (visit,) = await search(record, "Encounter", identifier=f"{EPISODE}|{LINK}")
    assert visit["status"] == "finished"
    assert visit["period"] == {"start": "2026-11-23T08:00:00+07:00", "end": "2026-11-23T09:55:00+07:00"}
    (condition,) = await search(record, "Condition", code="http://hl7.org/fhir/sid/icd-10|I10")
    assert visit["diagnosis"][0]["condition"]["reference"] == f"Condition/{condition['id']}"
    (observation,) = await search(record, "Observation", code="http://loinc.org|718-7")
    assert str(observation["valueQuantity"]["value"]) == "13.50"
    assert observation["subject"]["reference"] == f"Patient/{patient['id']}"
    (person,) = await search(record, "Person", identifier=f"{NATIONAL_ID}|{CCCD}")
    assert person["link"][0]["target"]["reference"] == f"Patient/{patient['id']}"
    provenance = await search(record, "Provenance", target=f"Observation/{observation['id']}")
    assert provenance[0]["entity"][0]["what"]["identifier"]["value"] == "R1"


async def test_a_repeat_gets_the_same_bytes_and_changes_nothing(record: Record, client: MllpClient) -> None:
    first = await client.send(admission())
    answers = {await client.send(admission()) for _ in range(10)}
    assert answers == {first}
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{MRN}")
    assert patient["meta"]["versionId"] == "1"
    assert [state for state, _, _ in await ledger(record)] == ["applied"]


async def test_parallel_repeats_are_one_message(record: Record, server: MllpServer) -> None:
    clients = [MllpClient("127.0.0.1", server.port) for _ in range(8)]
    answers = await asyncio.gather(*(client.send(admission()) for client in clients))
    for client in clients:
        await client.close()
    assert len(set(answers)) == 1
    assert len(await search(record, "Encounter", identifier=f"{EPISODE}|{LINK}")) == 1


async def test_a_reused_control_id_with_other_content_is_kept_and_flagged(record: Record, client: MllpClient) -> None:
    await client.send(admission("SAME"))
    assert code_of(await client.send(update("SAME", at="20261123083000+0700", phone="0987654321"))) == "AA"
    assert [state for state, _, _ in await ledger(record)] == ["applied", "applied"]
    async with record.database.acquire() as connection:
        flagged = await connection.fetchval("SELECT issues::text FROM intake_message ORDER BY id DESC LIMIT 1")
    assert "control id reused" in flagged
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{MRN}")
    assert patient["telecom"][0]["value"] == "0987654321"


async def test_names_keep_their_unicode_form(record: Record, client: MllpClient) -> None:
    forms: list[tuple[Literal["NFC", "NFD"], str]] = [("NFC", "1"), ("NFD", "2")]
    for form, mrn in forms:
        name = unicodedata.normalize(form, "Đỗ^Hường^Thị")
        sent = message(
            header("ADT^A04", form), "EVN|A04|20261123080000", f"PID|1||{mrn}||{name}||1980|F", pv1(link=form)
        )
        assert code_of(await client.send(sent)) == "AA"
        (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{mrn}")
        assert patient["name"][0]["text"] == unicodedata.normalize(form, "Đỗ Thị Hường")
    assert len(await search(record, "Patient", family="do")) == 2


@pytest.mark.parametrize(
    "digits", ["13.50", "0.10", "0.000001", "1234567890123456789012345", "0.1234567890123456789012345", "-0.0"]
)
async def test_digits_stay_as_sent(record: Record, client: MllpClient, digits: str) -> None:
    assert code_of(await client.send(result(value=digits))) == "AA"
    (observation,) = await search(record, "Observation", code="http://loinc.org|718-7")
    assert f'"value":{digits}'.encode() in codec.dumps(observation["valueQuantity"])


async def test_every_order_ends_in_the_same_state(record: Record, client: MllpClient) -> None:
    """Promise C32: admission, update, result, corrected result and discharge, shuffled."""
    in_order = [
        admission("1", phone="0900000001"),
        update("2", at="20261123083000+0700", phone="0900000002"),
        result("3", value="13.50", at="20261123090000+0700"),
        result("4", value="14.10", status="C", at="20261123093000+0700"),
        discharge("5", at="20261123100000+0700"),
    ]
    shuffler = random.Random(7)
    for _ in range(3):
        shuffled = in_order[:]
        shuffler.shuffle(shuffled)
        for sent in shuffled:
            assert code_of(await client.send(sent)) == "AA"
    (visit,) = await search(record, "Encounter", identifier=f"{EPISODE}|{LINK}")
    assert (visit["status"], visit["period"]["end"]) == ("finished", "2026-11-23T09:55:00+07:00")
    assert visit["serviceType"]["coding"][0]["code"] == "K01"
    (observation,) = await search(record, "Observation", code="http://loinc.org|718-7")
    assert (observation["status"], str(observation["valueQuantity"]["value"])) == ("corrected", "14.10")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_late_message_does_not_undo_a_newer_one(
    record: Record, client: MllpClient, order: tuple[int, int]
) -> None:
    sent = [admission("1", phone="0900000001"), update("2", at="20261123083000+0700", phone="0900000002")]
    for place in order:
        assert code_of(await client.send(sent[place])) == "AA"
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{MRN}")
    assert patient["telecom"][0]["value"] == "0900000002"


async def test_a_report_keeps_every_result_sent_under_it(record: Record, client: MllpClient) -> None:
    """Of a panel a laboratory sends the result it corrected alone, or each when it is ready, in any order."""
    first, second = (f"OBX|1|NM|{code}||5.1|mmol/L|||||F" for code in ("2345-7^Glucose^LN", "2823-3^Potassium^LN"))
    both = result("B", at="20261123090000").split(b"\rOBX")[0]
    for control_id, at, *lines in (
        ("B", "20261123090000", first, second),
        ("C", "20261123100000", first.replace("5.1", "5.2").replace("|F", "|C")),
        ("L", "20261123080000", second.replace("2823-3^Potassium", "2951-2^Sodium")),
    ):
        head = both.replace(b"|B|", f"|{control_id}|".encode()).replace(b"20261123090000", at.encode())
        assert code_of(await client.send(b"\r".join([head, *(line.encode() for line in lines)]) + b"\r")) == "AA"
    about = {"patient.identifier": MRN}
    (report,) = await search(record, "DiagnosticReport", **about)
    observations = {f"Observation/{one['id']}": one for one in await search(record, "Observation", **about)}
    codes = [observations[item["reference"]]["code"]["coding"][0]["code"] for item in report["result"]]
    assert codes == ["2345-7", "2823-3", "2951-2"]


async def test_discharge_before_admission_stays_finished(record: Record, client: MllpClient) -> None:
    for sent in (discharge(), admission()):
        assert code_of(await client.send(sent)) == "AA"
    (visit,) = await search(record, "Encounter", identifier=f"{EPISODE}|{LINK}")
    assert visit["status"] == "finished"
    assert visit["period"]["start"] == "2026-11-23T08:00:00+07:00"


async def test_silence_changes_nothing_and_the_null_value_erases(record: Record, client: MllpClient) -> None:
    await client.send(admission())
    at = "20261123083000+0700"
    sparse = message(header("ADT^A08", "2", at=at), f"EVN|A08|{at}", f"PID|1||{MRN}", pv1())
    assert code_of(await client.send(sparse)) == "AA"
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{MRN}")
    assert patient["name"][0]["family"] == "Nguyễn"
    assert patient["telecom"][0]["value"] == "0912345678"
    assert len(patient["identifier"]) == 3
    at = "20261123084000+0700"
    erasing = message(header("ADT^A08", "3", at=at), f"EVN|A08|{at}", f'PID|1||{MRN}||||||||""||""|""', pv1())
    assert code_of(await client.send(erasing)) == "AA"
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{MRN}")
    assert "telecom" not in patient
    assert "address" not in patient
    assert patient["name"][0]["family"] == "Nguyễn"


async def updated(record: Record, client: MllpClient, number: int, fields: dict[int, str]) -> Tree:
    """The patient after an update with these fields of PID."""
    at = f"202611230830{number:02}+0700"
    segment = "|".join(["PID", "1", "", MRN, *(fields.get(field, "") for field in range(4, 31))])
    assert code_of(await client.send(message(header("ADT^A08", f"U{number}", at=at), segment, pv1()))) == "AA"
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{MRN}")
    return patient


async def test_the_null_value_erases_any_element_that_is_one_field(record: Record, client: MllpClient) -> None:
    known = {5: "Nguyễn^An", 7: "19800101", 8: "M", 15: "vi", 16: "M", 24: "Y", 25: "2", 29: "20261122", 30: "Y"}
    names = {5: "name", 7: "birthDate", 8: "gender", 15: "communication", 16: "maritalStatus",
             25: "multipleBirthInteger", 29: "deceasedDateTime"}  # fmt: skip

    patient = await updated(record, client, 0, known)
    assert patient.keys() >= set(names.values())
    for number, (field, name) in enumerate(names.items(), 1):
        patient = await updated(record, client, number, {field: '""'})
        assert name not in patient
        assert patient.keys() >= set(list(names.values())[number:])


async def test_a_choice_that_is_said_otherwise_is_one_element(record: Record, client: MllpClient) -> None:
    """That somebody died, and then when; one of several at a birth, and then which."""
    await updated(record, client, 0, {24: "Y", 30: "Y"})
    patient = await updated(record, client, 1, {25: "2", 29: "20261122"})
    assert (patient["deceasedDateTime"], patient["multipleBirthInteger"]) == ("2026-11-22", 2)
    assert not {"deceasedBoolean", "multipleBirthBoolean"} & patient.keys()
    patient = await updated(record, client, 2, {24: "Y", 30: "Y"})
    assert (patient["deceasedDateTime"], patient["multipleBirthInteger"]) == ("2026-11-22", 2), "no less is known"
    patient = await updated(record, client, 3, {24: "N", 30: "N"})
    assert (patient["deceasedBoolean"], patient["multipleBirthBoolean"]) == (False, False)
    assert not {"deceasedDateTime", "multipleBirthInteger"} & patient.keys()


async def test_a_merge_links_and_moves_nothing(record: Record, client: MllpClient) -> None:
    old = message(header("ADT^A04", "1"), "EVN|A04|20261123080000", "PID|1||OLD||Lê^Ba", pv1(link="OLD-1"))
    merging = message(
        header("ADT^A40", "2", at="20261123090000+0700"), "EVN|A40|20261123090000", pid(), "MRG|OLD^^^01Z01^PI"
    )
    assert code_of(await client.send(old)) == "AA"
    assert code_of(await client.send(merging)) == "AA"
    (replaced,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|OLD")
    (survivor,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{MRN}")
    assert replaced["active"] is False
    assert replaced["name"][0]["family"] == "Lê"
    assert replaced["link"] == [{"other": {"reference": f"Patient/{survivor['id']}"}, "type": "replaced-by"}]
    assert survivor["link"] == [{"other": {"reference": f"Patient/{replaced['id']}"}, "type": "replaces"}]
    (visit,) = await search(record, "Encounter", identifier=f"{EPISODE}|OLD-1")
    assert visit["subject"]["reference"] == f"Patient/{replaced['id']}"


@pytest.mark.parametrize("processing", ["T", "D", "t", "X", "T^I"])
async def test_a_message_of_a_training_or_a_test_is_no_care(
    record: Record, client: MllpClient, processing: str
) -> None:
    sent = admission().replace(b"|P|2.5.1", f"|{processing}|2.5.1".encode())
    answer = await client.send(sent)
    assert (code_of(answer), errors_of(answer)) == ("AR", [("MSH^1^11", "202")])
    assert await search(record, "Patient", identifier=MRN) == []


@pytest.mark.parametrize("processing", ["", "P^T", "p"])
async def test_a_message_of_production_is_taken(record: Record, client: MllpClient, processing: str) -> None:
    sent = admission().replace(b"|P|2.5.1", f"|{processing}|2.5.1".encode())
    assert code_of(await client.send(sent)) == "AA"
    assert len(await search(record, "Patient", identifier=MRN)) == 1


async def test_refusals_name_the_place_and_are_kept(record: Record, client: MllpClient) -> None:
    unknown = message(header("ADT^A04", "1", facility="XXXXX"), pid(), pv1())
    assert errors_of(await client.send(unknown)) == [("MSH^1^4", "204")]
    assert code_of(await client.send(unknown)) == "AR"
    strange = message(header("CUSTOM^PAT", "2"), pid())
    assert errors_of(await client.send(strange)) == [("MSH^1^9^1^1", "200")]
    event = message(header("ADT^A99", "3"), pid())
    assert errors_of(await client.send(event)) == [("MSH^1^9^1^2", "201")]
    nobody = message(header("ADT^A04", "4"), "PID|1||||Nguyễn^An", pv1())
    answer = await client.send(nobody)
    assert (code_of(answer), errors_of(answer)) == ("AE", [("PID^1^3", "101")])
    lying = message(header("ADT^A04", "5").replace("UNICODE UTF-8", "ASCII"), pid(), pv1())
    answer = await client.send(lying)
    assert (code_of(answer), errors_of(answer)) == ("AE", [("PID^1^5", "102")])
    junk = await client.send(b"this is no HL7")
    assert code_of(junk) == "AR"
    assert [state for state, _, _ in await ledger(record)] == ["refused"] * 6
    assert await search(record, "Patient", family="nguyen") == []


async def test_a_bound_listener_speaks_for_its_facility(record: Record, pipeline: Pipeline) -> None:
    listener = MllpServer(pipeline, default_facility="01Z01")
    await listener.start()
    client = MllpClient("127.0.0.1", listener.port)
    sent = message(header("ADT^A04", "1", facility=""), "EVN|A04|20261123080000", pid(), pv1())
    assert code_of(await client.send(sent)) == "AA"
    await client.close()
    await listener.stop()


async def test_without_the_record_nothing_is_answered(pipeline: Pipeline) -> None:
    class Gone:
        async def receive_hl7(self, block: bytes, peer: str, *, facility_code: str | None = None) -> bytes:
            raise Unavailable("the database cannot be reached")

        async def broke(self, block: bytes, error: Exception, *, facility_code: str | None = None) -> bytes | None:
            raise AssertionError("a database that is away is no fault of ours")

    listener = MllpServer(Gone())
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"\x0b" + admission() + b"\x1c\x0d")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await listener.stop()


async def test_a_document_keeps_its_text_when_a_later_message_brings_none(record: Record, client: MllpClient) -> None:
    """A cancellation, and a notice of a change, have no OBX; they had left a document without its text."""
    txa = "TXA|1|DS^Giấy ra viện|TX|||202611230900||||||D1^HIS||||Giấy|{}||{}"

    async def said(event: str, number: int, completion: str, state: str, *more: str) -> tuple[str, str, str]:
        head = header(f"MDM^{event}", f"D{number}", at=f"2026112310000{number}+0700")
        sent = message(head, pid(), pv1(), txa.format(completion, state), *more)
        assert code_of(await client.send(sent)) == "AA"
        (document,) = await search(record, "DocumentReference", identifier="D1")
        (content,) = document["content"]
        text = base64.b64decode(content["attachment"].get("data", "")).decode()
        return document["status"], document["docStatus"], text

    assert await said("T01", 1, "IP", "") == ("current", "preliminary", "")
    assert await said("T02", 2, "DO", "AV", "OBX|1|TX|1^a||dòng 1") == ("current", "final", "dòng 1")
    assert await said("T03", 3, "AU", "AV") == ("current", "final", "dòng 1")
    assert await said("T08", 4, "AU", "AV", "OBX|1|TX|1^a||dòng 2") == ("current", "final", "dòng 2")
    assert await said("T11", 5, "", "CA") == ("entered-in-error", "final", "dòng 2")


async def test_a_replay_takes_what_the_sweep_has_given_up(
    record: Record, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours may take days to repair, and the sweep stops after a while."""
    monkeypatch.setattr("ehr.intake.UNFINISHED_MAX", 2)
    intake = Intake(record)
    facility = await intake.facility("01Z01")
    assert facility is not None
    for number in range(5):
        sent = admission(f"LATE{number}", mrn=f"{number}").replace(LINK.encode(), f"{LINK}{number}".encode())
        await intake.keep(sent, Source(facility.id, facility.code, "mllp", "ADT^A04", f"LATE{number}"))
    async with record.database.acquire() as connection:
        await connection.execute("UPDATE intake_message SET state = 'failed', attempts = 20")
    assert await pipeline.recover(older_than_s=0) == 0
    assert await pipeline.replay() == (5, 0)
    assert {state for state, _, _ in await ledger(record)} == {"applied"}


async def test_what_others_hold_up_holds_up_no_other_message(
    record: Record, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had ended the sweep, each time anew: nothing that came later was finished."""
    monkeypatch.setattr("ehr.intake.UNFINISHED_MAX", 2)
    intake, submit, held = Intake(record), Intake.submit, {"LOST0", "LOST1", "LOST3"}
    facility = await intake.facility("01Z01")
    assert facility is not None
    for number in range(6):
        sent = admission(f"LOST{number}", mrn=f"{number}").replace(LINK.encode(), f"{LINK}{number}".encode())
        await intake.keep(sent, Source(facility.id, facility.code, "mllp", "ADT^A04", f"LOST{number}"))

    async def submitted(intake: Intake, bundle: Bundle, receipt: Receipt, **more: Any) -> Bundle:
        if receipt.source.control_id in held:
            raise Busy("other writers hold this resource; send the same request again")
        return await submit(intake, bundle, receipt, **more)

    monkeypatch.setattr(Intake, "submit", submitted)
    assert await pipeline.recover(older_than_s=0) == 3
    assert await pipeline.replay() == (0, 3)
    held.clear()
    assert await pipeline.recover(older_than_s=0) == 3
    assert {state for state, _, _ in await ledger(record)} == {"applied"}


async def test_recovery_finishes_what_a_crash_left(record: Record, pipeline: Pipeline) -> None:
    intake = Intake(record)
    facility = await intake.facility("01Z01")
    assert facility is not None
    for number in range(5):
        sent = result(f"LOST{number}", value=f"1{number}.50", at=f"2026112309000{number}+0700")
        await intake.keep(sent, Source(facility.id, facility.code, "mllp", "ORU^R01", f"LOST{number}"))
    bad = message(header("CUSTOM^PAT", "LOST5"), pid())
    await intake.keep(bad, Source(facility.id, facility.code, "mllp", "CUSTOM^PAT", "LOST5"))
    assert await pipeline.recover(older_than_s=0) == 6
    assert [state for state, _, _ in await ledger(record)] == ["applied"] * 5 + ["refused"]
    (observation,) = await search(record, "Observation", code="http://loinc.org|718-7")
    assert str(observation["valueQuantity"]["value"]) == "14.50"
    assert await pipeline.recover(older_than_s=0) == 0
