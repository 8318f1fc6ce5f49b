"""Episodes and the messages made of them: coherent, reproducible, readable by the mappers, valid, and balanced."""

import base64
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import hl7
import pytest
from lxml import etree

from adapters.claim_xml import bundle_of as claim_bundle
from adapters.facilities import bundle, claim_xml
from adapters.facilities import hl7 as hl7v2
from adapters.facilities.arrivals import HOURS, Arrival, Referred, arrivals, mean_of
from adapters.facilities.episode import Episode
from adapters.facilities.episodes import episode
from adapters.facilities.languages import messages
from adapters.facilities.population import Population
from adapters.facilities.registry import FACILITIES
from adapters.hl7v2.parse import parse
from adapters.hl7v2.route import bundle_of
from adapters.port import Origin
from ehr.clock import ICT
from ehr.fhir import codec
from ehr.fhir.validate import validate
from terminology.claim_tables import check_row, tables
from terminology.lists import DIAGNOSIS_BY_CODE, LAB_TEST_BY_CODE

SEED = 20261124
DAY = date(2026, 11, 24)
PEOPLE = Population(SEED, 200_000)


def coming() -> Iterator[Arrival]:
    """Arrivals of every kind of facility, mixed."""
    for hour in (8, 9, 15):
        for facility in FACILITIES[::11]:
            yield from islice(arrivals(SEED, facility, DAY, hour), 5)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    found = [episode(SEED, PEOPLE, arrival) for arrival in coming()]
    assert {one.kind for one in found} == {"outpatient", "inpatient", "station"}
    return found


def test_an_episode_runs_forward(episodes: list[Episode]) -> None:
    for one in episodes:
        assert one.citizen.birth_date <= one.arrival.date()
        assert one.arrival < one.end <= one.paid
        assert one.admitted is None or one.arrival <= one.admitted < one.end
        for service in one.services:
            assert one.arrival <= service.ordered <= service.done
            assert service.resulted is None or service.done <= service.resulted <= one.end
        for medicine in one.medicines:
            assert one.arrival <= medicine.ordered <= one.end
        for note in one.notes:
            assert one.arrival <= note.at <= one.end


def test_diseases_fit_the_person_and_the_facility(episodes: list[Episode]) -> None:
    level = {"station": 1, "centre": 2, "other": 2, "hospital": 3}
    for one in episodes:
        disease = DIAGNOSIS_BY_CODE[one.main.code]
        assert (
            disease.fits(one.citizen.sex, one.citizen.age_at(one.arrival.date()))
            or one.main.code in one.citizen.chronic
        )
        assert disease.level <= level[one.facility.kind]
        assert one.main.code not in {other.code for other in one.secondary}
        assert len(one.secondary) <= 12
        assert (one.kind == "inpatient") == (one.admitted is not None)
        assert one.facility.kind != "station" or one.kind == "station"


def test_results_are_printed_as_the_test_prescribes(episodes: list[Episode]) -> None:
    flags: Counter[str] = Counter()
    for one in episodes:
        for order in one.orders:
            for result in order.results:
                test = LAB_TEST_BY_CODE[result.loinc]
                flags[result.flag] += 1
                if test.unit is None:
                    assert result.value in ("Âm tính", "Dương tính")
                    continue
                assert result.unit == test.unit
                assert -Decimal(result.value).as_tuple().exponent == test.decimals  # type: ignore[operator]
                low, high, value = Decimal(result.low), Decimal(result.high), Decimal(result.value)
                assert result.flag == ("L" if value < low else "H" if value > high else "N")
    assert flags["N"] > flags["H"] > 0
    assert flags["L"] > 0


def test_money_adds_up_to_the_last_digit(episodes: list[Episode]) -> None:
    for one in episodes:
        lines = [line.amounts for line in one.medicines] + [line.amounts for line in one.services]
        for line in lines:
            assert line.hospital == line.insured + line.patient
            assert line.insured == line.fund + line.copay
            assert min(line.fund, line.copay, line.patient) >= 0
        assert one.totals.hospital == sum(line.hospital for line in lines)
        assert one.totals.fund == one.totals.insured - one.totals.copay
        assert one.totals.patient == one.totals.hospital - one.totals.insured
        if not one.insured:
            assert one.totals.insured == 0
        if one.facility.kind == "station" and one.insured:
            assert one.totals.copay == 0


def test_the_same_seed_gives_the_same_bytes() -> None:
    some = list(coming())[::4]
    first = [message for arrival in some for message in messages(episode(SEED, PEOPLE, arrival))]
    again = Population(SEED, 200_000)
    second = [message for arrival in some for message in messages(episode(SEED, again, arrival))]
    assert first == second
    other = [message for arrival in some for message in messages(episode(SEED + 1, PEOPLE, arrival))]
    assert first != other


def test_message_numbers_are_never_used_twice(episodes: list[Episode]) -> None:
    seen = [message.control_id for one in episodes for message in messages(one)]
    assert len(set(seen)) == len(seen)


def test_every_hl7_message_is_read_by_the_library_and_by_our_mapper(episodes: list[Episode]) -> None:
    kinds: Counter[str] = Counter()
    for one in episodes[::5]:
        told = hl7v2.messages(one)
        assert [message.at for message in told] == sorted(message.at for message in told)
        assert told[-1].kind == "ADT^A03"
        for message in told:
            kinds[message.kind] += 1
            library = hl7.parse(message.payload.decode())
            assert str(library.segment("MSH")[10]) == message.control_id
            assert len(message.control_id) <= 20
            mapped = bundle_of(parse(message.payload), Origin(one.facility.code, message.control_id, "Organization/x"))
            assert not isinstance(mapped, list), (message.kind, mapped)
            assert validate(codec.loads(codec.dumps(mapped)), type_name="Bundle") == []
    assert {"ADT^A01", "ADT^A04", "ADT^A08", "ADT^A03", "ORU^R01", "RDE^O11", "DFT^P03"} <= kinds.keys()


def test_the_mapper_finds_what_the_episode_said(episodes: list[Episode]) -> None:
    one = next(found for found in episodes if found.orders and found.orders[0].results and found.citizen.cccd)
    message = next(found for found in hl7v2.messages(one) if found.kind == "ORU^R01")
    mapped = bundle_of(parse(message.payload), Origin(one.facility.code, message.control_id))
    assert isinstance(mapped, dict)
    trees = [entry["resource"] for entry in mapped["entry"]]
    result = one.orders[0].results[0]
    values = [t["valueQuantity"] for t in trees if t["resourceType"] == "Observation" and "valueQuantity" in t]
    assert {"value": Decimal(result.value), "unit": result.unit} in [
        {name: value[name] for name in ("value", "unit")} for value in values
    ]
    patient = next(tree for tree in trees if tree["resourceType"] == "Patient")
    assert one.citizen.cccd in [item["value"] for item in patient["identifier"]]
    assert patient["name"][0]["text"] == one.citizen.name
    assert patient["address"][0]["text"] == one.citizen.address


def test_every_bundle_is_valid(episodes: list[Episode]) -> None:
    for one in episodes[::3]:
        for body in (bundle.arrival(one, "1"), bundle.departure(one, "2")):
            assert validate(codec.loads(body), type_name="Bundle") == []


def test_a_laboratory_result_says_who_answers_for_it_in_every_language(episodes: list[Episode]) -> None:
    """An International Patient Summary asks for the performer of each."""
    asked = Counter[str]()
    for one in [found for found in episodes if any(order.results for order in found.orders)][:3]:
        origin = Origin(one.facility.code, "1", "Organization/x")
        results = [found.payload for found in hl7v2.messages(one) if found.kind == "ORU^R01"]
        said: dict[str, list[Any]] = {
            "hl7v2": [bundle_of(parse(payload), origin) for payload in results],
            "fhir": [codec.loads(bundle.departure(one, "2"))],
            "claim_xml": [claim_bundle(claim_xml.envelope(one), origin)],
        }
        for feed, bundles in said.items():
            for tree in (entry["resource"] for made in bundles for entry in made["entry"]):
                if tree["resourceType"] == "Observation" and "laboratory" in str(tree["category"]):
                    asked[feed] += 1
                    assert tree.get("performer"), (feed, tree["code"])
    assert min(asked[feed] for feed in ("hl7v2", "fhir", "claim_xml")) > 5


def test_claim_files_keep_the_tables_and_the_sums(episodes: list[Episode]) -> None:
    known = tables("3176")
    for one in episodes:
        root = etree.fromstring(claim_xml.envelope(one))
        assert root.findtext("THONGTINDONVI/MACSKCB") == one.facility.code
        found: dict[str, list[dict[str, str]]] = {}
        for part in root.iter("FILEHOSO"):
            code = part.findtext("LOAIHOSO") or ""
            document = etree.fromstring(base64.b64decode(part.findtext("NOIDUNGFILE") or ""))
            table = known[code]
            records = list(document.iter(table.record_tag)) if table.record_tag else [document]
            for record in records:
                assert tuple(str(field.tag) for field in record) == table.names
            found[code] = [{str(field.tag): field.text or "" for field in record} for record in records]
            for row in found[code]:
                assert check_row(table, row) == []
        _check_sums(found)


def _check_sums(found: dict[str, list[dict[str, str]]]) -> None:
    summary = found["XML1"][0]
    rows = found.get("XML2", []) + found["XML3"]

    def total(name: str, of: list[dict[str, str]]) -> Decimal:
        return sum((Decimal(row[name]) for row in of), Decimal(0))

    assert Decimal(summary["T_THUOC"]) == total("THANH_TIEN_BV", found.get("XML2", []))
    assert Decimal(summary["T_TONGCHI_BV"]) == total("THANH_TIEN_BV", rows)
    assert Decimal(summary["T_TONGCHI_BH"]) == total("THANH_TIEN_BH", rows)
    for name in ("T_BNTT", "T_BNCCT", "T_BHTT", "T_NGUONKHAC"):
        assert Decimal(summary[name]) == total(name, rows)
    assert Decimal(summary["T_BHTT"]) == Decimal(summary["T_TONGCHI_BH"]) - Decimal(summary["T_BNCCT"])


def test_every_claim_file_is_read_by_our_mapper(episodes: list[Episode]) -> None:
    for one in episodes[::4]:
        mapped: Any = claim_bundle(claim_xml.envelope(one), Origin(one.facility.code, "1", "Organization/x"))
        assert isinstance(mapped, dict), mapped
        assert validate(codec.loads(codec.dumps(mapped)), type_name="Bundle") == []


def test_a_day_of_the_city_has_the_volume_of_the_reference() -> None:
    visits: Counter[str] = Counter()
    stays = 0.0
    for facility in FACILITIES:
        for hour in range(24):
            visits[facility.kind] += round(1000 * mean_of(SEED, facility, "visit", DAY, hour))
            stays += mean_of(SEED, facility, "stay", DAY, hour)
    total = sum(visits.values()) / 1000
    assert 45_000 < total < 72_000
    assert 0.05 < stays / (total + stays) < 0.13
    assert all(sum(shares) > 0 and len(shares) == 24 for shares in HOURS.values())


def test_the_weekend_is_quieter_and_the_night_is_silent_at_stations() -> None:
    station = next(facility for facility in FACILITIES if facility.kind == "station")
    assert mean_of(SEED, station, "visit", date(2026, 11, 28), 9) < mean_of(SEED, station, "visit", DAY, 9)
    assert arrivals(SEED, station, DAY, 2) == []


def test_a_referred_patient_comes_with_the_disease_and_the_paper() -> None:
    station = next(facility for facility in FACILITIES if facility.kind == "station")
    hospital = FACILITIES[0]
    came = Arrival(
        hospital, "visit", datetime(2026, 11, 24, 10, tzinfo=ICT), 5_001, Referred(17, "J18.9", station.code, "7")
    )
    one = episode(SEED, PEOPLE, came)
    assert one.citizen == PEOPLE.citizen(17)
    assert one.main.code == "J18.9"
    if one.insured:
        assert (one.attendance.category, one.attendance.came_from) == ("1.3", station.code)


def test_large_facilities_can_be_thinned() -> None:
    hospital, station = FACILITIES[0], FACILITIES[-1]
    whole = sum(mean_of(SEED, hospital, "visit", DAY, hour) for hour in range(24))
    thin = sum(mean_of(SEED, hospital, "visit", DAY, hour, visits_a_day_max=40) for hour in range(24))
    assert whole > 100 > 41 > thin > 39
    assert mean_of(SEED, station, "visit", DAY, 9) == mean_of(SEED, station, "visit", DAY, 9, visits_a_day_max=200)
