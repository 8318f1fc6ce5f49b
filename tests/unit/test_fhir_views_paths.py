"""What views may say: the functions, operators, types and combinations that SQL on FHIR v2 names, in our words."""

from decimal import Decimal
from typing import Any

import pytest

from ehr.errors import EhrError
from ehr.fhir import codec
from ehr.fhir.views import View

Tree = dict[str, Any]

RACE = "urn:example:origin"
LAN: Tree = {
    "resourceType": "Patient",
    "id": "lan",
    "active": True,
    "gender": "female",
    "birthDate": "1970-06",
    "deceasedBoolean": False,
    "name": [
        {"use": "official", "family": "Đỗ", "given": ["Thị", "Lan"]},
        {"use": "old", "family": "Lý", "given": ["Lan"]},
    ],
    "telecom": [{"system": "phone", "value": "024"}, {"system": "email", "value": "lan@example.vn"}],
    "contact": [
        {"telecom": [{"system": "phone", "value": "1"}]},
        {"telecom": [{"system": "phone", "value": "2"}, {"system": "sms", "value": "3"}]},
    ],
    "extension": [
        {"url": "urn:example:sex", "valueCode": "F"},
        {
            "url": RACE,
            "extension": [{"url": "group", "valueCoding": {"code": "kinh"}}, {"url": "x", "valueString": "x"}],
        },
    ],
    "managingOrganization": {"reference": "Organization/o"},
}
BA: Tree = {"resourceType": "Patient", "id": "ba", "active": False, "gender": "male", "telecom": [{"value": "028"}]}
VO: Tree = {"resourceType": "Patient", "id": "vo"}
PEOPLE = [LAN, BA, VO]


def result(id: str, **value: Any) -> Tree:
    return {"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"}, **value}


def of(path: str, *resources: Tree, **view: Any) -> list[Any]:
    """What a column of this path has for each resource."""
    kind = resources[0]["resourceType"]
    read = View({"resource": kind, "select": [{"column": [{"name": "v", "path": path}]}], **view})
    return [row["v"] for one in resources for row in read.rows(one)]


PATHS: dict[str, list[Any]] = {
    "name[0].family": ["Đỗ", None, None],
    "name[1].family": ["Lý", None, None],
    "name[2].family": [None, None, None],
    "name.family.first()": ["Đỗ", None, None],
    "name.first().given.first()": ["Thị", None, None],
    "name.where(use = 'old').family": ["Lý", None, None],
    "name.exists()": [True, False, False],
    "name.given.exists()": [True, False, False],
    "name.empty()": [False, True, True],
    "name.given.join(', ')": ["Thị, Lan, Lan", None, None],
    "name.given.join()": ["ThịLanLan", None, None],
    "name.given.join('')": ["ThịLanLan", None, None],
    "active.not()": [False, True, None],
    "active and gender = 'female'": [True, False, None],
    "active or gender = 'male'": [True, True, None],
    "deceased.ofType(boolean)": [False, None, None],
    "extension('urn:example:sex').value.ofType(code).first()": ["F", None, None],
    f"extension('{RACE}').extension('group').value.ofType(Coding).code": ["kinh", None, None],
    "birthDate.lowBoundary()": ["1970-06-01", None, None],
    "birthDate.highBoundary()": ["1970-06-30", None, None],
    "getResourceKey()": ["Patient/lan", "Patient/ba", "Patient/vo"],
    "managingOrganization.getReferenceKey()": ["Organization/o", None, None],
    "managingOrganization.getReferenceKey(Organization)": ["Organization/o", None, None],
    "managingOrganization.getReferenceKey(Patient)": [None, None, None],
}


@pytest.mark.parametrize("path", PATHS)
def test_paths(path: str) -> None:
    assert of(path, *PEOPLE) == PATHS[path]


BOUNDARIES: dict[str, tuple[Tree, Any, Any]] = {
    "value.ofType(Quantity).value": (
        {"valueQuantity": {"value": Decimal("1.0")}},
        Decimal("0.95"),
        Decimal("1.05"),
    ),
    "value.ofType(dateTime)": (
        {"valueDateTime": "2010-10-10"},
        "2010-10-10T00:00:00.000+14:00",
        "2010-10-10T23:59:59.999-12:00",
    ),
    "value.ofType(time)": ({"valueTime": "12:34"}, "12:34:00.000", "12:34:59.999"),
}


@pytest.mark.parametrize("path", BOUNDARIES)
def test_boundaries(path: str) -> None:
    value, low, high = BOUNDARIES[path]
    assert of(f"{path}.lowBoundary()", result("a", **value), result("b")) == [low, None]
    assert of(f"{path}.highBoundary()", result("a", **value), result("b")) == [high, None]


COMPARED = {"=": False, "!=": True, ">": True, ">=": True, "<": False, "<=": False}
NUMBERS = {"+": 5, "-": 1, "*": 6, "/": Decimal("1.5"), **COMPARED}


@pytest.mark.parametrize("operator", NUMBERS)
def test_operators_of_numbers(operator: str) -> None:
    both = result("o", valueRange={"low": {"value": 2}, "high": {"value": 3}})
    path = f"value.ofType(Range).high.value {operator} value.ofType(Range).low.value"
    assert of(path, both) == [NUMBERS[operator]]


UUID = "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7"
CONSTANTS: dict[str, tuple[Any, str, Tree, Tree]] = {
    "Base64Binary": (
        "eA==",
        "data",
        {"resourceType": "Binary", "data": "eA=="},
        {"resourceType": "Binary", "data": "eQ=="},
    ),
    "Boolean": (True, "active", LAN, BA),
    "Canonical": (UUID, "url", {"resourceType": "Measure", "url": UUID}, {"resourceType": "Measure", "url": "urn:x"}),
    "Code": ("female", "gender", LAN, BA),
    "Date": ("1978-03-12", "birthDate", {**LAN, "birthDate": "1978-03-12"}, {**LAN, "birthDate": "1978-03-13"}),
    "DateTime": (
        "2016-11-12",
        "value.ofType(dateTime)",
        result("a", valueDateTime="2016-11-12"),
        result("b", valueDateTime="2017-11-12"),
    ),
    "Decimal": (
        Decimal("1.20"),
        "value.ofType(Quantity).value",
        result("a", valueQuantity={"value": Decimal("1.2")}),
        result("b", valueQuantity={"value": Decimal("1.3")}),
    ),
    "Id": ("lan", "id", LAN, BA),
    "Instant": (
        "2015-02-07T13:28:17.239+02:00",
        "issued",
        result("a", issued="2015-02-07T13:28:17.239+02:00"),
        result("b", issued="2015-02-07T13:28:17.240+02:00"),
    ),
    "Integer": (3, "value.ofType(integer)", result("a", valueInteger=3), result("b", valueInteger=4)),
    "Oid": (
        "urn:oid:1.2",
        "output.value.ofType(oid)",
        {"resourceType": "Task", "output": [{"valueOid": "urn:oid:1.2"}]},
        {"resourceType": "Task", "output": [{"valueOid": "urn:oid:1.3"}]},
    ),
    "PositiveInt": (
        1,
        "item.itemSequence",
        {"resourceType": "ClaimResponse", "item": [{"itemSequence": 1}]},
        {"resourceType": "ClaimResponse", "item": [{"itemSequence": 2}]},
    ),
    "String": ("Đỗ", "name[0].family", LAN, {**LAN, "name": [{"family": "Do"}]}),
    "Time": ("18:12:00", "value.ofType(time)", result("a", valueTime="18:12:00"), result("b", valueTime="18:13:00")),
    "UnsignedInt": (
        9,
        "numberOfSeries",
        {"resourceType": "ImagingStudy", "numberOfSeries": 9},
        {"resourceType": "ImagingStudy", "numberOfSeries": 8},
    ),
    "Uri": (UUID, "url", {"resourceType": "Measure", "url": UUID}, {"resourceType": "Measure", "url": "urn:x"}),
    "Url": (
        "http://a.example",
        "output.value.ofType(url)",
        {"resourceType": "Task", "output": [{"valueUrl": "http://a.example"}]},
        {"resourceType": "Task", "output": [{"valueUrl": "http://b.example"}]},
    ),
    "Uuid": (
        UUID,
        "output.value.ofType(uuid)",
        {"resourceType": "Task", "output": [{"valueUuid": UUID}]},
        {"resourceType": "Task", "output": [{"valueUuid": UUID.replace("5", "6")}]},
    ),
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_constants_of_every_type(kind: str) -> None:
    value, path, same, other = CONSTANTS[kind]
    constant = [{"name": "wanted", f"value{kind}": value}]
    nothing = {"resourceType": same["resourceType"], "id": "n"}
    assert of(f"{path} = %wanted", same, other, constant=constant) == [True, False]
    if path != "id":
        assert of(f"{path} = %wanted", nothing, constant=constant) == [None]


def columns(**paths: str) -> list[Tree]:
    return [{"name": name, "path": path} for name, path in paths.items()]


PHONES = {"forEach": "telecom", "column": columns(v="value")}
OTHERS = {"forEach": "contact.telecom", "column": columns(v="value")}
COMBINED: dict[str, tuple[list[Tree], list[list[Any]]]] = {
    "a select in a select": ([{"select": [{"column": columns(a="id")}]}], [["lan"], ["ba"], ["vo"]]),
    "selects side by side in a select": (
        [{"select": [{"column": columns(a="id")}, {"column": columns(b="active")}]}],
        [["lan", True], ["ba", False], ["vo", None]],
    ),
    "columns come before selects, these before unions, each in its order": (
        [
            {
                "unionAll": [{"column": columns(d="'1'")}, {"column": columns(d="'2'")}],
                "select": [{"column": columns(c="'c'")}],
                "column": columns(a="id", b="'b'"),
            },
            {"column": columns(e="'e'")},
        ],
        [[id, "b", "c", n, "e"] for id in ("lan", "ba", "vo") for n in ("1", "2")],
    ),
    "the same twice in a union": (
        [{"column": columns(a="id"), "unionAll": [PHONES, PHONES]}],
        [*[["lan", "024"], ["lan", "lan@example.vn"]] * 2, ["ba", "028"], ["ba", "028"]],
    ),
    "a union with nothing on one side": (
        [{"column": columns(a="id")}, {"unionAll": [{**PHONES, "forEach": "telecom.where(false)"}, OTHERS]}],
        [["lan", "1"], ["lan", "2"], ["lan", "3"]],
    ),
    "a union of nothing": ([{"column": columns(a="id"), "unionAll": [{**PHONES, "forEach": "photo"}] * 2}], []),
    "a union of nothing, or null": (
        [{"column": columns(a="id"), "unionAll": [{"forEachOrNull": "photo", "column": columns(v="title")}] * 2}],
        [[id, None] for id in ("lan", "lan", "ba", "ba", "vo", "vo")],
    ),
    "a union below an iteration": (
        [{"forEach": "contact", "unionAll": [{"column": columns(v="telecom[0].value")}, {"column": columns(v="'x'")}]}],
        [["1"], ["x"], ["2"], ["x"]],
    ),
    "an iteration or null, a column, a select and a union at one level": (
        [
            {
                "forEachOrNull": "contact",
                "column": columns(n="telecom.count()"),
                "select": [{"column": columns(first="telecom.first().value")}],
                "unionAll": [{"forEach": "telecom", "column": columns(v="value")}, {"column": columns(v="'all'")}],
            }
        ],
        [
            [1, "1", "1"],
            [1, "1", "all"],
            [2, "2", "2"],
            [2, "2", "3"],
            [2, "2", "all"],
            [0, None, "all"],
            [0, None, "all"],
        ],
    ),
    "each branch of a union counts its rows": (
        [{"unionAll": [{**one, "column": columns(v="value", n="%rowIndex")} for one in (PHONES, OTHERS)]}],
        [["024", 0], ["lan@example.vn", 1], ["1", 0], ["2", 1], ["3", 2], ["028", 0]],
    ),
}


@pytest.mark.parametrize("name", COMBINED)
def test_selects_combined(name: str) -> None:
    select, expected = COMBINED[name]
    view = View({"resource": "Patient", "select": select})
    made = [list(row.values()) for one in PEOPLE for row in view.rows(one)]
    assert codec.dumps(made) == codec.dumps(expected)


FORM: Tree = {
    "resourceType": "QuestionnaireResponse",
    "id": "f",
    "item": [
        {"linkId": "1", "item": [{"linkId": "1.1", "answer": [{"valueString": "a", "item": [{"linkId": "1.1.1"}]}]}]},
        {"linkId": "2"},
    ],
}
ITEMS = {"repeat": ["item"], "column": columns(at="linkId")}
ANSWER = columns(v="value.ofType(string)")
REPEATED: dict[str, tuple[Tree, list[list[Any]]]] = {
    "with forEach": ({**ITEMS, "select": [{"forEach": "answer", "column": ANSWER}]}, [["1.1", "a"]]),
    "with forEachOrNull": (
        {**ITEMS, "select": [{"forEachOrNull": "answer", "column": ANSWER}]},
        [["1", None], ["1.1", "a"], ["2", None]],
    ),
    "in a union": (
        {"unionAll": [ITEMS, {**ITEMS, "repeat": ["item", "answer.item"]}]},
        [["1"], ["1.1"], ["2"], ["1"], ["1.1"], ["1.1.1"], ["2"]],
    ),
    "what is not there": ({**ITEMS, "column": columns(d="definition")}, [[None], [None], [None]]),
    "rows counted": ({**ITEMS, "column": columns(n="%rowIndex", at="linkId")}, [[0, "1"], [1, "1.1"], [2, "2"]]),
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeat_combined(name: str) -> None:
    select, expected = REPEATED[name]
    view = View({"resource": "QuestionnaireResponse", "select": [select]})
    assert [list(row.values()) for row in view.rows(FORM)] == expected


WHERES: dict[str, list[str]] = {
    "active": ["lan"],
    "active = false": ["ba"],
    "name.where(use = 'maiden').exists()": [],
    "name.where(use = 'old' and family = 'Lý').exists()": ["lan"],
    "name.where(use = 'x' or family = 'Lý').exists()": ["lan"],
    "name.where(family = 'Lý').empty()": ["ba", "vo"],
    "(gender = 'male').not()": ["lan"],
    "telecom.count() > 1": ["lan"],
    "telecom.count() < 1": ["vo"],
}


@pytest.mark.parametrize("path", WHERES)
def test_wheres(path: str) -> None:
    assert of("id", *PEOPLE, where=[{"path": path}]) == WHERES[path]


NONE = ("value.ofType(Invalid)", "value.ofType(42)", "name.nothing()", "'open", "getReferenceKey(")


@pytest.mark.parametrize("path", NONE)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(EhrError):
        of(path, result("o", valueString="x"))
