"""A profile's rules on elements: each refuses what breaks it, at its place, and takes what keeps it."""

from decimal import Decimal
from typing import Any

import pytest

from tests.unit.profile_definitions import (
    CORE,
    HERE,
    definition,
    element,
    errors,
    found,
    observation,
    patient,
    reference_to,
)

ANIMAL = {"system": "http://example.org/kind", "code": "a"}


@pytest.mark.parametrize(
    ("rule", "good", "bad", "at"),
    [
        (element("Patient.birthDate", min=1), {"birthDate": "2000-01-01"}, {}, "Patient.birthDate"),
        (element("Patient.name", min=2), {"name": [{"text": "a"}] * 2}, {"name": [{"text": "a"}]}, "Patient.name"),
        (element("Patient.name", max="1"), {"name": [{"text": "a"}]}, {"name": [{"text": "a"}] * 2}, "Patient.name"),
        (element("Patient.photo", max="0"), {}, {"photo": [{"title": "a"}]}, "Patient.photo[0]"),
        (
            element("Patient.name.family", min=1),
            {"name": [{"family": "Nguyễn"}]},
            {"name": [{"family": "Nguyễn"}, {"text": "a"}]},
            "Patient.name[1].family",
        ),
        (element("Patient.active", fixedBoolean=True), {"active": True}, {"active": False}, "Patient.active"),
        (element("Patient.gender", patternCode="male"), {"gender": "male"}, {"gender": "other"}, "Patient.gender"),
        (
            element("Patient.maritalStatus", patternCodeableConcept={"coding": [ANIMAL]}),
            {"maritalStatus": {"coding": [{"code": "z"}, {**ANIMAL, "display": "A"}], "text": "more"}},
            {"maritalStatus": {"coding": [{**ANIMAL, "code": "b"}]}},
            "Patient.maritalStatus",
        ),
        (
            element("Patient.maritalStatus", fixedCodeableConcept={"coding": [ANIMAL]}),
            {"maritalStatus": {"coding": [ANIMAL]}},
            {"maritalStatus": {"coding": [ANIMAL], "text": "more"}},
            "Patient.maritalStatus",
        ),
        (
            element("Patient.multipleBirth[x]", type=[{"code": "boolean"}]),
            {"multipleBirthBoolean": True},
            {"multipleBirthInteger": 2},
            "Patient.multipleBirth",
        ),
        (
            element("Patient.multipleBirthInteger", min=1),
            {"multipleBirthInteger": 2},
            {"multipleBirthBoolean": True},
            "Patient.multipleBirth",
        ),
        (
            element("Patient.multipleBirthInteger", minValueInteger=1, maxValueInteger=9),
            {"multipleBirthInteger": 9},
            {"multipleBirthInteger": 10},
            "Patient.multipleBirth",
        ),
        (
            element("Patient.birthDate", minValueDate="1900-01-01"),
            {"birthDate": "1900"},
            {"birthDate": "1899-12"},
            "Patient.birthDate",
        ),
        (
            element("Patient.name.text", maxLength=3),
            {"name": [{"text": "abc"}]},
            {"name": [{"text": "abcd"}]},
            "Patient.name[0].text",
        ),
        (
            element("Patient.managingOrganization", type=reference_to(CORE + "Organization"), min=1),
            {"managingOrganization": {"reference": "Organization/1"}},
            {},
            "Patient.managingOrganization",
        ),
        (
            element("Patient.generalPractitioner", type=reference_to(CORE + "Practitioner")),
            {"generalPractitioner": [{"reference": "Practitioner/1"}, {"display": "somebody"}]},
            {"generalPractitioner": [{"reference": "http://a.example/fhir/Organization/1"}]},
            "Patient.generalPractitioner[0]",
        ),
    ],
)
def test_a_rule_takes_what_keeps_it_and_refuses_what_breaks_it(
    rule: dict[str, Any], good: dict[str, Any], bad: dict[str, Any], at: str
) -> None:
    profile = definition("p", "Patient", rule)
    assert errors(patient(**good), profile) == []
    assert errors(patient(**bad), profile) == [at]


def test_a_primitive_with_an_extension_only_is_there() -> None:
    profile = definition("p", "Patient", element("Patient.birthDate", min=1))
    unknown = {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]}
    assert errors(patient(_birthDate=unknown), profile) == []


def test_digits_of_a_fixed_decimal_count() -> None:
    profile = definition("p", "Observation", element("Observation.valueQuantity.value", fixedDecimal=Decimal("1.0")))
    assert errors(observation(valueQuantity={"value": Decimal("1.0")}), profile) == []
    assert errors(observation(valueQuantity={"value": Decimal("1.00")}), profile) == ["Observation.value.value"]


def test_must_support_asks_nothing() -> None:
    profile = definition("p", "Patient", element("Patient.name", mustSupport=True))
    assert found(patient(), profile) == []


def test_a_resource_of_another_type_conforms_to_nothing() -> None:
    assert errors(observation(), definition("p", "Patient")) == ["Observation"]


def test_a_derived_profile_has_the_rules_of_its_base_without_a_snapshot() -> None:
    base = definition("base", "Patient", element("Patient.name", min=1), element("Patient.birthDate", min=1))
    derived = definition("p", "Patient", element("Patient.name.family", min=1), base="base")
    assert errors(patient(name=[{"text": "a"}]), derived, base) == ["Patient.name[0].family", "Patient.birthDate"]
    assert "is not known here" in found(patient(), derived)[0].text


def test_a_profile_that_is_its_own_base_is_refused() -> None:
    one = definition("one", "Patient", base="two")
    two = definition("two", "Patient", base="one")
    (issue,) = found(patient(), one, two)
    assert (issue.severity, issue.code) == ("warning", "not-supported")
    assert "its own base" in issue.text


def test_a_snapshot_is_enough_and_wins() -> None:
    profile = definition("p", "Patient", base="nowhere")
    profile["snapshot"] = {"element": [element("Patient"), element("Patient.birthDate", id="Patient.birthDate", min=1)]}
    assert errors(patient(), profile) == ["Patient.birthDate"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"kind": "logical", "type": "http://example.org/Thing"}, "no profile of an R4 resource"),
        ({"fhirVersion": "5.0.0"}, "FHIR 5.0.0"),
        ({"differential": {"element": [{"path": "Patient.nonsense", "min": 1}]}}, "no element nonsense"),
        ({"differential": {"element": [{"path": "Person.name", "min": 1}]}}, "is not of Patient"),
    ],
)
def test_what_cannot_be_a_profile_says_why(more: dict[str, Any], why: str) -> None:
    (issue,) = found(patient(), definition("p", "Patient") | more)
    assert (issue.severity, issue.code) == ("warning", "not-supported")
    assert why in issue.text


def test_a_profile_of_a_datatype_holds_where_an_element_names_it() -> None:
    name = definition("full-name", "HumanName", element("HumanName.given", min=1), kind="complex-type")
    with_name = definition(
        "p", "Patient", element("Patient.name", type=[{"code": "HumanName", "profile": [name["url"]]}])
    )
    assert errors(patient(name=[{"given": ["Hà"]}, {"text": "a"}]), with_name, name) == ["Patient.name[1].given"]


def test_one_of_several_profiles_of_a_type_is_enough() -> None:
    given = definition("given", "HumanName", element("HumanName.given", min=1))
    text = definition("text", "HumanName", element("HumanName.text", min=1))
    kinds = [{"code": "HumanName", "profile": [given["url"], text["url"]]}]
    profile = definition("p", "Patient", element("Patient.name", type=kinds))
    assert errors(patient(name=[{"given": ["Hà"]}, {"text": "a"}]), profile, given, text) == []
    assert errors(patient(name=[{"family": "Ng"}]), profile, given, text) == ["Patient.name[0]"]


def test_content_that_refers_to_another_element_has_its_rules() -> None:
    profile = definition("p", "Questionnaire", element("Questionnaire.item.text", min=1))
    inner = {"linkId": "2", "type": "string"}
    tree = {
        "resourceType": "Questionnaire",
        "status": "draft",
        "item": [{"linkId": "1", "type": "group", "text": "a", "item": [inner]}],
    }
    assert errors(tree, profile) == ["Questionnaire.item[0].item[0].text"]


# ---- references


def test_a_target_at_hand_must_conform() -> None:
    named = definition("named", "Patient", element("Patient.name", min=1))
    profile = definition("p", "Observation", element("Observation.subject", type=reference_to("named")))
    inside = {"resourceType": "Patient", "id": "1"}
    tree = observation(subject={"reference": "#1"}, contained=[inside])
    assert errors(tree, profile, named) == ["Observation.subject"]
    inside["name"] = [{"text": "a"}]  # type: ignore[assignment]
    assert errors(tree, profile, named) == []
    assert errors(observation(subject={"reference": "Patient/elsewhere"}), profile, named) == []
    assert errors(observation(subject={"reference": "Group/1"}), profile, named) == ["Observation.subject"]


@pytest.mark.parametrize(
    ("reference", "full_url"),
    [
        ("urn:uuid:0e9c8d1a-7d4b-4a5e-8f3c-2b1a0c9d8e7f", "urn:uuid:0e9c8d1a-7d4b-4a5e-8f3c-2b1a0c9d8e7f"),
        ("Patient/1", "http://a.example/fhir/Patient/1"),
        ("http://a.example/fhir/Patient/1", "http://a.example/fhir/Patient/1"),
    ],
)
def test_references_are_followed_inside_a_bundle(reference: str, full_url: str) -> None:
    named = definition("named", "Patient", element("Patient.name", min=1))
    profile = definition("p", "Observation", element("Observation.subject", type=reference_to("named")))
    claiming = observation(subject={"reference": reference}, meta={"profile": [HERE + "p"]})
    entries = [
        {"fullUrl": "http://a.example/fhir/Observation/9", "resource": claiming},
        {"fullUrl": full_url, "resource": {"resourceType": "Patient", "id": "1"}},
    ]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    assert errors(bundle, profile, named, against=CORE + "Bundle") == ["Bundle.entry[0].resource.subject"]


def test_profiles_that_refer_to_each_other_end() -> None:
    profile = definition("p", "Observation", element("Observation.hasMember", type=reference_to("p")))
    members = [
        {
            "fullUrl": f"http://a.example/fhir/Observation/{n}",
            "resource": observation(id=str(n), hasMember=[{"reference": f"Observation/{1 - n}"}]),
        }
        for n in (0, 1)
    ]
    members[0]["resource"]["meta"] = {"profile": [profile["url"]]}  # type: ignore[index]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": members}
    assert errors(bundle, profile, against=CORE + "Bundle") == []


@pytest.mark.parametrize(
    ("how", "good", "bad"),
    [
        ({"aggregation": ["referenced"]}, "Patient/2", "#1"),
        ({"aggregation": ["contained"]}, "#1", "Patient/2"),
        ({"versioning": "specific"}, "Patient/2/_history/1", "Patient/2"),
        ({"versioning": "independent"}, "Patient/2", "Patient/2/_history/1"),
    ],
)
def test_a_reference_lies_as_the_profile_says(how: dict[str, Any], good: str, bad: str) -> None:
    kinds = [{"code": "Reference", "targetProfile": [CORE + "Patient"], **how}]
    profile = definition("p", "Observation", element("Observation.subject", type=kinds))

    def tree(reference: str) -> dict[str, Any]:
        inside = [{"resourceType": "Patient", "id": "1"}] if reference.startswith("#") else []
        return observation(subject={"reference": reference}, **({"contained": inside} if inside else {}))

    assert errors(tree(good), profile) == []
    assert errors(tree(bad), profile) == ["Observation.subject.reference"]


def test_a_reference_to_an_entry_is_bundled() -> None:
    kinds = [{"code": "Reference", "targetProfile": [CORE + "Patient"], "aggregation": ["bundled"]}]
    profile = definition("p", "Observation", element("Observation.subject", type=kinds))
    claiming = observation(subject={"reference": "Patient/1"}, meta={"profile": [profile["url"]]})
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": claiming}]}
    assert errors(bundle, profile, against=CORE + "Bundle") == ["Bundle.entry[0].resource.subject.reference"]
    bundle["entry"].append({"resource": {"resourceType": "Patient", "id": "1"}})  # type: ignore[attr-defined]
    assert errors(bundle, profile, against=CORE + "Bundle") == []


# ---- codes

SET = "http://example.org/ValueSet/s"


def bound(strength: str) -> dict[str, Any]:
    return definition("p", "Patient", element("Patient.maritalStatus", binding={"strength": strength, "valueSet": SET}))


@pytest.mark.parametrize(
    ("strength", "severity"), [("required", "error"), ("extensible", "warning"), ("preferred", None), ("example", None)]
)
def test_a_binding_is_as_strict_as_its_strength(strength: str, severity: str | None) -> None:
    known = {(SET, "a"): True}
    assert found(patient(maritalStatus={"coding": [{"code": "b"}, ANIMAL]}), bound(strength), codes=known) == []
    wrong = found(patient(maritalStatus={"coding": [{**ANIMAL, "code": "b"}]}), bound(strength), codes=known)
    assert [(issue.severity, issue.code, issue.at) for issue in wrong] == (
        [(severity, "code-invalid", "Patient.maritalStatus")] if severity else []
    )


@pytest.mark.parametrize(
    "value",
    [
        {"valueBoolean": True},
        {"valueDate": "2026-01-01"},
        {"valueReference": {"display": "a"}},
        {"valueCode": "a"},
        {"valueString": "a"},
        {"valueQuantity": {"value": 1, "system": "urn:a", "code": "a"}},
    ],
)
def test_a_binding_binds_what_is_coded_among_the_types_of_a_choice(value: dict[str, Any]) -> None:
    kinds = [{"code": code} for code in ("boolean", "date", "Reference", "code", "string", "Quantity")]
    binding = {"strength": "required", "valueSet": SET}
    profile = definition("e", "Extension", element("Extension.value[x]", type=kinds, binding=binding))
    tree = patient(extension=[{"url": profile["url"], **value}])
    holder = definition(
        "p", "Patient", element("Patient.extension", type=[{"code": "Extension", "profile": [HERE + "e"]}])
    )
    assert errors(tree, holder, profile, codes={(SET, "a"): True}) == []
    coded = value.keys() & {"valueCode", "valueString", "valueQuantity"}
    assert bool(errors(tree, holder, profile, codes={(SET, "b"): True})) is bool(coded)


def test_text_alone_keeps_an_extensible_binding_and_breaks_a_required_one() -> None:
    tree = patient(maritalStatus={"text": "a"})
    assert found(tree, bound("extensible"), codes={(SET, "a"): True}) == []
    assert errors(tree, bound("required"), codes={(SET, "a"): True}) == ["Patient.maritalStatus"]


@pytest.mark.parametrize(("strength", "severity"), [("required", "warning"), ("extensible", "information")])
def test_a_value_set_nobody_knows_is_told(strength: str, severity: str) -> None:
    (issue,) = found(patient(maritalStatus={"coding": [ANIMAL]}), bound(strength))
    assert (issue.severity, issue.code) == (severity, "not-found")
    assert SET in issue.text


def test_no_issue_holds_a_value_of_the_resource() -> None:
    profile = definition("p", "Patient", element("Patient.name.family", fixedString="A", maxLength=3))
    for issue in found(patient(name=[{"family": "Nguyễn Thị Hà"}]), profile):
        assert "Nguyễn" not in issue.text
