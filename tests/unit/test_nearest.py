"""A name that is none is answered with the one that was meant, and with none where that would be a guess."""

import pytest

from ehr.fhir.r4 import TYPE_IDS
from ehr.nearest import did_you_mean


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("patient", "Patient"),
        ("PATIENT", "Patient"),
        ("Pateint", "Patient"),
        ("Patients", "Patient"),
        ("Observations", "Observation"),
        ("medicationrequest", "MedicationRequest"),
        ("DiagnosticReports", "DiagnosticReport"),
    ],
)
def test_a_slip_is_told_from_what_was_meant(sent: str, meant: str) -> None:
    assert did_you_mean(sent, TYPE_IDS) == f"; did you mean {meant}?"


@pytest.mark.parametrize("sent", ["", "x", "Doctor", "wibble", "Patient" * 10, "\x00", "🙂"])
def test_what_is_like_none_of_them_is_not_guessed(sent: str) -> None:
    assert did_you_mean(sent, TYPE_IDS) == ""
    assert did_you_mean(sent, ()) == ""
