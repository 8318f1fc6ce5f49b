"""The pure parts of the store: criteria and their keys, bodies and their dictionaries, positions in the feed."""

from urllib.parse import quote

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ehr.errors import EhrError
from ehr.store.body import LINES_BYTES, BodyCodec
from ehr.store.changes import FeedPosition
from ehr.store.criteria import parse

MRN = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"identifier={MRN}|7", f"{MRN}|7"),
        (f"Patient?identifier={MRN}|7", f"{MRN}|7"),
        (f"?identifier={MRN}|7", f"{MRN}|7"),
        ("identifier=http://x?y|7", "http://x?y|7"),
        (f"identifier={quote(MRN, safe='')}%7C7", f"{MRN}|7"),
        (f"identifier={MRN}|7&_format=json&_count=1&_include:iterate=Patient:link", f"{MRN}|7"),
        ("birthdate=1990&family=An", "birthdate=1990&family=An"),
        ("family=An&birthdate=1990", "birthdate=1990&family=An"),
        ("identifier=7", "identifier=7"),
        ("identifier=a|1,b|2", "identifier=a%7C1%2Cb%7C2"),
        ("identifier=|7", "identifier=%7C7"),
    ],
)
def test_equal_criteria_have_equal_keys(text: str, key: str) -> None:
    assert parse("Patient", text).key == key


@pytest.mark.parametrize(
    "text",
    [
        *("", "Patient?", "_format=json", "_count=1", "_sort=_id", "Observation?code=1"),
        *("family=", "family=An&identifier=", "identifier=%20&family=An", "family=%ff"),
        *("identifier=|", f"identifier={MRN}|", f"identifier={MRN}|7,{MRN}|"),
    ],
)
def test_criteria_that_match_everything_are_refused(text: str) -> None:
    with pytest.raises(EhrError):
        parse("Patient", text)


@given(st.text().filter(str.strip), st.text().filter(str.strip))
def test_every_spelling_of_criteria_is_one_key(family: str, given_name: str) -> None:
    pairs = [f"family={quote(family, safe='')}", f"given={quote(given_name, safe='')}"]
    assert parse("Patient", "&".join(pairs)).key == parse("Patient", "&".join(reversed(pairs))).key


@given(st.binary(max_size=2000))
def test_bodies_come_back_with_and_without_dictionary(body: bytes) -> None:
    plain = BodyCodec()
    assert plain.decompress(plain.compress(1, body)) == body


def test_a_frame_finds_its_dictionary_for_ever() -> None:
    samples = [f'{{"resourceType": "Observation", "value": {n}, "code": "{n * 7919}"}}'.encode() for n in range(2000)]
    old, new = (zstandard.train_dictionary(2048, [*part]).as_bytes() for part in (samples[:1000], samples[1000:]))
    before = BodyCodec([(1, old)])
    frame = before.compress(1, samples[5])
    assert zstandard.get_frame_parameters(frame).dict_id != 0
    after = BodyCodec([(1, old), (1, new)])
    assert after.decompress(frame) == samples[5]
    assert after.decompress(after.compress(1, samples[5])) == samples[5]
    assert zstandard.get_frame_parameters(after.compress(2, samples[5])).dict_id == 0
    frames = [frame, after.compress(1, samples[6]), after.compress(2, samples[7])] * 2
    for codec in (after, BodyCodec([(1, old), (1, new)])):
        assert [codec.decompress(one) for one in frames] == [samples[5], samples[6], samples[7]] * 2
    with pytest.raises(LookupError):
        BodyCodec().decompress(frame)


def test_bodies_of_one_dictionary_are_lines_in_one_step_and_others_are_not() -> None:
    samples = [f'{{"resourceType": "Observation", "value": {n}, "code": "{n * 7919}"}}'.encode() for n in range(2000)]
    codec = BodyCodec(
        [(n, zstandard.train_dictionary(2048, [*samples[n::2]], dict_id=40_000 + n).as_bytes()) for n in (0, 1)]
    )
    frames = [[codec.compress(type_id, body) for body in samples] for type_id in (0, 1, 2)]
    for own in frames:
        lines = codec.lines(own)
        assert lines is not None
        assert bytes(lines) == b"".join(body + b"\n" for body in samples)
    assert codec.lines([frames[0][0], frames[1][1]]) is None, "two dictionaries"
    assert codec.lines([frames[0][0], frames[2][1]]) is None, "one, and none"
    assert codec.lines([codec.compress(0, b'{\n"id": "a"}')]) is None, "a line feed of its own"
    whole = bytes(b"1" * (LINES_BYTES - 2))
    lines = codec.lines([codec.compress(2, whole)])
    assert lines is not None
    assert bytes(lines) == whole + b"\n"
    assert codec.lines([codec.compress(2, whole + b"1")]) is None, "no room to know that it is all"
    assert codec.lines([codec.compress(0, whole)]) is None, "a header of another form"
    with pytest.raises(LookupError):
        BodyCodec().lines(frames[0])


def test_positions_are_ordered_by_transaction_then_row() -> None:
    assert FeedPosition(1, 9) < FeedPosition(2, 1) < FeedPosition(2, 2)
