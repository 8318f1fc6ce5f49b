"""FHIRPath Patch: each operation, on lists, choices, primitives with extensions and elements without a type."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import limits
from ehr.errors import EhrError, Invalid, Malformed, TooMuch
from ehr.fhir import codec, patch_fhirpath
from ehr.fhir.patch import applied
from ehr.fhir.validate import validate

Tree = dict[str, Any]

PATIENT = codec.loads(
    """{"resourceType":"Patient","id":"p1","meta":{"versionId":"3","lastUpdated":"2026-11-01T00:00:00Z"},
    "name":[{"use":"official","family":"Trần","given":["An","Bình"]},{"use":"usual","text":"Ba"}],
    "gender":"female","birthDate":"1970-05-01","_birthDate":{"extension":[{"url":"http://x/t","valueString":"n"}]},
    "deceasedBoolean":false,"active":true,
    "contact":[{"name":{"text":"Cô"},"telecom":[{"system":"phone","value":"1"}]}],
    "extension":[{"url":"http://x/d","valueDecimal":13.50}]}""".encode()
)


def operation(kind: str, path: str, *parts: Tree) -> Tree:
    """One operation; parts besides type and path."""
    told = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}, *parts]
    return {"name": "operation", "part": told}


def named(name: str) -> Tree:
    return {"name": "name", "valueString": name}


def value(**held: Any) -> Tree:
    return {"name": "value", **held}


def place(name: str, number: int) -> Tree:
    return {"name": name, "valueInteger": number}


def patched(tree: Tree, *operations: Tree) -> Tree:
    return patch_fhirpath.read({"resourceType": "Parameters", "parameter": list(operations)})(tree)


def with_changes(**changes: Any) -> Tree:
    """PATIENT with other members; None: without it."""
    return {name: one for name, one in (PATIENT | changes).items() if one is not None}


GIVEN = PATIENT["name"][0]["given"]
USUAL = PATIENT["name"][1]


def names(*given: str) -> Tree:
    return with_changes(name=[{"use": "official", "family": "Trần", "given": list(given)}, USUAL])


CASES: dict[str, tuple[Tree, Tree]] = {
    "replace a primitive": (
        operation("replace", "Patient.gender", value(valueCode="male")),
        with_changes(gender="male"),
    ),
    "replace a primitive with its extensions": (
        operation("replace", "birthDate", value(valueDate="1971-01-01")),
        with_changes(birthDate="1971-01-01", _birthDate=None),
    ),
    "replace one of a list": (
        operation("replace", "Patient.name[0].given[1]", value(valueString="Chi")),
        names("An", "Chi"),
    ),
    "replace what a condition finds": (
        operation("replace", "Patient.name.where(use = 'usual')", value(valueHumanName={"text": "Tư"})),
        with_changes(name=[PATIENT["name"][0], {"text": "Tư"}]),
    ),
    "replace a choice by another type": (
        operation("replace", "Patient.deceased", value(valueDateTime="2026-01-01")),
        with_changes(deceasedBoolean=None, deceasedDateTime="2026-01-01"),
    ),
    "replace a value of an extension": (
        operation("replace", "Patient.extension.where(url='http://x/d').value", value(valueString="x")),
        with_changes(extension=[{"url": "http://x/d", "valueString": "x"}]),
    ),
    "delete a primitive": (operation("delete", "Patient.gender"), with_changes(gender=None)),
    "delete a primitive with its extensions": (
        operation("delete", "Patient.birthDate"),
        with_changes(birthDate=None, _birthDate=None),
    ),
    "delete the last extension of a primitive": (
        operation("delete", "Patient.birthDate.extension[0]"),
        with_changes(_birthDate=None),
    ),
    "delete one of a list": (operation("delete", "Patient.name[0].given.first()"), names("Bình")),
    "delete of nothing": (operation("delete", "Patient.photo"), PATIENT),
    "delete what leaves nothing": (
        operation("delete", "Patient.name.where(use='usual')"),
        with_changes(name=[PATIENT["name"][0]]),
    ),
    "add a primitive": (
        operation("add", "Patient", named("language"), value(valueCode="vi")),
        with_changes(language="vi"),
    ),
    "add to a list": (
        operation("add", "Patient.name[0]", named("given"), value(valueString="Chi")),
        names("An", "Bình", "Chi"),
    ),
    "add the first of a list": (
        operation("add", "Patient", named("telecom"), value(valueContactPoint={"system": "phone", "value": "1"})),
        with_changes(telecom=[{"system": "phone", "value": "1"}]),
    ),
    "add a choice": (
        operation("add", "Patient", named("multipleBirth"), value(valueInteger=2)),
        with_changes(multipleBirthInteger=2),
    ),
    "add a choice by its JSON name": (
        operation("add", "Patient", named("multipleBirthInteger"), value(valueInteger=2)),
        with_changes(multipleBirthInteger=2),
    ),
    "add an extension to a primitive": (
        operation(
            "add", "Patient.gender", named("extension"), value(valueExtension={"url": "http://x/e", "valueCode": "a"})
        ),
        with_changes(_gender={"extension": [{"url": "http://x/e", "valueCode": "a"}]}),
    ),
    "add an element without a type of its own": (
        operation(
            "add",
            "Patient",
            named("contact"),
            value(
                part=[
                    {"name": "name", "valueHumanName": {"text": "Chú"}},
                    {"name": "telecom", "valueContactPoint": {"system": "phone", "value": "1"}},
                    {"name": "telecom", "valueContactPoint": {"system": "sms", "value": "2"}},
                    {"name": "gender", "valueCode": "male"},
                ]
            ),
        ),
        with_changes(
            contact=[
                *PATIENT["contact"],
                {
                    "name": {"text": "Chú"},
                    "telecom": [{"system": "phone", "value": "1"}, {"system": "sms", "value": "2"}],
                    "gender": "male",
                },
            ]
        ),
    ),
    "insert": (
        operation("insert", "Patient.name[0].given", place("index", 1), value(valueString="Chi")),
        names("An", "Chi", "Bình"),
    ),
    "insert at the end": (
        operation("insert", "Patient.name[0].given", place("index", 2), value(valueString="Chi")),
        names("An", "Bình", "Chi"),
    ),
    "move": (
        operation("move", "Patient.name[0].given", place("source", 1), place("destination", 0)),
        names("Bình", "An"),
    ),
    "move elements": (
        operation("move", "Patient.name", place("source", 0), place("destination", 1)),
        with_changes(name=PATIENT["name"][::-1]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_operation_does_what_it_says(name: str) -> None:
    asked, expected = CASES[name]
    kept = codec.dumps(PATIENT)
    after = patched(PATIENT, asked)
    assert codec.loads(codec.dumps(after)) == codec.loads(codec.dumps(expected))
    assert [issue for issue in validate(after, type_name="Patient") if issue.severity == "error"] == []
    assert codec.dumps(PATIENT) == kept, "what was given stays as it is"


def test_the_last_member_takes_its_elements_with_it() -> None:
    after = patched(PATIENT, operation("delete", "contact.name"), operation("delete", "contact.telecom.value"))
    assert after["contact"] == [{"telecom": [{"system": "phone"}]}]
    assert "contact" not in patched(after, operation("delete", "contact.telecom.system"))


def test_extensions_of_a_list_of_primitives_move_with_it() -> None:
    tree = {"resourceType": "Patient", "id": "p1", "name": [{"given": ["A", "B"], "_given": [None, {"id": "b"}]}]}
    given = "Patient.name.given"
    moved = patched(tree, operation("move", given, place("source", 1), place("destination", 0)))
    assert moved["name"] == [{"given": ["B", "A"], "_given": [{"id": "b"}, None]}]
    more = patched(moved, operation("insert", given, place("index", 0), value(valueString="C")))
    assert more["name"] == [{"given": ["C", "B", "A"], "_given": [None, {"id": "b"}, None]}]
    added = patched(more, operation("add", "Patient.name", named("given"), value(valueString="D")))
    assert added["name"][0]["_given"] == [None, {"id": "b"}, None, None]
    replaced = patched(added, operation("replace", "Patient.name.given[1]", value(valueString="E")))
    assert replaced["name"] == [{"given": ["C", "E", "A", "D"]}]
    gone = patched(more, operation("delete", "Patient.name.given[1]"))
    assert gone["name"] == [{"given": ["C", "A"]}]


def test_digits_and_untouched_members_keep_their_text() -> None:
    text = codec.dumps(PATIENT)
    body, _ = applied(text, PATIENT, patch_fhirpath.read({"resourceType": "Parameters", "parameter": [
        operation("replace", "Patient.gender", value(valueCode="male"))]}))  # fmt: skip
    assert body == text.replace(b'"female"', b'"male"')
    assert b"13.50" in body


@pytest.mark.parametrize(
    ("asked", "at"),
    [
        (operation("replace", "Patient.photo", value(valueString="x")), "Parameters.parameter[0]"),
        (operation("replace", "Patient.name.given", value(valueString="x")), "Parameters.parameter[0]"),
        (operation("delete", "Patient.name"), "Parameters.parameter[0]"),
        (operation("replace", "'a'", value(valueString="x")), "Parameters.parameter[0]"),
        (operation("replace", "Patient", value(resource={"resourceType": "Patient"})), "Patient"),
        (operation("delete", "Patient"), "Patient"),
        (operation("add", "Patient", named("gender"), value(valueCode="male")), "Patient"),
        (operation("add", "Patient", named("deceased"), value(valueDateTime="2026")), "Patient"),
        (operation("add", "Patient", named("nickname"), value(valueString="x")), "Patient"),
        (operation("add", "Patient", named("gender"), value(valueHumanName={})), "Parameters.parameter[0]"),
        (operation("add", "Patient", named("multipleBirth"), value(valueString="x")), "Patient"),
        (operation("add", "Patient", named("gender"), value(part=[])), "Parameters.parameter[0]"),
        (operation("add", "Patient.name", named("given"), value(valueString="x")), "Parameters.parameter[0]"),
        (operation("insert", "Patient.photo", place("index", 0), value(valueString="x")), "Parameters.parameter[0]"),
        (operation("insert", "Patient.gender", place("index", 0), value(valueCode="x")), "Patient.gender"),
        (operation("insert", "name", place("index", 3), value(valueHumanName={})), "Patient.name[0]"),
        (operation("insert", "name", place("index", -1), value(valueHumanName={})), "Patient.name[0]"),
        (operation("insert", "name.tail()", place("index", 0), value(valueHumanName={})), "Patient.name[1]"),
        (operation("move", "name", place("source", 2), place("destination", 0)), "Patient.name[0]"),
        (operation("move", "name", place("source", 0), place("destination", 2)), "Patient.name[0]"),
        (operation("delete", "Patient.nickname"), None),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(asked: Tree, at: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        patched(PATIENT, asked)
    assert at is None or refused.value.issues[0].at == at


@pytest.mark.parametrize(
    ("parameter", "at"),
    [
        ("x", "name"),
        ({"name": "op"}, "name"),
        ({"name": "operation"}, "part"),
        ({"name": "operation", "part": {}}, "part"),
        ({"name": "operation", "part": ["x"]}, "part"),
        (operation("upsert", "Patient"), "part"),
        (operation("replace", "Patient.gender"), "part"),
        (operation("replace", "Patient.(", value(valueCode="x")), "part"),
        (operation("delete", "Patient.gender", {"name": "path", "valueString": "x"}), "part"),
        (operation("delete", "Patient.gender", {"name": "when", "valueString": "x"}), "part"),
        (operation("replace", "gender", value()), "part"),
        (operation("replace", "gender", value(valueCode="x", valueString="y")), "part"),
        (operation("move", "name", {"name": "source", "valueString": "0"}, place("destination", 0)), "part"),
        (operation("move", "name", {"name": "source", "valueInteger": True}, place("destination", 0)), "part"),
        ({"name": "operation", "part": [{"name": "type", "valueString": "delete"}]}, "part"),
    ],
)
def test_what_is_no_patch_names_its_part(parameter: Any, at: str) -> None:
    with pytest.raises(Malformed) as refused:
        patch_fhirpath.read({"resourceType": "Parameters", "parameter": [parameter]})
    assert refused.value.issues[0].at == f"Parameters.parameter[0].{at}"


def test_patches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [operation("delete", "Patient.photo")] * (limits.patch_operations_max + 1)
    with pytest.raises(TooMuch):
        patched(PATIENT, *many)
    deep = [operation("add", "Patient" + ".extension[0]" * n, named("extension"), value(valueExtension={"url": "x"}))
            for n in range(2, limits.json_depth_max)]  # fmt: skip
    nested: Tree = {
        "resourceType": "Patient",
        "id": "p",
        "meta": {"versionId": "1", "lastUpdated": "2026-11-01T00:00:00Z"},
    }
    nested["extension"] = [{"url": "x", "extension": [{"url": "x"}]}]
    with pytest.raises(EhrError):
        applied(codec.dumps(nested), nested, patch_fhirpath.read({"resourceType": "Parameters", "parameter": deep}))
    monkeypatch.setattr(limits, "patch_evaluation_s", 0.0)
    with pytest.raises(TooMuch):
        patched(PATIENT, *many[:9])


PATHS = st.sampled_from(
    ["Patient", "name", "name[0]", "name.given", "name[0].given", "birthDate", "birthDate.extension", "deceased",
     "contact.telecom", "extension.value", "'x'", "photo", "descendants()", "name.family"]
)  # fmt: skip
VALUES: st.SearchStrategy[Tree] = st.sampled_from(
    [{"valueString": "x"}, {"valueInteger": 1}, {"valueHumanName": {"text": "x"}}, {"part": []}, {"valueBoolean": True},
     {"valueExtension": {"url": "http://x", "valueCode": "c"}}, {"resource": {"resourceType": "Basic"}}, {}]
)  # fmt: skip


@st.composite
def operations(draw: st.DrawFn) -> Tree:
    places = [place(name, draw(st.integers(-1, 3))) for name in ("index", "source", "destination")]
    name = draw(st.sampled_from(["given", "extension", "name", "deceased", "value", "id", "photo", "x"]))
    kind = draw(st.sampled_from(["add", "insert", "delete", "replace", "move"]))
    return operation(kind, draw(PATHS), named(name), value(**draw(VALUES)), *places)


@given(st.lists(operations(), max_size=5))
def test_any_patch_is_done_or_refused_and_changes_nothing_it_was_given(asked: list[Tree]) -> None:
    kept = codec.dumps(PATIENT)
    with suppress(Malformed, Invalid, TooMuch):
        codec.dumps(patched(PATIENT, *asked))
    assert codec.dumps(PATIENT) == kept
