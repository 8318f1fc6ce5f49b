"""Misbehaviour on purpose: seeded, at its rate, and really a fault."""

import unicodedata
from collections import Counter
from datetime import date
from itertools import islice

import pytest

from adapters.facilities import bundle, claim_xml, hl7
from adapters.facilities.arrivals import arrivals
from adapters.facilities.episode import Episode
from adapters.facilities.episodes import episode
from adapters.facilities.faults import BEHAVIOUR, Fault, Faults, spoil, spoil_table
from adapters.facilities.population import Population
from adapters.facilities.registry import FACILITIES
from adapters.hl7v2.parse import parse
from adapters.hl7v2.route import bundle_of
from adapters.port import Origin
from ehr.errors import EhrError, Malformed
from ehr.fhir import codec


@pytest.fixture(scope="module")
def insured() -> Episode:
    people = Population(1, 10_000)
    for arrival in islice(arrivals(1, FACILITIES[0], date(2026, 11, 24), 8), 40):
        one = episode(1, people, arrival)
        if one.insured and one.orders and one.orders[0].results:
            return one
    raise AssertionError("an insured patient with results came that hour")


def test_faults_come_at_their_rate_and_are_the_same_every_time() -> None:
    faults = Faults(5, rate=0.05)
    drawn = [faults.of("hl7v2", str(number)) for number in range(20_000)]
    assert drawn == [Faults(5, rate=0.05).of("hl7v2", str(number)) for number in range(20_000)]
    hit = [fault for fault in drawn if fault is not None]
    assert len(hit) / len(drawn) == pytest.approx(0.05, abs=0.01)
    assert set(hit) == set(Fault)
    assert not any(Faults(5, rate=0.0).of("fhir", str(number)) for number in range(1_000))


def test_feeds_have_only_the_faults_they_can_have() -> None:
    for feed in ("fhir", "claim_xml"):
        hit = Counter(Faults(1, rate=1.0).of(feed, str(number)) for number in range(3_000))
        assert set(hit) == set(Fault) - {Fault.LF}


def test_faults_of_behaviour_leave_the_bytes_alone(insured: Episode) -> None:
    payload = hl7.messages(insured)[0].payload
    for fault in BEHAVIOUR:
        assert spoil(payload, "hl7v2", fault, Faults(1).random("x")) == payload


def test_hl7_faults(insured: Episode) -> None:
    told = {message.kind: message.payload for message in hl7.messages(insured)}
    random = Faults(1).random("x")
    with pytest.raises(EhrError):
        parse(spoil(told["ADT^A04"] if "ADT^A04" in told else told["ADT^A01"], "hl7v2", Fault.MALFORMED, random))
    first = told.get("ADT^A04") or told["ADT^A01"]
    for harmless in (Fault.BOM, Fault.LF, Fault.NFD):
        spoilt = spoil(first, "hl7v2", harmless, random)
        assert spoilt != first
        assert isinstance(bundle_of(parse(spoilt), Origin("01Z01", "1")), dict)
    assert insured.citizen.card is not None
    card = insured.citizen.card.number.encode()
    assert card in first
    assert card not in spoil(first, "hl7v2", Fault.WRONG_CARD, random)
    commune = insured.citizen.commune.full_name.encode()
    without = spoil(first, "hl7v2", Fault.NO_COMMUNE, random)
    assert commune in first
    assert commune not in without
    assert b"MAXA_CU_TRU" not in without
    assert b"99999-X" in spoil(told["ORU^R01"], "hl7v2", Fault.UNKNOWN_CODE, random)


def test_fhir_faults(insured: Episode) -> None:
    body = bundle.departure(insured, "1")
    random = Faults(1).random("x")
    with pytest.raises(Malformed):
        codec.loads(spoil(body, "fhir", Fault.MALFORMED, random))
    assert insured.citizen.card is not None
    wrong = codec.loads(spoil(body, "fhir", Fault.WRONG_CARD, random))
    assert insured.citizen.card.number not in str(wrong)
    without = spoil(body, "fhir", Fault.NO_COMMUNE, random)
    assert codec.loads(without)["type"] == "transaction"
    assert insured.citizen.commune.full_name.encode() not in without
    decomposed = spoil(body, "fhir", Fault.NFD, random).decode()
    assert unicodedata.is_normalized("NFD", decomposed)
    assert b"99999-X" in spoil(body, "fhir", Fault.UNKNOWN_CODE, random)


def test_claim_file_faults(insured: Episode) -> None:
    assert insured.citizen.card is not None
    wrong = claim_xml.envelope(insured, spoil=lambda text: spoil_table(text, Fault.WRONG_CARD))
    assert wrong != claim_xml.envelope(insured)
    table = "<MAXA_CU_TRU>00001</MAXA_CU_TRU>"
    assert spoil_table(table, Fault.NO_COMMUNE) == "<MAXA_CU_TRU/>"
    assert spoil_table("<MA_NHOM>4</MA_NHOM>", Fault.UNKNOWN_CODE) == "<MA_NHOM>94</MA_NHOM>"
    assert spoil_table(table, Fault.BOM) == table
