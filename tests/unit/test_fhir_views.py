"""ViewDefinitions: what each part of a view makes of resources, and what is refused with its place."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ehr.errors import EhrError, Invalid
from ehr.fhir import codec
from ehr.fhir.views import View

Tree = dict[str, Any]

HOA: Tree = {
    "resourceType": "Patient",
    "id": "hoa",
    "active": True,
    "birthDate": "1978-03-12",
    "name": [{"use": "official", "family": "Lê", "given": ["Thị", "Hoa"]}, {"use": "nickname", "given": ["Hoa"]}],
    "contact": [
        {"name": {"family": "Lê"}, "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}]},
        {"name": {"family": "Vũ"}, "telecom": [{"system": "phone", "value": "3"}]},
    ],
    "link": [{"type": "seealso", "other": {"reference": "Patient/hoa"}}],
    "generalPractitioner": [{"reference": "Practitioner/x"}],
}
AN: Tree = {"resourceType": "Patient", "id": "an", "active": False}
FORM: Tree = {
    "resourceType": "QuestionnaireResponse",
    "id": "form",
    "status": "completed",
    "item": [
        {"linkId": "1", "item": [{"linkId": "1.1", "answer": [{"valueString": "a", "item": [{"linkId": "1.1.1"}]}]}]},
        {"linkId": "2"},
    ],
}
RESULT = codec.loads(
    b'{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10},"effectiveInstant":"2026-01-01T00:00:00Z"}'
)


def columns(*given: str, **typed: str) -> list[Tree]:
    """name=path, or the path alone under its own name."""
    pairs = [one.split("=", 1) if "=" in one else (one, one) for one in given] + list(typed.items())
    return [{"name": name, "path": path} for name, path in pairs]


def rows(view: Tree, *resources: Tree) -> list[Tree]:
    read = View({"resource": "Patient", **view})
    made = [row for one in resources for row in read.rows(one)]
    for row in made:
        assert list(row) == [column.name for column in read.columns]
    return made


def values(view: Tree, *resources: Tree) -> list[list[Any]]:
    return [list(row.values()) for row in rows(view, *resources)]


ID = {"column": columns("id")}
CASES: dict[str, tuple[Tree, list[Tree], list[list[Any]]]] = {
    "columns": ({"select": [{"column": columns("id", "active", "born=birthDate")}]}, [HOA, AN],
                [["hoa", True, "1978-03-12"], ["an", False, None]]),
    "other types give nothing": ({"select": [ID]}, [FORM], []),
    "selects beside each other": ({"select": [ID, {"column": columns("active")}]}, [AN], [["an", False]]),
    "a collection": ({"select": [{"column": [{"name": "given", "path": "name.given", "collection": True}]}]}, [HOA, AN],
                     [[["Thị", "Hoa", "Hoa"]], [[]]]),
    "forEach": ({"select": [ID, {"forEach": "name", "column": columns("use")}]}, [HOA, AN],
                [["hoa", "official"], ["hoa", "nickname"]]),
    "forEachOrNull": ({"select": [ID, {"forEachOrNull": "name", "column": columns("use", "c='x'")}]}, [HOA, AN],
                      [["hoa", "official", "x"], ["hoa", "nickname", "x"], ["an", None, "x"]]),
    "forEachOrNull keeps one row, whatever is iterated within": (
        {"select": [ID, {"forEachOrNull": "contact", "column": columns("of=name.family"), "select": [
            {"forEach": "telecom", "column": columns("value")}]}]}, [HOA, AN],
        [["hoa", "Lê", "1"], ["hoa", "Lê", "2"], ["hoa", "Vũ", "3"], ["an", None, None]]),
    "forEachOrNull keeps one row, whatever is united within": (
        {"select": [ID, {"forEachOrNull": "contact", "unionAll": [
            {"column": [{"name": "v", "path": "telecom.value", "collection": True}, *columns("n='tel'")]},
            {"column": [{"name": "v", "path": "name.given", "collection": True}, *columns("n='name'")]}]}]}, [AN],
        [["an", [], None]]),
    "forEach within forEach": (
        {"select": [{"forEach": "contact", "column": columns("of=name.family"), "select": [
            {"forEach": "telecom", "column": columns("value")}]}]}, [HOA],
        [["Lê", "1"], ["Lê", "2"], ["Vũ", "3"]]),
    "two forEach make every pair": (
        {"select": [{"forEach": "name", "column": columns("use")},
                    {"forEach": "contact", "column": columns("of=name.family")}]}, [HOA],
        [["official", "Lê"], ["official", "Vũ"], ["nickname", "Lê"], ["nickname", "Vũ"]]),
    "a union": (
        {"select": [{"column": columns("id"), "unionAll": [
            {"forEach": "contact.telecom", "column": columns("value")},
            {"forEach": "name", "column": columns("value=family")}]}]}, [HOA, AN],
        [["hoa", "1"], ["hoa", "2"], ["hoa", "3"], ["hoa", "Lê"], ["hoa", None]]),
    "a union in a union": (
        {"select": [{"unionAll": [{"column": columns("v=id")}, {"unionAll": [
            {"column": columns("v='a'")}, {"forEach": "name", "column": columns("v=use")}]}]}]}, [HOA],
        [["hoa"], ["a"], ["official"], ["nickname"]]),
    "repeat goes down first": (
        {"resource": "QuestionnaireResponse",
         "select": [{"repeat": ["item", "answer.item"], "column": columns("linkId", "n=%rowIndex")}]}, [FORM],
        [["1", 0], ["1.1", 1], ["1.1.1", 2], ["2", 3]]),
    "repeat of what is not there": (
        {"select": [ID, {"repeat": ["contact.nothing"], "column": columns("x=id")}]}, [HOA], []),
    "where": ({"select": [ID], "where": [{"path": "active"}, {"path": "name.exists()"}]}, [HOA, AN], [["hoa"]]),
    "where that is empty": ({"select": [ID], "where": [{"path": "birthDate > @1970-01-01"}]}, [HOA, AN], [["hoa"]]),
    "constants": (
        {"constant": [{"name": "use", "valueCode": "official"}, {"name": "day", "valueDate": "1978-03-12"}],
         "select": [{"column": columns("f=name.where(use = %use).family", "same=birthDate = %day")}]}, [HOA, AN],
        [["Lê", True], [None, None]]),
    "a decimal constant, and digits": (
        {"resource": "Observation", "constant": [{"name": "v", "valueDecimal": 1.5}],
         "select": [{"column": columns("less=value.ofType(Quantity).value < %v", "q=value.ofType(Quantity).value")}]},
        [RESULT], [[True, RESULT["valueQuantity"]["value"]]]),
    "rowIndex": (
        {"select": [{"column": columns("top=%rowIndex")}, {"forEachOrNull": "contact", "column": columns("c=%rowIndex"),
                    "select": [{"forEachOrNull": "telecom", "column": columns("t=%rowIndex")}]}]}, [HOA, AN],
        [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]]),
    "keys": (
        {"select": [{"column": columns(
            "own=getResourceKey() = link.other.getReferenceKey(Patient)", "other=link.other.getReferenceKey(Group)",
            "gp=generalPractitioner.getReferenceKey()", "key=getResourceKey()")}]}, [HOA, AN],
        [[True, None, "Practitioner/x", "Patient/hoa"], [None, None, None, "Patient/an"]]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_of(name: str) -> None:
    view, resources, expected = CASES[name]
    assert values(view, *resources) == expected


REFUSED: dict[str, tuple[Tree, str]] = {
    "no type": ({"resource": "Nothing", "select": [ID]}, "ViewDefinition.resource"),
    "no select": ({}, "ViewDefinition.select"),
    "a select of nothing": ({"select": [{"forEach": "name"}]}, "ViewDefinition.select[0]"),
    "an unknown element": ({"select": [{**ID, "joins": []}]}, "ViewDefinition.select[0].joins"),
    "no FHIRPath": ({"select": [{"column": columns("x=@@")}]}, "ViewDefinition.select[0].column[0].path"),
    "forEach that is no text": ({"select": [{**ID, "forEach": 1}]}, "ViewDefinition.select[0].forEach"),
    "two ways to iterate": (
        {"select": [{**ID, "forEach": "name", "repeat": ["name"]}]},
        "ViewDefinition.select[0].repeat",
    ),
    "repeat that never moves": (
        {"select": [{"repeat": ["$this"], "column": columns("x=id")}]},
        "ViewDefinition.select[0].repeat",
    ),
    "a name that is none": ({"select": [{"column": columns("a-b=id")}]}, "ViewDefinition.select[0].column[0].name"),
    "a column twice": ({"select": [ID, ID]}, "ViewDefinition.select.column.name"),
    "a union of others": (
        {"select": [{"unionAll": [{"column": columns("id", "active")}, {"column": columns("active", "id")}]}]},
        "ViewDefinition.select[0].unionAll",
    ),
    "a union of other types": (
        {
            "select": [
                {
                    "unionAll": [
                        {"column": [{"name": "v", "path": "id", "type": "id"}]},
                        {"column": [{"name": "v", "path": "active", "type": "boolean"}]},
                    ]
                }
            ]
        },
        "ViewDefinition.select[0].unionAll",
    ),
    "several values": ({"select": [{"column": columns("g=name.given")}]}, "ViewDefinition.select[0].column[0].path"),
    "no primitive": ({"select": [{"column": columns("n=name.first()")}]}, "ViewDefinition.select[0].column[0].path"),
    "a where that is no boolean": (
        {"select": [ID], "where": [{"path": "name.given"}]},
        "ViewDefinition.where[0].path",
    ),
    "a constant that is not there": (
        {"select": [{"column": columns("x=name.where(use = %other).exists()")}]},
        "ViewDefinition.select[0].column[0].path",
    ),
    "a constant without value": ({"select": [ID], "constant": [{"name": "x"}]}, "ViewDefinition.constant[0]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_view_is_refused_with_its_place(name: str) -> None:
    view, at = REFUSED[name]
    with pytest.raises(Invalid) as refused:
        rows(view, HOA)
    assert refused.value.issues[0].at == at


OTHERWISE = {
    "constant: constant in where element": "its where is no boolean, which the group validate refuses",
    "constant: boolean constant": "gives true as valueInteger",
    "fhirpath: string join": "FHIRPath says that nothing joined is nothing; it expects an empty text",
    "fhirpath: string join: default separator": "the same",
    "fhirpath: getReferenceKey()": "keys are opaque; it expects the id alone, and a key of another server's resource",
    "fhirpath: getReferenceKey(Organization)": "the same",
}
"""Public cases that are not followed, and why (docs/conformance.md)."""


def public_cases() -> list[Any]:
    """The guide's own cases, where somebody has put them in a folder; they are not ours to keep."""
    folder = os.environ.get("SQL_ON_FHIR_TESTS")
    found = sorted(Path(folder).glob("*.json")) if folder else []
    made = []
    for whole in (codec.loads(place.read_bytes()) for place in found):
        for case in whole["tests"]:
            name = f"{whole['title']}: {case['title']}"
            marks = [pytest.mark.xfail(reason=OTHERWISE[name], strict=True)] if name in OTHERWISE else []
            made.append(pytest.param(whole["resources"], case, id=name, marks=marks))
    return made or [pytest.param([], {}, marks=pytest.mark.skip(reason="SQL_ON_FHIR_TESTS names no folder of cases"))]


@pytest.mark.parametrize(("resources", "case"), public_cases())
def test_public_case(resources: list[Tree], case: Tree) -> None:
    if case.get("expectError"):
        with pytest.raises(EhrError):
            [View(case["view"]).rows(one) for one in resources]
        return
    view = View(case["view"])
    made = [row for one in resources for row in view.rows(one)]
    if "expectColumns" in case:
        assert [column.name for column in view.columns] == case["expectColumns"]
    if "expectCount" in case:
        assert len(made) == case["expectCount"]
    if "expect" in case:
        assert in_any_order(made) == in_any_order(case["expect"])


def in_any_order(rows: list[Tree]) -> list[str]:
    return sorted(json.dumps(json.loads(codec.dumps(row)), sort_keys=True) for row in rows)
