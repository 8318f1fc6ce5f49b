"""The fast reader of bulk lines keeps every rule of the careful one, and parts keep every line."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ehr import limits
from ehr.bulk import files
from ehr.bulk.files import Line
from ehr.bulk.prepare import Preparer, Ready, Refusal
from ehr.bulk.read import read
from ehr.bulk.rows import Encoder, FirstVersions
from ehr.errors import EhrError, Malformed
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import nesting
from ehr.index.extract import Extractor
from ehr.index.hashing import Hasher
from ehr.store.body import BodyCodec

EXTRACTOR = Extractor(Hasher(7))
JOB = "01a20672-46cc-7747-9b79-e5fb9c9f77ce"
NOW = datetime(2026, 11, 23, 2, 35, 48, 120_000, UTC)

trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=20,
)


def prepared(content: bytes, number: int = 1) -> Ready | Refusal:
    return Preparer(EXTRACTOR, name="x", job_id=JOB).prepare(Line(number, content))


def ready(content: bytes) -> Ready:
    made = prepared(content)
    assert isinstance(made, Ready), made
    return made


@given(st.dictionaries(st.text(max_size=6), trees, max_size=4), st.booleans())
def test_both_readers_accept_the_same(tree: dict[str, Any], spaced: bool) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    content = json.dumps(tree, ensure_ascii=False, separators=separators).encode("utf-8", "surrogatepass")
    try:
        careful: dict[str, Any] | None = codec.loads(content)
    except EhrError:
        careful = None
    try:
        fast: dict[str, Any] | None = read(content)
    except EhrError:
        fast = None
    assert fast == careful


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a" :1,"a":1}',
        b'{"a" :1,"a":2,"b":1e7}',
        b'{"a\\u0000":1}',
        b'{"a":"\\u0000"}',
        b'{"a":NaN}',
        b"[1]",
        b'{"a":"\xff"}',
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    ],
)
def test_what_the_careful_reader_refuses_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        codec.loads(content)
    with pytest.raises(Malformed):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"resourceType":"Patient","id":"p","active":true}',
        '{"resourceType":"Patient","id":"p","name":[{"text":"Nguyễn Văn Ầ: \\"x\\", y"}]}'.encode(),
        b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"valueQuantity":{"value":13.5}}',
        b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"valueQuantity":{"value":13.50}}',
        b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":", "},"valueQuantity":{"value":1.50}}',
    ],
)
def test_the_one_insertion_is_what_the_codec_would_write(content: bytes) -> None:
    one = ready(content)
    assert one.plain
    assert FirstVersions(NOW).body(one) == codec.with_meta(
        content, codec.loads(content), id=one.id, version=1, updated=NOW
    )


@pytest.mark.parametrize(
    "content",
    [
        b'{"resourceType":"Patient","id":"p","meta":{"source":"urn:x"}}',
        b'{"id":"p","resourceType":"Patient"}',
        b'{"resourceType":"Patient","active":true}',
        b'{"resourceType": "Patient","id":"p","active":true}',
        b'{"resourceType":"Patient","id":"p", "active":true}',
        b'{"resourceType":"Patient","id":"p"}',
        b'{"resourceType":"Observation","id":"o","status":"final","c\\u006fde":{"text":"x"}}',
    ],
)
def test_other_forms_are_left_to_the_codec(content: bytes) -> None:
    assert not ready(content).plain


def test_a_line_without_an_id_gets_the_same_one_every_time() -> None:
    content = b'{"resourceType":"Patient","active":true}'
    assert ready(content).id == ready(content).id


@pytest.mark.parametrize("empty", [b"{}", b"{ }", b"{\t}", b'{"id":"a"}', b'{ "id" : "a" }', b'{"id" :"a"}'])
def test_an_element_without_content_is_refused_however_it_is_written(empty: bytes) -> None:
    refused = prepared(b'{"resourceType":"Patient","id":"p","maritalStatus":%b}' % empty)
    assert isinstance(refused, Refusal)
    assert [issue.at for issue in refused.issues] == ["Patient.maritalStatus"]


def nested(member: str, last: str, levels: int) -> bytes:
    """A Patient whose identifier holds one thing in another."""
    closers = "".join({"[": "]", "{": "}"}.get(letter, "") for letter in reversed(member))
    tree = '{"resourceType":"Patient","id":"p","identifier":[{"value":"x",' + member * levels + last + closers * levels
    return (tree + "}]}").encode()


@pytest.mark.parametrize(
    ("member", "last"),
    [
        ('"extension":[{"url":"urn:x",', '"valueString":"x"'),
        ('"assigner":{"identifier":{', '"value":"x"'),
    ],
)
def test_what_may_nest_for_ever_is_counted(member: str, last: str) -> None:
    assert ready(nested(member, last, 20)).id == "p"
    deep = nested(member, last, 40)
    made = prepared(deep)
    assert isinstance(made, Refusal)
    assert "nested" in made.issues[0].text


def test_every_type_has_a_bound_or_is_counted() -> None:
    bounds = {type_name: nesting(type_name) for type_name in TYPE_IDS}
    assert bounds["Bundle"] is None
    assert bounds["Questionnaire"] is None
    assert bounds["Patient"] is not None
    found = [bound for bound in bounds.values() if bound is not None]
    assert max(found) * 2 + 2 < limits.json_depth_max, "even with a contained resource"


def test_every_reason_is_told() -> None:
    content = b'{"resourceType":"Patient","id":"p","gender":"robot","birthDate":"2020-13-01"}'
    made = prepared(content, 4)
    assert isinstance(made, Refusal)
    assert {issue.at for issue in made.issues} == {"Patient.gender", "Patient.birthDate"}


@given(
    st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))),
    st.integers(1, 64),
    st.integers(1, 8),
    st.booleans(),
)
def test_parts_of_any_size_hold_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], part_bytes: int, part_lines: int, ends: bool
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "cut.ndjson"
    path.write_bytes(b"\n".join(lines) + (b"\n" if ends and lines else b""))
    expected = path.read_bytes().split(b"\n")
    if expected and expected[-1] == b"":
        expected.pop()
    parts = list(files.parts("cut", path, part_bytes=part_bytes, part_lines=part_lines))
    held = [list(files.lines(part)) for part in parts]
    assert all(len(one) <= part_lines + 1 for one in held), "the last may have no end, and belongs to the part"
    found = [line for one in held for line in one]
    assert [line.content for line in found] == expected
    assert [line.number for line in found] == list(range(1, len(expected) + 1))
    assert sum(part.length for part in parts) == path.stat().st_size


@pytest.mark.parametrize("within", [b'"extension":[%b]', b'"meta":{"extension":[%b]}'])
def test_digits_of_a_line_are_stored_as_sent(within: bytes) -> None:
    content = b'{"resourceType":"Basic","id":"b",%b,"code":{"text":"x"}}' % (
        within % b'{"url":"urn:x","valueDecimal":0.010}'
    )
    encoder = Encoder(BodyCodec(), NOW, 0)
    encoder.add(1, ready(content))
    _, _, copied = next(encoder.tables())
    frame = copied[copied.index(zstandard.FRAME_HEADER) : -2]
    assert b'"valueDecimal":0.010' in BodyCodec().decompress(frame)


def test_what_obliges_the_server_passes_the_whole_gate() -> None:
    """Valid lines take a quick way; these are asked whether what they promise can be kept."""
    head = b'{"resourceType":"Subscription","id":"s","status":"%b","reason":"r","criteria":"Patient?",'
    line = head + b'"channel":{"type":"rest-hook","endpoint":"https://example.org"}}'
    refused = prepared(line % b"active")
    assert isinstance(refused, Refusal)
    assert [issue.at for issue in refused.issues] == ["Subscription.status"]
    assert ready(line % b"off").id == "s"
