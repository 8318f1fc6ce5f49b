"""JSON Patch: the operations of RFC 6902, its own examples, digits, and what is refused with which path."""

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import limits
from ehr.errors import Invalid, Malformed, TooMuch
from ehr.fhir import codec, patch_json
from ehr.fhir.patch import applied

Tree = dict[str, Any]

PATIENT = codec.loads(
    b'{"resourceType":"Patient","id":"p1","meta":{"versionId":"3","lastUpdated":"2026-11-01T00:00:00Z"},'
    b'"name":[{"family":"Tr\xe1\xba\xa7n","given":["An","B\xc3\xacnh"]}],"active":true,'
    b'"extension":[{"url":"http://x","valueDecimal":13.50}]}'
)


def patched(tree: Tree, *operations: Any) -> Tree:
    return patch_json.read(list(operations))(tree)


def op(name: str, path: str, **more: Any) -> Tree:
    return {"op": name, "path": path, **({"from": more.pop("source")} if "source" in more else {}), **more}


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ({"foo": "bar"}, op("add", "/baz", value="qux"), {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, op("add", "/foo/1", value="qux"), {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, op("add", "/foo/-", value=["abc"]), {"foo": ["bar", ["abc"]]}),
        ({"baz": "qux", "foo": "bar"}, op("remove", "/baz"), {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, op("remove", "/foo/1"), {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, op("replace", "/baz", value="boo"), {"baz": "boo"}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            op("move", "/qux/thud", source="/foo/waldo"),
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            op("move", "/foo/3", source="/foo/1"),
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        ({"a": [1]}, op("copy", "/b", source="/a"), {"a": [1], "b": [1]}),
        ({"baz": "qux", "foo": ["a", 2]}, op("test", "/foo/1", value=2), {"baz": "qux", "foo": ["a", 2]}),
        ({"/": 9, "~1": 10}, op("test", "/~01", value=10), {"/": 9, "~1": 10}),
        ({"a": 1}, op("replace", "", value={"b": 2}), {"b": 2}),
        ({"a": 1}, op("add", "/b", value=None), {"a": 1, "b": None}),
    ],
)
def test_the_operations_of_rfc_6902(before: Tree, operation: Tree, after: Tree) -> None:
    kept = codec.dumps(before)
    assert patched(before, operation) == after
    assert codec.dumps(before) == kept, "what was given stays as it is"


@pytest.mark.parametrize(
    ("operations", "at"),
    [
        ([op("remove", "/birthDate")], "Patient.birthDate"),
        ([op("replace", "/name/1/family", value="x")], "Patient.name[1]"),
        ([op("replace", "/name/0/family/x", value="x")], "Patient.name[0].family"),
        ([op("add", "/name/3", value={})], "Patient.name[3]"),
        ([op("add", "/name/x", value={})], "Patient.name.x"),
        ([op("replace", "/name/-", value={})], "Patient.name"),
        ([op("replace", "/name/00", value={})], "Patient.name"),
        ([op("test", "/active", value=1)], "Patient.active"),
        ([op("test", "/active", value="true")], "Patient.active"),
        ([op("test", "/gender", value=None)], "Patient.gender"),
        ([op("copy", "/gender", source="/sex")], "Patient.sex"),
        ([op("remove", "")], "Patient"),
        ([op("replace", "", value=[])], "Patient"),
    ],
)
def test_what_cannot_be_done_names_the_element(operations: list[Tree], at: str) -> None:
    with pytest.raises(Invalid) as refused:
        patched(PATIENT, *operations)
    assert refused.value.issues[0].at == at


@pytest.mark.parametrize(
    ("item", "at"),
    [
        ("remove", "patch[0]"),
        ({"path": "/a"}, "patch[0].op"),
        (op("erase", "/a"), "patch[0].op"),
        ({"op": ["add"], "path": "/a"}, "patch[0].op"),
        (op("add", "/a"), "patch[0].value"),
        (op("move", "/a"), "patch[0].from"),
        ({"op": "remove"}, "patch[0].path"),
        (op("remove", "a"), "patch[0].path"),
        (op("remove", "/a~2"), "patch[0].path"),
        (op("remove", 7), "patch[0].path"),  # type: ignore[arg-type]
        (op("move", "/a/b", source="/a"), "patch[0].path"),
    ],
)
def test_what_is_no_patch_names_its_operation(item: Any, at: str) -> None:
    with pytest.raises(Malformed) as refused:
        patch_json.read([item])
    assert refused.value.issues[0].at == at


def test_numbers_are_tested_by_value_and_kept_with_their_digits() -> None:
    path = "/extension/0/valueDecimal"
    assert patched(PATIENT, op("test", path, value=Decimal("13.5")))["extension"][0]["valueDecimal"] == Decimal("13.50")
    text = codec.dumps(PATIENT)
    body, _ = applied(text, PATIENT, patch_json.read([op("replace", "/active", value=False)]))
    assert body == text.replace(b"true", b"false")
    body, _ = applied(text, PATIENT, patch_json.read([op("replace", path, value=Decimal("13.5"))]))
    assert body == text.replace(b"13.50", b"13.5"), "other digits are another value"


def test_members_that_do_not_change_keep_their_text() -> None:
    text = (
        b'{"resourceType":"Patient","id":"p1","meta":{"versionId":"3","lastUpdated":"2026-11-01T00:00:00Z"},'
        b'"name":[ {"family" :"\\u0054"} ],"active":true}'
    )
    tree = codec.loads(text)
    body, _ = applied(text, tree, patch_json.read([op("remove", "/active")]))
    assert body == text.replace(b',"active":true', b"")


def test_what_a_patch_empties_goes_too() -> None:
    took = patched(PATIENT, op("remove", "/name/0/given/1"), op("remove", "/name/0/given/0"))
    assert took["name"] == [{"family": "Trần"}]
    took = patched(took, op("remove", "/name/0/family"))
    assert "name" not in took
    refilled = patched(PATIENT, op("remove", "/name/0"), op("add", "/name/-", value={"text": "x"}))
    assert refilled["name"] == [{"text": "x"}]
    assert patched(PATIENT, op("add", "/contact", value=[]))["contact"] == [], "the gate says what is wrong with it"


@pytest.mark.parametrize(
    ("operation", "at"),
    [
        (op("replace", "/id", value="p2"), "Patient.id"),
        (op("remove", "/id"), "Patient.id"),
        (op("replace", "/resourceType", value="Person"), "Patient.resourceType"),
        (op("replace", "/meta/versionId", value="9"), "Patient.meta.versionId"),
        (op("add", "/meta/lastUpdated", value="2020-01-01T00:00:00Z"), "Patient.meta.lastUpdated"),
    ],
)
def test_identity_stays(operation: Tree, at: str) -> None:
    with pytest.raises(Invalid) as refused:
        applied(codec.dumps(PATIENT), PATIENT, patch_json.read([operation]))
    assert refused.value.issues[0].at == at


def narrated(status: str) -> Tree:
    return PATIENT | {"text": {"status": status, "div": '<div xmlns="http://www.w3.org/1999/xhtml">An</div>'}}


def test_a_narrative_never_says_what_is_no_longer_so() -> None:
    change = op("replace", "/active", value=False)
    new_text = op("replace", "/text/div", value='<div xmlns="http://www.w3.org/1999/xhtml">An, not active</div>')
    for operations, kept in (([change], False), ([change, new_text], True), ([op("add", "/meta/tag", value=[])], True)):
        tree = narrated("generated")
        _, after = applied(codec.dumps(tree), tree, patch_json.read(operations))
        assert ("text" in after) == kept
    tree = narrated("additional")
    with pytest.raises(Invalid) as refused:
        applied(codec.dumps(tree), tree, patch_json.read([change]))
    assert refused.value.issues[0].at == "Patient.text.status"
    applied(codec.dumps(tree), tree, patch_json.read([change, new_text]))


def test_patches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooMuch):
        patch_json.read([op("test", "/id", value="p1")] * (limits.patch_operations_max + 1))
    doubling = [op("copy", f"/x{n + 1}", source="") for n in range(60)]
    with pytest.raises(TooMuch):
        patched({"resourceType": "Basic", "x0": ["x" * 100]}, *doubling)
    with pytest.raises(TooMuch):
        patched({"a": {}}, *[op("copy", "/a" * (n + 2), source="/a") for n in range(limits.json_depth_max)])
    monkeypatch.setattr(limits, "resource_bytes_max", 300)
    with pytest.raises(TooMuch):
        applied(codec.dumps(PATIENT), PATIENT, patch_json.read([op("add", "/language", value="x" * 300)]))


TOKENS = st.sampled_from(
    ["", "/name", "/name/0", "/name/0/given", "/name/0/given/1", "/name/-", "/active", "/id", "/~0"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": TOKENS},
    optional={"from": TOKENS, "value": JSON},
)


@given(st.lists(OPERATIONS | JSON, max_size=6))
def test_any_patch_is_done_or_refused_and_changes_nothing_it_was_given(items: list[Any]) -> None:
    kept = codec.dumps(PATIENT)
    with suppress(Malformed, Invalid, TooMuch):
        assert isinstance(patch_json.read(items)(PATIENT), dict)
    assert codec.dumps(PATIENT) == kept


@pytest.mark.parametrize(("path", "whole"), [("/telecom/-", True), ("/telecom/0", True), ("/telecom/0/value", False)])
def test_an_item_of_no_list_is_told_how_to_make_one(path: str, whole: bool) -> None:
    with pytest.raises(Invalid) as refused:
        patched(PATIENT, op("add", path, value={"system": "phone"}))
    assert ("add it whole, as an array" in str(refused.value)) is whole
