"""A field that is split when it is read is what the hl7 library makes of the whole message at once."""

from typing import Any

import hl7
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2.parse import parse

HEADER = "MSH|^~\\&|HIS|01Z01|EHR|HANOI|20261123080000+0700||ADT^A01^ADT_A01|M1|P|2.5.1||||||UNICODE UTF-8"
TEXT = st.text(st.sampled_from("ab&^~ \\Đ"), max_size=12)
SEGMENTS = st.lists(st.lists(TEXT, max_size=6), max_size=5)


def plain(node: Any) -> Any:
    return node if isinstance(node, str) else [plain(part) for part in node]


@given(SEGMENTS)
def test_fields_are_those_of_the_library(segments: list[list[str]]) -> None:
    lines = [HEADER, *("|".join(["ZZZ", *fields]).rstrip(" \t") for fields in segments)]
    text = "\r".join(lines)
    read, whole = parse(text.encode()), hl7.parse(text)
    assert read.separators == whole.separators
    assert len(read.segments) == len(whole)
    for segment, line in zip(read.segments, whole, strict=True):
        assert len(segment.fields) == len(line)
        for number in range(1, len(line)):
            assert [plain(node) for node in segment._nodes(number)] == plain(line[number])
            assert str(segment.fields[number]) == str(line[number])
            elements = segment.repetitions(number)
            assert len(elements) == sum(bool(str(node).strip("^&~ ")) for node in line[number])
