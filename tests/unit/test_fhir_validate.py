"""ehr.fhir.validate: each kind of mistake is found, at its path and with its issue code, and nothing else is."""

import copy
from decimal import Decimal
from typing import Any

import pytest

from ehr.fhir.validate import validate

Tree = dict[str, Any]

PATIENT: Tree = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"profile": ["http://example.org/StructureDefinition/p"], "lastUpdated": "2026-11-23T09:00:00+07:00"},
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>An</p></div>'},
    "extension": [{"url": "http://example.org/e", "valueString": "x"}],
    "identifier": [{"system": "http://example.org/id", "value": "1", "period": {"start": "2020", "end": "2021"}}],
    "active": True,
    "name": [{"use": "official", "family": "Nguyễn", "given": ["Văn", "An"]}],
    "telecom": [{"system": "phone", "value": "0900000000"}],
    "gender": "male",
    "birthDate": "1990-02-28",
    "deceasedBoolean": False,
    "contact": [{"name": {"text": "Bình"}}],
    "generalPractitioner": [{"reference": "Practitioner/d1"}],
    "managingOrganization": {"reference": "Organization/o1"},
}
OBSERVATION: Tree = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2026-11-23T09:00:00+07:00",
    "referenceRange": [{"low": {"value": 1}, "high": {"value": 2}}],
    "component": [
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueQuantity": {
                "value": Decimal("120.0"),
                "unit": "mmHg",
                "system": "http://unitsofmeasure.org",
                "code": "mm[Hg]",
            },
        },
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]},
            "valueQuantity": {
                "value": 80,
                "unit": "mmHg",
                "system": "http://unitsofmeasure.org",
                "code": "mm[Hg]",
            },
        },
    ],
}
CONDITION: Tree = {
    "resourceType": "Condition",
    "clinicalStatus": {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
    },
    "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10"}]},
    "subject": {"reference": "Patient/p1"},
}
MEDICATION_REQUEST: Tree = {
    "resourceType": "MedicationRequest",
    "status": "active",
    "intent": "order",
    "contained": [{"resourceType": "Medication", "id": "m1", "code": {"text": "Paracetamol"}}],
    "medicationReference": {"reference": "#m1"},
    "subject": {"reference": "Patient/p1"},
    "dosageInstruction": [{"timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}}],
}
BUNDLE: Tree = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": "urn:uuid:0a3a9b8c-5d0c-4d5e-8f55-1f6d5a9d3c01",
            "resource": {"resourceType": "Patient", "gender": "male"},
            "request": {"method": "POST", "url": "Patient"},
        },
        {
            "fullUrl": "urn:uuid:0a3a9b8c-5d0c-4d5e-8f55-1f6d5a9d3c02",
            "resource": {**OBSERVATION, "subject": {"reference": "urn:uuid:0a3a9b8c-5d0c-4d5e-8f55-1f6d5a9d3c01"}},
            "request": {"method": "POST", "url": "Observation"},
        },
    ],
}
ATTACHMENT: Tree = {
    "resourceType": "DocumentReference",
    "status": "current",
    "content": [{"attachment": {"contentType": "application/pdf", "data": "aGVsbG8="}}],
}
ALL = {tree["resourceType"]: tree for tree in (PATIENT, OBSERVATION, CONDITION, MEDICATION_REQUEST, BUNDLE, ATTACHMENT)}
ABSENT = object()

HERE = None

ELEMENTS = {
    "_birthDate": "birthDate",
    "_given": "given",
    "effectiveDateTime": "effective",
    "medicationReference": "medication",
    "multipleBirthInteger": "multipleBirth",
    "valueQuantity": "value",
}
"""JSON name → name of its element in FHIRPath."""

# type, path of what is changed, new value, issue code, where the issue is below the type (HERE: where the change is)
BROKEN: list[tuple[str, str, Any, str, str | None]] = [
    # structure
    ("Patient", "colour", "red", "structure", HERE),
    ("Patient", "name.0.nick", "x", "structure", HERE),
    ("Patient", "name", {"family": "x"}, "structure", HERE),
    ("Patient", "name", [], "structure", HERE),
    ("Patient", "name", ["x"], "structure", ".name[0]"),
    ("Patient", "name.0", {}, "structure", HERE),
    ("Patient", "gender", ["male"], "structure", HERE),
    ("Patient", "gender", None, "structure", HERE),
    ("Patient", "name.0.given", [None, "An"], "structure", ".name[0].given[0]"),
    ("Patient", "managingOrganization", "Organization/o1", "structure", HERE),
    ("Patient", "managingOrganization", {}, "structure", HERE),
    ("Patient", "Name", [{"text": "x"}], "structure", HERE),
    ("Observation", "component.1.valueQuantity.amount", 1, "structure", HERE),
    ("Observation", "valueDate", "2026-01-01", "structure", HERE),
    ("Observation", "component.0.valueString", "x", "structure", ".component[0].value"),
    ("Patient", "deceasedDateTime", "2026", "structure", ".deceased"),
    ("Patient", "_deceasedDateTime", {"id": "x"}, "structure", ".deceased"),
    # primitive extensions
    ("Patient", "_birthDate", {}, "structure", HERE),
    ("Patient", "_birthDate", "x", "structure", HERE),
    ("Patient", "_birthDate", {"value": "x"}, "structure", ".birthDate.value"),
    ("Patient", "_name", [{"id": "x"}], "structure", HERE),
    ("Patient", "name.0._given", {"id": "x"}, "structure", HERE),
    ("Patient", "name.0._given", [{"id": "x"}], "structure", HERE),
    ("Patient", "name.0._given", [None, {"extension": [{}]}], "structure", ".name[0].given[1].extension[0]"),
    # primitives
    ("Patient", "active", "true", "value", HERE),
    ("Patient", "active", 1, "value", HERE),
    ("Patient", "birthDate", "1990-02-30", "value", HERE),
    ("Patient", "birthDate", "2023-02-29", "value", HERE),
    ("Patient", "birthDate", "28/02/1990", "value", HERE),
    ("Patient", "birthDate", "1990-2-28", "value", HERE),
    ("Patient", "birthDate", "0000", "value", HERE),
    ("Patient", "birthDate", 1990, "value", HERE),
    ("Patient", "birthDate", "1990-02-28T00:00:00Z", "value", HERE),
    ("Patient", "birthDate", "", "value", HERE),
    ("Patient", "id", "p_1", "value", HERE),
    ("Patient", "id", "x" * 65, "value", HERE),
    ("Patient", "meta.lastUpdated", "2026-11-23", "value", HERE),
    ("Patient", "meta.lastUpdated", "2026-11-23T25:00:00Z", "value", HERE),
    ("Patient", "meta.profile.0", "http://a b", "value", HERE),
    ("Patient", "identifier.0.system", "a system", "value", HERE),
    ("Patient", "name.0.family", "", "value", HERE),
    ("Patient", "name.0.given.1", 7, "value", HERE),
    ("Patient", "text.div", "<p>An</p>", "value", HERE),
    ("Patient", "text.div", "<div><script>1</script></div>", "value", HERE),
    ("Patient", "text.div", '<div><b onclick="x()">An</b></div>', "value", HERE),
    ("Patient", "text.div", '<div><a href="javascript:x()">An</a></div>', "value", HERE),
    ("Patient", "text.div", '<div><a href="&#1;javascript:x()">An</a></div>', "value", HERE),
    ("Patient", "text.div", '<div><a href=" java&#10;script:x()">An</a></div>', "value", HERE),
    ("Patient", "text.div", '<div><a href="&#x6A;avascript&colon;x()">An</a></div>', "value", HERE),
    ("Patient", "text.div", '<div><a title="<!--" onclick="x()" name="-->">An</a></div>', "value", HERE),
    ("Patient", "text.div", '<div>An<!--><img src="x" onerror="x()"/>--></div>', "value", HERE),
    # in no time: each of these is looked through once
    ("Patient", "text.div", f"<div>An<a{' ' * 500_000}</div>", "value", HERE),
    ("Patient", "text.div", f"<div>An<a {'a' * 500_000}></div>", "value", HERE),
    ("Patient", "text.div", f"<div>An{'<!--' * 100_000}</div>", "value", HERE),
    ("Patient", "text.div", "<div><b>An</div>", "value", HERE),
    ("Patient", "text.div", "<div> </div>", "value", HERE),
    ("Patient", "text.div", "<div>Bone & joint</div>", "value", HERE),
    ("Patient", "text.div", "<div>a &unknown; b</div>", "value", HERE),
    ("Patient", "text.div", "<div>a &#0; b</div>", "value", HERE),
    ("Patient", "text.div", '<div title="a&b">An</div>', "value", HERE),
    ("Patient", "text.div", "<div>a ]]> b</div>", "value", HERE),
    ("Patient", "text.div", '<div><p o:x="1">An</p></div>', "value", HERE),
    ("Patient", "multipleBirthInteger", 1.5, "value", HERE),
    ("Patient", "multipleBirthInteger", 2**31, "value", HERE),
    ("Observation", "effectiveDateTime", "2026-11-23T09:00:00", "value", HERE),
    ("Observation", "effectiveDateTime", "2026-11-23T09:00+07:00", "value", HERE),
    ("Observation", "effectiveDateTime", "2026-11-23T09:00:00+15:00", "value", HERE),
    ("Observation", "component.1.valueQuantity.value", "80", "value", HERE),
    ("Observation", "component.1.valueQuantity.value", True, "value", HERE),
    ("Observation", "component.0.code.coding.0.code", " 1", "value", HERE),
    ("DocumentReference", "content.0.attachment.data", "aGVsbG8", "value", HERE),
    ("DocumentReference", "content.0.attachment.data", "a?==", "value", HERE),
    ("DocumentReference", "content.0.attachment.size", -1, "value", HERE),
    (
        "MedicationRequest",
        "dispenseRequest",
        {"numberOfRepeatsAllowed": "2"},
        "value",
        ".dispenseRequest.numberOfRepeatsAllowed",
    ),
    # cardinality
    ("Observation", "status", ABSENT, "required", HERE),
    ("Observation", "code", ABSENT, "required", HERE),
    ("Observation", "component.1.code", ABSENT, "required", HERE),
    ("MedicationRequest", "medicationReference", ABSENT, "required", ".medication"),
    ("Patient", "extension.0.url", ABSENT, "required", HERE),
    ("Patient", "text.status", ABSENT, "required", HERE),
    ("DocumentReference", "content", ABSENT, "required", HERE),
    ("Bundle", "entry.0.request.method", ABSENT, "required", HERE),
    # required bindings
    ("Patient", "gender", "M", "code-invalid", HERE),
    ("Patient", "name.0.use", "primary", "code-invalid", HERE),
    ("Observation", "status", "finished", "code-invalid", HERE),
    ("Condition", "clinicalStatus.coding.0.code", "closed", "code-invalid", ".clinicalStatus"),
    ("Condition", "clinicalStatus.coding.0.system", "http://example.org", "code-invalid", ".clinicalStatus"),
    ("Condition", "clinicalStatus", {"text": "active"}, "code-invalid", HERE),
    ("MedicationRequest", "dosageInstruction.0.timing.repeat.periodUnit", "day", "code-invalid", HERE),
    ("Bundle", "type", "bulk", "code-invalid", HERE),
    # references
    ("Observation", "subject.reference", "Practitioner/d1", "value", HERE),
    ("Observation", "subject.reference", "https://h/fhir/Practitioner/d1", "value", HERE),
    ("Observation", "subject.reference", "Practitioner?identifier=1", "value", HERE),
    ("Observation", "subject.reference", "Patients/p1", "value", HERE),
    ("Observation", "subject.reference", "Patient/p_1", "value", HERE),
    ("Observation", "subject.reference", "p1", "value", HERE),
    ("Observation", "subject.reference", "", "value", HERE),
    ("Observation", "subject.reference", "#p1", "invariant", HERE),
    ("Observation", "subject.type", "Practitioner", "value", HERE),
    ("MedicationRequest", "medicationReference.reference", "#m2", "invariant", HERE),
    ("MedicationRequest", "subject.reference", "#m1", "value", HERE),
    # contained resources and entries
    ("MedicationRequest", "contained.0.resourceType", "Resource", "structure", HERE),
    ("MedicationRequest", "contained.0.resourceType", ABSENT, "structure", HERE),
    ("MedicationRequest", "contained.0.status", "x", "code-invalid", HERE),
    (
        "MedicationRequest",
        "contained.0.contained",
        [{"resourceType": "Basic", "id": "b", "code": {"text": "x"}}],
        "invariant",
        HERE,
    ),
    ("MedicationRequest", "contained.0.meta", {"versionId": "1"}, "invariant", HERE),
    (
        "MedicationRequest",
        "contained.0.meta",
        {"security": [{"code": "R"}]},
        "invariant",
        ".contained[0].meta.security",
    ),
    ("MedicationRequest", "contained.1", {"resourceType": "Medication", "id": "m9"}, "invariant", HERE),
    (
        "MedicationRequest",
        "contained.1",
        {"resourceType": "Medication", "id": "m1"},
        "value",
        ".contained[1].id",
    ),
    ("Bundle", "entry.0.resource.resourceType", "DomainResource", "structure", HERE),
    ("Bundle", "entry.0.resource.gender", "M", "code-invalid", HERE),
    ("Bundle", "entry.1.resource.component.1.valueQuantity.value", "80", "value", HERE),
    # invariants
    ("Patient", "identifier.0.period.end", "2019", "invariant", ".identifier[0].period"),
    ("Patient", "telecom.0.system", ABSENT, "invariant", ".telecom[0]"),
    ("Patient", "contact.0", {"gender": "male"}, "invariant", HERE),
    ("Patient", "extension.0.extension", [{"url": "a", "valueCode": "b"}], "invariant", ".extension[0]"),
    ("Patient", "extension.0.valueString", ABSENT, "invariant", ".extension[0]"),
    ("Observation", "component.0.valueQuantity.system", ABSENT, "invariant", ".component[0].value"),
    ("Observation", "referenceRange.0", {"type": {"text": "x"}}, "invariant", HERE),
    ("Condition", "abatementDateTime", "2026", "invariant", ""),
    ("DocumentReference", "content.0.attachment.contentType", ABSENT, "invariant", ".content[0].attachment"),
    (
        "MedicationRequest",
        "dosageInstruction.0.timing.repeat.periodUnit",
        ABSENT,
        "invariant",
        ".dosageInstruction[0].timing.repeat",
    ),
    (
        "MedicationRequest",
        "dosageInstruction.0.timing.repeat.period",
        -1,
        "invariant",
        ".dosageInstruction[0].timing.repeat",
    ),
    ("Bundle", "total", 2, "invariant", ""),
    ("Bundle", "entry.0.request", ABSENT, "invariant", ""),
    ("Bundle", "entry.0.search", {"mode": "match"}, "invariant", ""),
    ("Bundle", "entry.1.fullUrl", BUNDLE["entry"][0]["fullUrl"], "invariant", ""),
    ("Bundle", "entry.0.fullUrl", "http://h/Patient/1/_history/2", "invariant", ".entry[0]"),
]


def changed(tree: Tree, path: str, value: Any) -> Tree:
    """A copy of the tree with one value replaced, added or taken out."""
    copied = copy.deepcopy(tree)
    *way, last = path.split(".")
    node: Any = copied
    for step in way:
        node = node[int(step)] if isinstance(node, list) else node[step]
    if isinstance(node, list) and int(last) == len(node):
        node.append(value)
    elif value is ABSENT:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return copied


@pytest.mark.parametrize("tree", ALL.values(), ids=ALL)
def test_what_is_right_has_no_issues(tree: Tree) -> None:
    assert validate(tree) == []


@pytest.mark.parametrize(("type_name", "path", "value", "code", "at"), BROKEN)
def test_one_mistake_is_found_where_it_is(type_name: str, path: str, value: Any, code: str, at: str | None) -> None:
    issues = validate(changed(ALL[type_name], path, value))
    here = "".join(f"[{step}]" if step.isdigit() else f".{ELEMENTS.get(step, step)}" for step in path.split("."))
    assert (code, type_name + (here if at is HERE else at)) in [(issue.code, issue.at) for issue in issues]
    assert all(issue.severity == "error" for issue in issues)


def test_issues_say_nothing_of_the_values() -> None:
    secret = "Nguyễn Văn An 001090012345"
    for path in ("gender", "birthDate", "id", "active", "meta.lastUpdated", "name.0.use", "text.div"):
        issues = validate(changed(PATIENT, path, secret))
        assert issues
        assert not any(secret in issue.text or secret in (issue.at or "") for issue in issues)


def test_every_mistake_is_told_at_once() -> None:
    tree = copy.deepcopy(OBSERVATION)
    tree["status"] = "done"
    tree["subject"]["reference"] = "Practitioner/1"
    tree["component"][0]["valueQuantity"]["value"] = "x"
    tree["component"][1]["foo"] = 1
    del tree["code"]
    assert {issue.at for issue in validate(tree)} == {
        "Observation.status",
        "Observation.subject.reference",
        "Observation.component[0].value.value",
        "Observation.component[1].foo",
        "Observation.code",
    }


@pytest.mark.parametrize("name", ["Resource", "DomainResource", "Element", "Bogus", "", None, 7, ["Patient"]])
def test_the_type_must_be_concrete(name: Any) -> None:
    assert [issue.at for issue in validate({"resourceType": name})] == ["resourceType"]


def test_the_type_must_be_the_one_of_the_address() -> None:
    assert [issue.at for issue in validate(PATIENT, type_name="Observation")] == ["resourceType"]
    assert validate(PATIENT, type_name="Patient") == []


@pytest.mark.parametrize("number", [80, 80.5, Decimal("80.50"), -0.0, 10**25, Decimal("1E-30")])
def test_numbers_may_be_int_float_or_decimal(number: object) -> None:
    assert validate(changed(OBSERVATION, "component.0.valueQuantity.value", number)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("birthDate", "1990"),
        ("birthDate", "1990-02"),
        ("birthDate", "2024-02-29"),
        ("_birthDate", {"extension": [{"url": "http://example.org/t", "valueDateTime": "1990-02-28T01:00:00Z"}]}),
        ("name.0.given", ["Văn", None]),
        ("meta.lastUpdated", "2026-12-31T23:59:60.123456Z"),
        ("contained", [{"resourceType": "Organization", "id": "o1", "name": "x"}]),
        ("deceasedBoolean", True),
        ("language", "vi"),
    ],
)
def test_what_the_specification_allows_is_accepted(path: str, value: Any) -> None:
    tree = changed(PATIENT, path, value)
    if path == "name.0.given":
        tree["name"][0]["_given"] = [
            None,
            {"id": "x", "extension": [{"url": "http://example.org/e", "valueCode": "x"}]},
        ]
    if path == "contained":
        tree["managingOrganization"]["reference"] = "#o1"
    assert validate(tree) == []


def test_a_primitive_with_an_extension_only_counts_as_present() -> None:
    tree = changed(OBSERVATION, "status", ABSENT)
    tree["_status"] = {"extension": [{"url": "http://example.org/why", "valueCode": "unknown"}]}
    assert validate(tree) == []


def test_a_period_is_compared_across_zones() -> None:
    tree = changed(
        PATIENT, "identifier.0.period", {"start": "2026-01-01T08:00:00+07:00", "end": "2026-01-01T01:30:00Z"}
    )
    assert validate(tree) == []
    tree["identifier"][0]["period"]["end"] = "2026-01-01T00:30:00Z"
    assert [issue.at for issue in validate(tree)] == ["Patient.identifier[0].period"]
