"""What nobody here can tell: a value set, a profile, what a reference means. It is said, and no fault."""

import pytest

from tests.unit.profile_definitions import (
    CORE,
    HERE,
    Tree,
    definition,
    element,
    errors,
    found,
    observation,
    patient,
    reference_to,
    sliced,
)


def test_a_slice_that_nobody_can_tell_is_neither_missed_nor_none() -> None:
    """Where the value set is not here, the coding may be the one that is asked for."""
    at, value_set = "Patient.maritalStatus.coding", "http://example.org/ValueSet/s"
    binding = {"strength": "required", "valueSet": value_set}
    profile = definition(
        "p",
        "Patient",
        sliced(at, ("value", "$this"), rules="closed"),
        element(at, sliceName="listed", min=2, binding=binding),
    )
    codings = [{"system": "http://example.org/kind", "code": code} for code in "ab"]
    assert errors(patient(maritalStatus={"coding": codings}), profile) == []
    told = [(one.severity, one.at) for one in found(patient(maritalStatus={"coding": codings}), profile)]
    assert ("information", at) in told, "that the slice was not counted is said"
    assert errors(patient(maritalStatus={"coding": codings[:1]}), profile) == [at], "one is too few in any case"
    known = {(value_set, "a"): True, (value_set, "b"): False}
    assert errors(patient(maritalStatus={"coding": codings}), profile, codes=known) == [f"{at}[1]", at]


@pytest.mark.parametrize(
    ("kind", "path", "member"),
    [
        ("profile", "resolve()", {"reference": "Observation/1"}),
        ("profile", "resolve()", {"identifier": {"value": "1"}}),
        ("type", "resolve()", {"identifier": {"value": "1"}}),
        ("value", "resolve().status", {"reference": "Observation/1"}),
        ("value", "resolve().ofType(Observation).status", {"reference": "https://other.example/fhir/Observation/1"}),
    ],
)
def test_what_a_reference_means_elsewhere_may_be_of_any_slice(kind: str, path: str, member: Tree) -> None:
    at = "Observation.hasMember"
    final = definition("final", "Observation", element("Observation.status", fixedCode="final"))
    profile = definition(
        "p",
        "Observation",
        sliced(at, (kind, path), rules="closed"),
        element(at, sliceName="final", min=1, type=reference_to("final")),
    )
    assert errors(observation(hasMember=[member]), profile, final) == []


def test_a_profile_nobody_knows_tells_no_slice() -> None:
    at = "Bundle.entry"
    profile = definition(
        "p",
        "Bundle",
        sliced(at, ("profile", "resource"), rules="closed"),
        element(at, sliceName="subject", min=1),
        element(f"{at}.resource", type=[{"code": "Patient", "profile": [HERE + "unknown"]}]),
    )

    def tree(resource: Tree) -> Tree:
        return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": resource}]}

    told = [(one.severity, one.at) for one in found(tree(patient(gender="male")), profile)]
    assert {severity for severity, _ in told} == {"information"}
    assert ("information", f"{at}[0].resource") in told, "which profile is not known is said"
    assert errors(tree(observation()), profile) == [f"{at}[0]", at], "an Observation is none in any case"


def test_the_type_that_a_reference_tells_tells_its_slice() -> None:
    at = "Observation.performer"
    profile = definition(
        "p",
        "Observation",
        sliced(at, ("type", "resolve()"), rules="closed"),
        element(at, sliceName="somebody", min=1, max="1", type=reference_to(f"{CORE}Practitioner")),
    )
    somebody, organization = {"reference": "Practitioner/1"}, {"reference": "Organization/1"}
    assert errors(observation(performer=[somebody]), profile) == []
    assert errors(observation(performer=[organization]), profile) == [f"{at}[0]", at]
    assert errors(observation(performer=[{"type": "Practitioner", "display": "a"}] * 2), profile) == [at]
