"""ehr.fhir.codec: digits, order and text survive; what can be read in two ways is refused."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.bulk.read import quick
from ehr.errors import Malformed, TooMuch
from ehr.fhir import codec

MOMENT = datetime(2026, 11, 23, 2, 0, 0, 120_000, tzinfo=UTC)

CONTROLS = "".join(map(chr, {*range(32)} - {9, 10, 13}))
texts = st.text(st.characters(exclude_characters=CONTROLS, exclude_categories=["Cs"]), max_size=20)
numbers = st.integers() | st.decimals(allow_nan=False, allow_infinity=False)
trees = st.recursive(
    texts | numbers | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "digits",
    ["13.50", "0.010", "1234567890123456.7890123456789", "-0.0", "100", "1234567890123456789012345", "0.0000000001"],
)
def test_digits_are_kept(digits: str) -> None:
    body = b'{"value":' + digits.encode() + b"}"
    assert codec.dumps(codec.loads(body)) == body


@given(st.dictionaries(texts, trees, max_size=5))
def test_what_is_written_is_read_again(tree: dict[str, Any]) -> None:
    assert codec.loads(codec.dumps(tree)) == tree


@given(st.dictionaries(texts, trees, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_other_spellings_of_the_same_json_are_read_the_same(
    tree: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    spelled = json.dumps(json.loads(codec.dumps(tree), parse_float=str), indent=indent, ensure_ascii=ascii_only)
    expected = json.loads(codec.dumps(tree), parse_float=str)
    assert json.loads(codec.dumps(codec.loads(spelled.encode())), parse_float=str) == expected


@given(st.binary(max_size=60) | st.text('{}[]:,"\\ud8a0 1e.-tn', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        tree = codec.loads(body)
    except Malformed:
        return
    assert isinstance(tree, dict)
    assert json.loads(body) is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'{"a" :1,"a":2}',
        b'{"b":{"a":1,"a":"\\":"}}',
        b'{"a":"\\":","b" :1,"b":2}',
        b'{"a":[{"x":1,"y":2,"x":3}]}',
        b'{"a":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00"}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":1,}',
        b'{"a":"\xff"}',
        b'{"a":"\t"}',
        b"\xef\xbb\xbf{}",
        b'["a"]',
        b'"a"',
        b"",
        b"{",
        b"{}{}",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_malformed_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        codec.loads(body)


def test_a_backslash_before_u0000_is_text() -> None:
    assert codec.loads(b'{"a":"\\\\u0000"}') == {"a": "\\u0000"}


@pytest.mark.parametrize("spelled", [b"\\u0022:", b'\\"\\u003a', b"\\u0022\\u003A", b'\\":'])
def test_a_string_does_not_hide_a_key_that_comes_twice(spelled: bytes) -> None:
    """What ends a key is counted, before and after; a string may have it too, spelled so that the sum comes out."""
    body = b'{"gender":"male","gender":"female","text":"%b"}' % spelled
    with pytest.raises(Malformed, match="twice"):
        codec.loads(body)
    assert quick(body) is None


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\u0001", b"\\u001F", b"\\u000b", b"\\b", b"\\f"])
def test_control_characters_are_refused(escape: bytes) -> None:
    for body in (b'{"a":["x%b"]}', b'{"a%b":1}'):
        with pytest.raises(Malformed, match="control character"):
            codec.loads(body % escape)
        assert quick(body % escape) is None


@pytest.mark.parametrize(
    ("body", "at"),
    [
        (b'{"resourceType":"Patient","name":[{"text":"a"},{"given":["b","\\u0001"]}]}', "Patient.name[1].given[1]"),
        (b'{"resourceType":"Observation","valueString":"\\u0001"}', "Observation.value"),
        (b'{"resourceType":"Patient","_birthDate":{"extension":[{"url":"\\u0001"}]}}',
         "Patient.birthDate.extension[0].url"),
        (b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"\\b"}}]}',
         "Bundle.entry[0].resource.id"),
        (b'{"resourceType":"Patient","contact":[{"x\\u0001":1}]}', "Patient.contact[0]"),
        (b'{"resourceType":"Horse","mane":[{"colour":"\\u0001"}]}', "mane[0].colour"),
        (b'["\\u0001"]', "[0]"),
    ],
)  # fmt: skip
def test_a_control_character_is_told_with_its_place(body: bytes, at: str) -> None:
    with pytest.raises(Malformed) as refused:
        codec.loads_list(body) if body[:1] == b"[" else codec.loads(body)
    assert refused.value.issues[0].at == at


def test_tabs_and_line_ends_are_text() -> None:
    assert codec.loads(b'{"a":"\\t\\r\\n\\u0009\\u007f"}') == {"a": "\t\r\n\t\x7f"}


def test_the_limit_of_bytes_is_kept() -> None:
    body = b'{"a":"' + b"x" * 100 + b'"}'
    assert codec.loads(body, bytes_max=len(body))
    with pytest.raises(TooMuch):
        codec.loads(body, bytes_max=len(body) - 1)


@pytest.mark.parametrize("twice", ["a", "\\u003a", '\\"\\u003a', "\\u0022:", ":"])
@pytest.mark.parametrize("more", ["", '"\\u003a"', '" :", "\\":"', f'"{"x" * 2**20}"'])
def test_a_key_twice_is_seen_whatever_else_is_said(twice: str, more: str) -> None:
    rest = f'"more": [{more}], "b" : 1'
    assert codec.loads(f'{{"{twice}": 1, {rest}}}'.encode())
    with pytest.raises(Malformed, match="twice"):
        codec.loads(f'{{"{twice}" : 1, {rest}, "{twice}": 2}}'.encode())


@pytest.mark.parametrize("size", [0, 2**20])
def test_depth_is_seen_in_small_and_large_texts(size: int) -> None:
    body = b'{"x":"%b","a":' % (b"x" * size) + b"[" * 9 + b"]" * 9 + b"}"
    assert codec.loads(body, depth_max=10)
    with pytest.raises(Malformed, match="nested"):
        codec.loads(body, depth_max=9)


def test_the_limit_of_depth_is_kept() -> None:
    body = b'{"a":' * 10 + b"1" + b"}" * 10
    assert codec.loads(body, depth_max=10)
    with pytest.raises(Malformed):
        codec.loads(body, depth_max=9)


def test_meta_is_set_in_the_senders_text() -> None:
    body = b'{ "resourceType": "Observation", "id": "old", "meta": {"source": "#x", "versionId": "7"}, "value": 13.50 }'
    written = codec.with_meta(body, codec.loads(body), id="new", version=2, updated=MOMENT)
    assert written == (
        b'{"resourceType":"Observation","id":"new",'
        b'"meta":{"source":"#x","versionId":"2","lastUpdated":"2026-11-23T02:00:00.120Z"},"value":13.50}'
    )


@pytest.mark.parametrize("names", list(permutations(("id", "resourceType", "meta", "status"))))
def test_meta_is_set_in_a_tree_as_in_its_text(names: tuple[str, ...]) -> None:
    sent = {"resourceType": "Observation", "id": "old", "meta": {"versionId": "7"}, "status": "final"}
    for count in range(1, len(names) + 1):
        tree = {name: sent[name] for name in names[:count]}
        written = codec.with_meta(None, tree, id="new", version=2, updated=MOMENT)
        assert written == codec.with_meta(codec.dumps(tree), tree, id="new", version=2, updated=MOMENT)


def test_meta_is_added_after_the_type_and_text_stays_as_sent() -> None:
    body = '{"text":{"div":"Nguye\u0302\u0303n \\u1ec5"},"resourceType":"Patient","x":1.0e5}'.encode()
    written = codec.with_meta(body, codec.loads(body), id="a", version=1, updated=MOMENT)
    assert (
        written
        == (
            '{"text":{"div":"Nguye\u0302\u0303n \\u1ec5"},"resourceType":"Patient","id":"a",'
            '"meta":{"versionId":"1","lastUpdated":"2026-11-23T02:00:00.120Z"},"x":1.0e5}'
        ).encode()
    )


def test_decimals_of_any_scale_are_written_as_json() -> None:
    assert codec.dumps({"a": [Decimal("1E-7"), Decimal("-0"), 2**70]}) == b'{"a":[0.0000001,-0,1180591620717411303424]}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b" \n", "the body is empty"),
        (b"\0\0\0\n", "the body is empty, but for U+0000"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark (EF BB BF); send UTF-8 without one"),
        ('{"a":1}'.encode("utf-16"), "it is UTF-16; FHIR is UTF-8"),
        ('{"a":1}'.encode("utf-16-le"), "it is UTF-16; FHIR is UTF-8"),
        (b'{"a":"b","c":"\xff"}', "byte 14 is not UTF-8"),
        (b'{"a":"\\ud83d\\ude00\\ud83d"}', "half of a surrogate pair stands alone in a string (byte 18)"),
        (b'{"a":"\\ude00"}', "half of a surrogate pair stands alone in a string (byte 6)"),
        (b'{"a":"\\ud83d\\ude00', "it ends too early"),
        (b'{"a":"\\\\ud83d"', "it ends too early"),
        (b'\n<Patient xmlns="http://hl7.org/fhir"/>', "it is XML or HTML; XML is sent as application/fhir+xml"),
        (b'{"a":NaN}', "invalid character (byte 5)"),
    ],
)
def test_what_is_no_json_is_told(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        codec.loads(body)
    assert str(refused.value) == f"not JSON: {reason}"
