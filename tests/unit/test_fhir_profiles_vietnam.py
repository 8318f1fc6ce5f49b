"""A national profile in the manner of VN Core, over a Patient as the facilities' feeds make them.

Written for this test from the guide's facts: its identifier systems and v2-0203 types, its extension for the ethnic
group; the guide itself is in no registry.
"""

from typing import Any

from ehr.fhir.vietnam import INSURANCE_NUMBER, NATIONAL_ID, PATIENT_NUMBER
from tests.unit.profile_definitions import Tree, definition, element, errors, extension, found, sliced

V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
ETHNIC_GROUPS = "http://fhir.ehealth.gov.vn/core/ValueSet/ethnic-groups"


def identifier_slice(name: str, system: str, code: str, **more: Any) -> list[Tree]:
    at, id = "Patient.identifier", f"Patient.identifier:{name}"
    typed = {"coding": [{"system": V2_0203, "code": code}]}
    return [
        element(at, id=id, sliceName=name, **more),
        element(f"{at}.system", id=f"{id}.system", min=1, fixedUri=system),
        element(f"{at}.type", id=f"{id}.type", patternCodeableConcept=typed),
        element(f"{at}.value", id=f"{id}.value", min=1),
    ]


RULE = {
    "key": "vn-cccd",
    "severity": "error",
    "human": "a national number has 12 digits",
    "expression": "value.matches('^[0-9]{12}$')",
}
ETHNIC_GROUP = extension(
    "extension-ethnic-group",
    element("Extension.value[x]", min=1, type=[{"code": "CodeableConcept"}]),
    element("Extension.valueCodeableConcept", binding={"strength": "required", "valueSet": ETHNIC_GROUPS}),
    context=[{"type": "element", "expression": "Patient"}],
)
OF_ETHNIC_GROUP = [{"code": "Extension", "profile": [ETHNIC_GROUP["url"]]}]
PATIENT = definition(
    "vn-core-patient",
    "Patient",
    element("Patient.extension", sliceName="ethnicGroup", max="1", type=OF_ETHNIC_GROUP),
    sliced("Patient.identifier", ("value", "system")),
    *identifier_slice("nationalId", NATIONAL_ID, "NI", max="1", constraint=[RULE]),
    *identifier_slice("insuranceNumber", INSURANCE_NUMBER, "SB"),
    *identifier_slice("internalId", PATIENT_NUMBER, "PI"),
    element("Patient.identifier.assigner", id="Patient.identifier:internalId.assigner", min=1),
    element("Patient.name", min=1),
    element("Patient.name.text", min=1),
    element("Patient.gender", min=1),
    element("Patient.birthDate", min=1),
)


def identifier(system: str, code: str, value: str, **more: Any) -> Tree:
    return {"system": system, "type": {"coding": [{"system": V2_0203, "code": code}]}, "value": value, **more}


def citizen(*identifiers: Tree, group: str = "01") -> Tree:
    coded = {"coding": [{"system": "urn:city-ehr:codes:dan-toc", "code": group}]}
    return {
        "resourceType": "Patient",
        "identifier": list(identifiers) or [identifier(NATIONAL_ID, "NI", "001162645535")],
        "extension": [{"url": ETHNIC_GROUP["url"], "valueCodeableConcept": coded}],
        "name": [{"text": "Vũ Thị Nhung", "family": "Vũ", "given": ["Nhung", "Thị"]}],
        "gender": "female",
        "birthDate": "1962-07-18",
    }


def wrong(tree: Tree) -> list[str | None]:
    return errors(tree, PATIENT, ETHNIC_GROUP, codes={(ETHNIC_GROUPS, "01"): True})


def test_a_citizen_conforms() -> None:
    facility = {"identifier": {"value": "01Z2H"}}
    own = identifier(PATIENT_NUMBER, "PI", "32497586", assigner=facility)
    card = identifier(INSURANCE_NUMBER, "SB", "GD4010155051947")
    elsewhere = {"system": "http://example.org/other", "value": "1"}
    assert wrong(citizen(identifier(NATIONAL_ID, "NI", "001162645535"), card, own, elsewhere)) == []


def test_each_number_is_held_to_its_own_rules() -> None:
    assert wrong(citizen(identifier(NATIONAL_ID, "PI", "001162645535"))) == ["Patient.identifier[0].type"]
    assert wrong(citizen(identifier(NATIONAL_ID, "NI", "1"))) == ["Patient.identifier[0]"]
    assert wrong(citizen(identifier(PATIENT_NUMBER, "PI", "1"))) == ["Patient.identifier[0].assigner"]
    two = [identifier(NATIONAL_ID, "NI", number) for number in ("001162645535", "001311940480")]
    assert wrong(citizen(*two)) == ["Patient.identifier"]


def test_an_ethnic_group_is_one_of_the_list() -> None:
    assert wrong(citizen(group="99")) == ["Patient.extension[0].value"]
    without_list = found(citizen(), PATIENT, ETHNIC_GROUP)
    assert [issue.severity for issue in without_list] == ["warning"]
