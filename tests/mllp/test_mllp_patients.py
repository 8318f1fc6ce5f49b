"""What a message says of one patient is that patient's: several of them, merges, and segments out of their places."""

import pytest

from adapters.mllp.client import MllpClient
from ehr.store.record import Record
from tests.mllp.mothers import code_of, errors_of, header, message, search

PATIENT_NUMBER = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"


def person(number: str) -> str:
    return f"PID|1||{number}^^^01Z01^PI||Lê^{number}"


def panel(number: int, filler: str) -> str:
    return f"OBR|{number}||{filler}|24331-1^Lipid panel^LN|||20261123083000+0700||||||||||||||||||F"


def value(digits: str) -> str:
    return f"OBX|1|NM|718-7^Hemoglobin^LN||{digits}|g/dL|||||F"


async def values_of(record: Record, number: str) -> set[str]:
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{number}")
    found = await search(record, "Observation", patient=f"Patient/{patient['id']}")
    return {str(observation["valueQuantity"]["value"]) for observation in found}


async def links_of(record: Record, number: str) -> tuple[bool, list[tuple[str, str]]]:
    """(active, the links by the number of the other patient)."""
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|{number}")
    links = []
    for link in patient.get("link", ()):
        id = link["other"]["reference"].removeprefix("Patient/")
        (other,) = await search(record, "Patient", _id=id)
        links.append((link["type"], other["identifier"][0]["value"]))
    return patient.get("active", True), sorted(links)


async def test_results_of_several_patients_are_each_their_own(record: Record, client: MllpClient) -> None:
    several = message(
        header("ORU^R01", "1"),
        *(person("A"), panel(1, ""), value("13.5"), panel(2, "F2"), value("13.6")),
        *(person("B"), "PV1|1|O|||||||||||||||||B-1", panel(1, ""), value("9.1"), "NTE|1||sau bữa ăn"),
    )
    assert code_of(await client.send(several)) == "AA"
    assert await values_of(record, "A") == {"13.5", "13.6"}
    assert await values_of(record, "B") == {"9.1"}
    (visit,) = await search(record, "Encounter", identifier="http://fhir.hl7.org.vn/core/sid/ma-lk|B-1")
    (patient,) = await search(record, "Patient", identifier=f"{PATIENT_NUMBER}|B")
    assert visit["subject"]["reference"] == f"Patient/{patient['id']}"


@pytest.mark.parametrize("kind", ["ADT^A08", "ORM^O01", "VXU^V04", "DFT^P03", "PPR^PC1", "SIU^S12", "MDM^T02"])
async def test_a_second_patient_is_refused_where_messages_are_about_one(client: MllpClient, kind: str) -> None:
    answer = await client.send(message(header(kind, "1"), person("A"), "PV1|1|O", person("B"), "PV1|1|O"))
    assert (code_of(answer), errors_of(answer)[0]) == ("AE", ("PID^2", "100"))


async def test_the_same_test_twice_under_one_number_keeps_both(record: Record, client: MllpClient) -> None:
    sent = message(
        header("ORU^R01", "1"), person("A"), panel(1, "F1^LIS"), value("13.5"), panel(2, "F1^LIS"), value("13.6")
    )
    assert code_of(await client.send(sent)) == "AA"
    assert await values_of(record, "A") == {"13.5", "13.6"}
    assert len(await search(record, "DiagnosticReport", code="http://loinc.org|24331-1")) == 2


@pytest.mark.parametrize(
    ("kind", "order"),
    [("ORU^R01", [panel(1, "F1")]), ("ORM^O01", ["ORC|NW|P1"]), ("DFT^P03", ["FT1|1|C1||20261123||CG|X^x"])],
)
async def test_results_before_the_first_order_are_the_patient_s(
    record: Record, client: MllpClient, kind: str, order: list[str]
) -> None:
    assert code_of(await client.send(message(header(kind, "1"), person("A"), value("13.5"), *order))) == "AA"
    assert await values_of(record, "A") == {"13.5"}


async def test_what_has_no_place_is_refused(client: MllpClient) -> None:
    loose = message(header("MDM^T02", "1"), person("A"), value("13.5"), "TXA|1|CN|TX")
    assert errors_of(await client.send(loose)) == [("OBX^1^5", "100")]
    unordered = message(header("ORU^R01", "2"), person("A"), panel(1, "F1"), "ORC|RE|P2", value("13.5"))
    assert errors_of(await client.send(unordered)) == [("ORC^1", "101")]
    merge = message(header("ADT^A40", "3"), "MRG|B^^^01Z01^PI", person("A"))
    assert errors_of(await client.send(merge)) == [("MRG^1^1", "100")]


async def test_merges_that_are_repeated_and_turned_round_leave_no_two_truths(
    record: Record, client: MllpClient
) -> None:
    for control_id, stays, goes in (("1", "A", "B"), ("2", "A", "B"), ("3", "B", "A"), ("4", "B", "C")):
        at = f"2026112308000{control_id}+0700"
        merge = message(header("ADT^A40", control_id, at=at), person(stays), f"MRG|{goes}^^^01Z01^PI")
        assert code_of(await client.send(merge)) == "AA"
    assert await links_of(record, "A") == (False, [("replaced-by", "B")])
    assert await links_of(record, "B") == (True, [("replaces", "A"), ("replaces", "C")])


async def test_a_merge_of_accounts_merges_no_patients(record: Record, client: MllpClient) -> None:
    own = message(header("ADT^A41", "1"), person("A") + "|" * 13 + "ACC1", "MRG|A^^^01Z01^PI||ACC2")
    assert code_of(await client.send(own)) == "AA"
    assert await links_of(record, "A") == (True, [])
    foreign = message(header("ADT^A41", "2"), person("A"), "MRG|B^^^01Z01^PI||ACC2")
    assert errors_of(await client.send(foreign)) == [("MRG^1^1", "102")]
    visits = message(header("ADT^A42", "3"), person("A"), "MRG|B^^^01Z01^PI||||V2")
    assert errors_of(await client.send(visits)) == [("MSH^1^9^1^2", "201")]
