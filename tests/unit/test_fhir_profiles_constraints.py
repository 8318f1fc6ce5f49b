"""FHIRPath rules of profiles and extensions: broken, kept, warned of, and not checked where the answer is elsewhere."""

import pytest

from tests.unit.profile_definitions import (
    CORE,
    Tree,
    definition,
    element,
    errors,
    extension,
    found,
    observation,
    patient,
)


def ruled(path: str, expression: str, severity: str = "error") -> Tree:
    rule = {"key": "p-1", "severity": severity, "human": "as it should be", "expression": expression}
    return definition("p", path.partition(".")[0], element(path, constraint=[rule]))


UNKNOWN = {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]}
RELATIVE = [{"name": {"text": "a"}}]


@pytest.mark.parametrize(
    ("path", "expression", "good", "bad", "at"),
    [
        ("Patient", "name.exists() or identifier.exists()", {"name": [{"text": "a"}]}, {}, "Patient"),
        ("Patient.name", "family.exists()", {"name": [{"family": "a"}]}, {"name": [{"text": "a"}]}, "Patient.name[0]"),
        ("Patient.birthDate", "$this < today()", {"birthDate": "2000"}, {"birthDate": "9000"}, "Patient.birthDate"),
        (
            "Patient.birthDate",
            "extension.exists()",
            {"_birthDate": UNKNOWN},
            {"birthDate": "2000"},
            "Patient.birthDate",
        ),
        (
            "Patient.contact",
            "name.exists() and %resource.active",
            {"active": True, "contact": RELATIVE},
            {"active": False, "contact": RELATIVE},
            "Patient.contact[0]",
        ),
    ],
)
def test_a_rule_is_evaluated_where_it_stands(path: str, expression: str, good: Tree, bad: Tree, at: str) -> None:
    assert errors(patient(**good), ruled(path, expression)) == []
    (issue,) = found(patient(**bad), ruled(path, expression))
    assert (issue.severity, issue.code, issue.at) == ("error", "invariant", at)
    assert issue.text.startswith("p-1: as it should be")


def test_a_rule_of_severity_warning_warns() -> None:
    (issue,) = found(patient(), ruled("Patient", "name.exists()", "warning"))
    assert issue.severity == "warning"


def test_rules_of_r4_itself_are_the_gates_matter() -> None:
    profile = ruled("Patient", "false")
    profile["differential"]["element"][0]["constraint"][0]["source"] = CORE + "Patient"
    assert found(patient(), profile) == []


def test_a_rule_that_cannot_be_read_is_told() -> None:
    (issue,) = found(patient(), ruled("Patient", "name.where("))
    assert (issue.severity, issue.code) == ("warning", "not-supported")
    assert "p-1" in issue.text


def test_a_rule_resolves_what_is_inside_and_is_not_broken_by_what_is_outside() -> None:
    profile = ruled("Observation", "subject.resolve().active")
    inside = {"resourceType": "Patient", "id": "1", "active": True}
    tree = observation(subject={"reference": "#1"}, contained=[inside])
    assert found(tree, profile) == []
    inside["active"] = False
    assert errors(tree, profile) == ["Observation"]
    (issue,) = found(observation(subject={"reference": "Patient/1"}), profile)
    assert (issue.severity, issue.code) == ("information", "not-found")


def test_a_rule_asks_terminology_and_profiles() -> None:
    value_set = "http://example.org/ValueSet/s"
    profile = ruled("Patient", f"maritalStatus.memberOf('{value_set}')")
    tree = patient(maritalStatus={"coding": [{"system": "urn:a", "code": "b"}]})
    assert errors(tree, profile, codes={(value_set, "b"): True}) == []
    assert errors(tree, profile, codes={(value_set, "c"): True}) == ["Patient"]
    assert [issue.severity for issue in found(tree, profile)] == ["information"]
    named = definition("named", "Patient", element("Patient.name", min=1))
    conforming = ruled("Patient", f"conformsTo('{named['url']}')")
    assert errors(patient(), conforming, named) == ["Patient"]
    assert errors(patient(name=[{"text": "a"}]), conforming, named) == []
    assert [issue.severity for issue in found(patient(), conforming)] == ["information"], "nobody knows the profile"


def test_contexts_of_an_extension_may_be_expressions() -> None:
    one = extension(
        "e",
        context=[{"type": "fhirpath", "expression": "Patient.name.where(use = 'official')"}],
        contextInvariant=["family.exists() and %extension.value = 'a'"],
    )
    profile = definition("p", "Patient")

    def named(use: str, value: str = "a") -> Tree:
        return patient(name=[{"use": use, "family": "b", "extension": [{"url": one["url"], "valueCode": value}]}])

    assert errors(named("official"), profile, one) == []
    assert errors(named("usual"), profile, one) == ["Patient.name[0].extension[0]"]
    assert errors(named("official", "c"), profile, one) == ["Patient.name[0]"]
