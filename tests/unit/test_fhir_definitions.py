"""The generated R4 tables: the types are those of 4.0.1, numbered for good; outcomes are valid resources."""

from ehr.errors import Invalid, Issue
from ehr.fhir.outcome import of_error, operation_outcome
from ehr.fhir.primitives import PATTERNS
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.fhir.structure import PRIMITIVES, code_list, shape
from ehr.fhir.validate import validate


def test_there_are_146_types_with_permanent_numbers() -> None:
    assert len(TYPE_IDS) == 146
    assert sorted(TYPE_NAMES) == list(range(1, 147))
    assert [TYPE_IDS[name] for name in ("Account", "Observation", "Patient", "VisionPrescription")] == [1, 96, 103, 146]


def test_every_type_has_a_shape_and_every_element_a_known_type() -> None:
    seen: set[str] = set()
    pending = list(TYPE_IDS)
    while pending:
        kind = pending.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for member in shape(kind).members.values():
            if member.is_primitive:
                assert member.type in PATTERNS or member.type in PRIMITIVES
            elif member.type != "Resource":
                pending.append(member.type)
    assert {"Extension", "Observation.component", "Timing.repeat", "ElementDefinition.slicing.discriminator"} <= seen


def test_elements_are_those_of_4_0_1() -> None:
    assert "accounts" not in shape("Meta").members
    assert "url" not in shape("Binary").members
    assert "definitionReference" in shape("EvidenceVariable.characteristic").members
    assert "comparator" in shape("Quantity").members
    assert shape("Patient").members["deceasedDateTime"].element.name == "deceased"
    assert shape("Observation").members["subject"].element.targets == frozenset(
        {"Patient", "Group", "Device", "Location"}
    )


def test_bound_codes_are_those_of_4_0_1() -> None:
    assert code_list("http://hl7.org/fhir/ValueSet/administrative-gender") == ("male", "female", "other", "unknown")
    assert "VND" in (code_list("http://hl7.org/fhir/ValueSet/currencies") or ())
    assert code_list("http://hl7.org/fhir/ValueSet/mimetypes") is None


def test_outcomes_are_valid_resources() -> None:
    issues = [
        Issue("required", "status is required", "Observation.status"),
        Issue("value", "not a date", "PID-7.1", severity="warning"),
    ]
    outcome = operation_outcome(issues)
    assert validate(outcome) == []
    assert outcome["issue"][0]["expression"] == ["Observation.status"]
    assert outcome["issue"][1]["location"] == ["PID-7.1"]
    assert validate(operation_outcome([])) == []
    assert of_error(Invalid("no", issues=issues)) == outcome
