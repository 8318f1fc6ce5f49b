"""Bundles are joined from stored bytes; pretty printing keeps every digit."""

import json
import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ehr.api.bundle_writer import history, searchset
from ehr.api.pretty import indented
from ehr.errors import Issue
from ehr.fhir import codec
from ehr.fhir.validate import validate
from ehr.store.version import Op, Version

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
BASE = "http://127.0.0.1:8000/fhir"
BODY = (
    b'{"resourceType":"Basic","id":"b1","code":{"text":"13.50 \\u0110"},"extension":[{"url":"u","valueDecimal":13.50}]}'
)


def version(op: Op, number: int) -> Version:
    return Version("Basic", "b1", number, NOW, op, None if op == "D" else BODY, 1, 1, 0)


def page(count: int, issues: list[Issue], total: int | None) -> bytes:
    return searchset(
        base=BASE,
        matches=[version("C", 1)] * count,
        included=[],
        issues=issues,
        total=total,
        links=[("self", f"{BASE}/Basic")],
        now=NOW,
    )


def test_a_searchset_holds_the_stored_bytes_and_is_a_valid_bundle() -> None:
    body = page(1, [Issue("not-supported", "ignored", "foo", "warning")], 1)
    assert BODY in body
    tree = codec.loads(body)
    assert [entry["search"]["mode"] for entry in tree["entry"]] == ["match", "outcome"]
    assert tree["entry"][0]["fullUrl"] == f"{BASE}/Basic/b1"
    assert validate(tree, type_name="Bundle") == []


def test_an_empty_page_has_no_entry_and_says_zero() -> None:
    tree = codec.loads(page(0, [], 0))
    assert "entry" not in tree
    assert tree["total"] == 0
    assert validate(tree, type_name="Bundle") == []


def test_a_history_tells_each_versions_request() -> None:
    versions = [version("D", 3), version("U", 2), version("C", 1)]
    body = history(base=BASE, versions=versions, total=3, links=[("self", f"{BASE}/Basic/b1/_history")], now=NOW)
    tree = codec.loads(body)
    assert [(e["request"]["method"], e["response"]["status"]) for e in tree["entry"]] == [
        ("DELETE", "204"),
        ("PUT", "200"),
        ("POST", "201"),
    ]
    assert "resource" not in tree["entry"][0]
    assert validate(tree, type_name="Bundle") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_indenting_changes_only_space_between_values(value: object) -> None:
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    assert json.loads(indented(compact)) == value


def test_indenting_keeps_digits() -> None:
    numbers = rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
    sent = b'{"a":[13.50,1E+2,0.10,-0.0,12345678901234567890.1234567890],"b":{},"c":[]}'
    pretty = indented(sent)
    assert re.findall(numbers, pretty) == re.findall(numbers, sent)
    assert pretty.count(b"\n") == 10
    assert b"{}" in pretty
