"""What an expression gives: values, their types and their places; what it asks of its environment."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from ehr.fhir import fhirpath
from ehr.fhir.fhirpath import Environment, ExpressionError, Item

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "contained": [{"resourceType": "Organization", "id": "o1", "name": "Trạm y tế"}],
    "name": [{"use": "official", "family": "Nguyễn", "given": ["Văn", "An"]}, {"use": "usual", "given": ["Bi"]}],
    "birthDate": "1990-05",
    "_birthDate": {"extension": [{"url": "http://example.org/time", "valueDateTime": "1990-05-01T08:00:00+07:00"}]},
    "deceasedBoolean": False,
    "managingOrganization": {"reference": "#o1"},
    "generalPractitioner": [{"reference": "Practitioner/1"}],
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "valueQuantity": {"value": Decimal("13.50"), "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
}


def paths(expression: str, tree: dict[str, Any] = PATIENT) -> list[str | None]:
    return [item.path for item in fhirpath.compile(expression).evaluate(tree)]


def test_items_know_where_they_lie() -> None:
    (item,) = fhirpath.compile("name.where(use = 'official').given.last()").evaluate(PATIENT)
    assert (item.value, item.type, item.path) == ("An", "string", "Patient.name[0].given[1]")
    assert item.parent is not None
    assert item.parent.value[item.name][item.index] == "An"


def test_a_choice_is_one_element_under_its_plain_name() -> None:
    (item,) = fhirpath.compile("Observation.value").evaluate(OBSERVATION)
    assert (item.type, item.name, item.path) == ("Quantity", "valueQuantity", "Observation.value")
    assert fhirpath.compile("value.ofType(Quantity).value").values(OBSERVATION) == [Decimal("13.50")]
    assert fhirpath.compile("value.ofType(string)").values(OBSERVATION) == []
    assert fhirpath.compile("deceased").values(PATIENT) == [False]


def test_a_primitive_has_extensions() -> None:
    assert fhirpath.compile("birthDate.extension('http://example.org/time').value").values(PATIENT) == [
        "1990-05-01T08:00:00+07:00"
    ]
    assert paths("birthDate.extension") == ["Patient.birthDate.extension[0]"]


def test_a_primitive_with_extensions_only_is_there_without_a_value() -> None:
    tree = {"resourceType": "Patient", "_birthDate": {"extension": [{"url": "u", "valueCode": "unknown"}]}}
    assert fhirpath.compile("birthDate.exists() and birthDate.hasValue().not()").holds(tree)


def test_contained_resources_have_their_own_type() -> None:
    assert fhirpath.compile("contained.ofType(Organization).name").values(PATIENT) == ["Trạm y tế"]
    assert fhirpath.compile("contained is Organization").holds(PATIENT)


def test_an_element_is_evaluated_in_its_resource() -> None:
    contact = {"name": {"text": "Bố"}}
    assert fhirpath.compile("name.exists() and %resource.id = 'p1' and %context.name.text = 'Bố'").holds(
        contact, type_name="Patient.contact", resource=PATIENT
    )


def test_a_start_item_keeps_its_place() -> None:
    (name,) = fhirpath.compile("name[1]").evaluate(PATIENT)
    (given,) = fhirpath.compile("given").evaluate(name)
    assert given.path == "Patient.name[1].given[0]"
    assert fhirpath.compile("%resource.birthDate").values(name) == ["1990-05"]


def test_references_are_resolved_by_the_caller_or_in_the_resource() -> None:
    environment = Environment(resolve=lambda text: {"resourceType": "Practitioner", "id": text.partition("/")[2]})
    assert fhirpath.compile("generalPractitioner.resolve().id").values(PATIENT, environment=environment) == ["1"]
    assert fhirpath.compile("managingOrganization.resolve().name").values(PATIENT) == ["Trạm y tế"]
    with pytest.raises(ExpressionError, match="nobody to ask"):
        fhirpath.compile("generalPractitioner.resolve()").evaluate(PATIENT)


def test_value_sets_are_asked_of_the_caller() -> None:
    asked = []

    def member_of(value: Any, type_name: str, value_set: str) -> bool | None:
        asked.append((value, type_name, value_set))
        return None

    environment = Environment(member_of=member_of)
    assert (
        fhirpath.compile("name[0].use.memberOf('http://example.org/vs')").values(PATIENT, environment=environment) == []
    )
    assert asked == [("official", "code", "http://example.org/vs")]


def test_variables_and_functions_of_the_caller() -> None:
    def key(items: Sequence[Item], _arguments: Sequence[Sequence[Item]]) -> list[Item]:
        return [Item(f"{item.type}/{item.value['id']}", "System.String") for item in items]

    environment = Environment(variables={"wanted": ["p1", "p2"]}, functions={"getResourceKey": key})
    expression = fhirpath.compile("id in %wanted and getResourceKey() = 'Patient/p1'", frozenset({"getResourceKey"}))
    assert expression.holds(PATIENT, environment=environment)
    with pytest.raises(ExpressionError, match="no function getResourceKey"):
        fhirpath.compile("getResourceKey()")
    with pytest.raises(ExpressionError, match="%wanted is not defined"):
        fhirpath.compile("%wanted").evaluate(PATIENT)


def test_the_same_text_is_compiled_once() -> None:
    assert fhirpath.compile("name.given") is fhirpath.compile("name.given")


def test_decimals_stay_exact_whoever_read_the_json() -> None:
    for value in (Decimal("0.1"), 0.1):
        tree = {"resourceType": "Observation", "valueQuantity": {"value": value}}
        assert fhirpath.compile("value.value + 0.2 = 0.3").holds(tree)


def test_unknown_members_are_empty_or_refused() -> None:
    assert fhirpath.compile("name.given1").values(PATIENT) == []
    with pytest.raises(ExpressionError, match="HumanName has no element given1"):
        fhirpath.compile("name.given1").evaluate(PATIENT, environment=Environment(is_strict=True))


def test_json_that_is_not_fhir_is_walked_by_its_names() -> None:
    view = {"resourceType": "ViewDefinition", "select": [{"column": [{"name": "id", "path": "id"}]}]}
    assert fhirpath.compile("select.column.name").values(view) == ["id"]


@pytest.mark.parametrize(
    ("expression", "at"),
    [("name.", 6), ("name.given[", 12), ("1 + ", 5), ("'a", 1), ("a b", 3), ("$that", 1), ("@T14:34Z", 8)],
)
def test_what_cannot_be_read_is_refused_with_its_position(expression: str, at: int) -> None:
    with pytest.raises(ExpressionError, match=f"position {at}$|position {at} "):
        fhirpath.compile(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "(98.6 '[degF]').toQuantity('Cel').value = 37",
        "(1 'g' + 500 'mg') = 1.5 'g'",
        "(1 'Cel' + 1 '[degF]').empty()",
        "(37 'Cel' + 1 'Cel') = 38 'Cel'",
        "(90 minutes).toQuantity('hours') = 1.5 hours",
        "(2 'g').toQuantity('L').empty()",
        "37 'Cel' = 98.6 '[degF]'",
        "37 'Cel' > 98 '[degF]'",
    ],
)
def test_quantities_are_converted_and_added(expression: str) -> None:
    assert fhirpath.compile(expression).holds({"resourceType": "Basic"})
