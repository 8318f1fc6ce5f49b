"""The small elements every room writes and reads: nothing empty is written, nothing that is there is missed."""

import pytest

from ehr.fhir.elements import code_of, coded, identifier_of, reference, target_of, text_of

LOINC = "http://loinc.org"


def test_what_is_written_has_no_empty_values() -> None:
    assert coded(LOINC, "718-7") == {"coding": [{"system": LOINC, "code": "718-7"}]}
    assert coded(LOINC, "718-7", "Hb")["text"] == "Hb"
    assert reference("Patient/1") == {"reference": "Patient/1"}
    assert reference("Patient/1", "An") == {"reference": "Patient/1", "display": "An"}


@pytest.mark.parametrize(
    ("concept", "words"),
    [
        ({"text": "Hb", "coding": [{"display": "Hemoglobin"}]}, "Hb"),
        ({"coding": [{"code": "1"}, {"code": "2", "display": "two"}]}, "two"),
        ({"coding": [{"system": LOINC}, {"code": "2"}]}, "2"),
        ({"coding": []}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_words_of_a_concept_are_its_text_else_a_display_else_a_code(concept: dict[str, object], words: str) -> None:
    assert text_of(concept) == words


def test_codes_and_identifiers_are_those_of_the_system_asked_for() -> None:
    concept = {"coding": [{"system": "urn:other", "code": "x"}, {"system": LOINC}, {"system": LOINC, "code": "718-7"}]}
    assert code_of(concept, LOINC) == "718-7"
    assert code_of(concept, "urn:none") is None
    assert code_of(None, LOINC) is None
    patient = {"identifier": [{"system": "a"}, {"system": "b", "value": "1"}, {"system": "a", "value": "2"}]}
    assert identifier_of(patient, "a") == "2"
    assert identifier_of({}, "a") is None


def test_a_reference_leads_to_the_resource_whatever_version_it_names() -> None:
    assert target_of({"reference": "Patient/1/_history/3"}) == target_of({"reference": "Patient/1"}) == "Patient/1"
    assert target_of({"display": "An"}) == target_of(None) == ""
