"""The summary says what the record holds: nothing withdrawn, nothing twice, digits as sent."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ehr import limits
from ehr.fhir.codec import dumps
from ehr.summary.health_book import health_book
from ehr.summary.ips import PersonRecord, document
from ehr.summary.render import disposition_text, range_text, value_text
from ehr.summary.sections import sections

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
BASE = "http://127.0.0.1:8000/fhir"


def patient(id: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": id,
        "name": [{"text": "Nguyễn Thị Hà"}],
        "gender": "female",
        "birthDate": "1980-02-29",
        **more,
    }


def condition(id: str, code: str, *, status: str = "active", when: str = "2026-01-02", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": id,
        "clinicalStatus": {"coding": [{"code": status}]},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": code}], "text": f"bệnh {code}"},
        "subject": {"reference": "Patient/b"},
        "recordedDate": when,
        **more,
    }


def result(id: str, code: str, value: str, when: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}], "text": f"xét nghiệm {code}"},
        "subject": {"reference": "Patient/a"},
        "effectiveDateTime": when,
        "encounter": {"reference": "Encounter/e1"},
        "valueQuantity": {"value": Decimal(value), "unit": "mmol/L"},
        "referenceRange": [{"low": {"value": Decimal("3.9")}, "high": {"value": Decimal("6.4")}}],
    }


def record(**trees: Any) -> PersonRecord:
    return PersonRecord("p1", "a", (patient("a"), patient("b")), trees)


def bundle(**trees: Any) -> dict[str, Any]:
    return document(record(**trees), base_url=BASE, now=NOW)


def section_of(document_: dict[str, Any], code: str) -> dict[str, Any]:
    found = [s for s in document_["entry"][0]["resource"]["section"] if s["code"]["coding"][0]["code"] == code]
    assert len(found) == 1
    return dict(found[0])


def test_the_three_required_sections_are_there_even_for_an_empty_record() -> None:
    empty = bundle()
    for code in ("11450-4", "48765-2", "10160-0"):
        section = section_of(empty, code)
        assert section["emptyReason"]["coding"][0]["code"] == "unavailable"
        assert "entry" not in section
        assert section["text"]["div"].startswith('<div xmlns="http://www.w3.org/1999/xhtml">')
    assert [e["resource"]["resourceType"] for e in empty["entry"]] == ["Composition", "Patient"]


def test_a_withheld_type_is_said_to_be_withheld() -> None:
    held = PersonRecord("p1", "a", (patient("a"),), {}, withheld=frozenset({"Condition"}))
    made = document(held, base_url=BASE, now=NOW)
    assert section_of(made, "11450-4")["emptyReason"]["coding"][0]["code"] == "withheld"


def test_withdrawn_and_repeated_problems_do_not_appear() -> None:
    refuted: dict[str, Any] = {"verificationStatus": {"coding": [{"code": "refuted"}]}}
    made = bundle(
        Condition=[
            condition("old", "I10", when="2025-01-01"),
            condition("new", "I10", when="2026-01-01"),
            condition("wrong", "E11.9", **refuted),
            condition("past", "J18.9", status="resolved"),
        ]
    )
    assert [e["reference"] for e in section_of(made, "11450-4")["entry"]] == ["Condition/new"]
    assert [e["reference"] for e in section_of(made, "11348-0")["entry"]] == ["Condition/past"]


def test_every_reference_in_the_document_resolves_to_its_one_patient() -> None:
    made = bundle(Condition=[condition("c", "I10")])
    assert [e["fullUrl"] for e in made["entry"]] == [
        f"{BASE}/Composition/summary-p1",
        f"{BASE}/Patient/a",
        f"{BASE}/Condition/c",
    ]
    assert made["entry"][2]["resource"]["subject"]["reference"] == "Patient/a"


def test_digits_stay_as_the_laboratory_sent_them() -> None:
    made = bundle(Observation=[result("o", "2345-7", "13.50", "2026-11-01")])
    assert b'"value":13.50' in dumps(made)
    assert "13.50 mmol/L" in section_of(made, "30954-2")["text"]["div"]
    assert value_text(result("o", "2345-7", "13.50", "2026-11-01")) == "13.50 mmol/L"
    assert range_text(result("o", "2345-7", "13.50", "2026-11-01")) == "3.9 - 6.4"


def test_only_the_newest_result_of_a_code_is_listed() -> None:
    made = bundle(
        Observation=[result("o1", "2345-7", "5.1", "2026-10-01"), result("o2", "2345-7", "6.0", "2026-11-01")]
    )
    assert [e["reference"] for e in section_of(made, "30954-2")["entry"]] == ["Observation/o2"]


def test_narrative_escapes_what_a_facility_sent() -> None:
    evil = condition("c", "I10")
    evil["code"]["text"] = "<script>alert(1)</script>"
    div = section_of(bundle(Condition=[evil]), "11450-4")["text"]["div"]
    assert "<script>" not in div
    assert "&lt;script&gt;" in div


def test_a_full_section_keeps_the_newest_and_says_how_many_are_left_out() -> None:
    many = [condition(f"c{n}", f"A{n}", when=f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z") for n in range(130)]
    chosen = sections({"Condition": many}, NOW.date())[0]
    assert len(chosen.entries) == limits.summary_section_entries_max
    assert chosen.omitted == 30
    assert chosen.entries[0]["id"] == "c129"
    assert "30 older entries" in section_of(bundle(Condition=many), "11450-4")["text"]["div"]


def test_the_health_book_shows_each_episode_with_its_own_results() -> None:
    visit = {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"code": "AMB"},
        "period": {"start": "2026-11-01T08:00:00+07:00", "end": "2026-11-01T09:00:00+07:00"},
        "serviceProvider": {"reference": "Organization/facility-01Z05"},
    }
    held = PersonRecord(
        "p1",
        "a",
        (patient("a"),),
        {
            "Encounter": [visit],
            "Observation": [result("o", "2345-7", "13.50", "2026-11-01")],
            "Condition": [condition("c", "I10", encounter={"reference": "Encounter/e1"})],
        },
        {"Encounter/e1": "Trạm Y tế"},
    )
    book = health_book(held, now=NOW)
    (episode,) = book["dotKham"]
    assert episode["coSo"] == "Trạm Y tế"
    assert episode["xetNghiem"][0]["giaTri"] == "13.50 mmol/L"
    assert episode["chanDoan"] == [{"ma": "I10", "ten": "bệnh I10"}]
    assert book["hanhChinh"]["hoTen"] == "Nguyễn Thị Hà"
    assert book["tienSu"]["benhTat"][0]["ma"] == "I10"


def test_how_a_stay_ended_is_told_in_words() -> None:
    national = {"system": "urn:city-ehr:codes:loai-rv", "code": "1"}
    for given, told in (
        ({"coding": [national]}, "Ra viện"),
        ({"coding": [national], "text": "Cho về"}, "Cho về"),
        ({"coding": [{"system": "urn:other", "code": "exp"}]}, "exp"),
        (None, ""),
    ):
        assert disposition_text(given) == told


def test_the_health_book_leaves_out_what_was_withdrawn() -> None:
    """A result that was sent for the wrong patient, a visit that never was, a blood group that was taken back."""
    visit = {"encounter": {"reference": "Encounter/kept"}}

    def measured(id: str, status: str, value: str, when: str) -> dict[str, Any]:
        return {**result(id, "883-9", value, when), "status": status, **visit}

    def encounter(id: str, status: str) -> dict[str, Any]:
        return {"resourceType": "Encounter", "id": id, "status": status, "class": {"code": "AMB"}}

    held = record(
        Encounter=[
            encounter("kept", "finished"),
            *(encounter(status, status) for status in ("entered-in-error", "cancelled", "planned")),
        ],
        Observation=[
            measured("right", "final", "1", "2026-01-01"),
            measured("wrong", "entered-in-error", "2", "2026-01-02"),
            measured("off", "cancelled", "3", "2026-01-03"),
        ],
        Condition=[
            {**condition("yes", "J20"), **visit},
            {
                **condition("no", "B20"),
                **visit,
                "verificationStatus": {"coding": [{"code": "entered-in-error"}]},
            },
        ],
        Coverage=[{"resourceType": "Coverage", "id": "c", "status": "entered-in-error", "subscriberId": "1"}],
    )
    book = health_book(held, now=datetime(2026, 1, 5, tzinfo=UTC))
    (episode,) = book["dotKham"]
    assert episode["id"] == "kept"
    assert len(episode["xetNghiem"]) == 1
    assert episode["xetNghiem"][0]["giaTri"].startswith("1")
    assert [one["ma"] for one in episode["chanDoan"]] == ["J20"]
    assert book["tomTat"]["nhomMau"].startswith("1")
    assert book["hanhChinh"]["theBHYT"] is None
