"""ehr.database.copy_out: whatever the cuts of a stream, its rows come whole and in order."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ehr.database import copy
from ehr.database.copy_out import Frames, Rows

rows = st.lists(
    st.tuples(
        st.integers(-(2**15), 2**15 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=8),
        st.binary(max_size=30),
    ),
    max_size=6,
)
cuts = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def pieces(content: bytes, sizes: list[int]) -> list[bytes]:
    made, start, number = [], 0, 0
    while start < len(content):
        made.append(content[start : start + sizes[number % len(sizes)]])
        start, number = start + sizes[number % len(sizes)], number + 1
    return made


@given(rows, cuts)
def test_rows_of_four_columns(given_rows: list[tuple[int, int, str, bytes]], sizes: list[int]) -> None:
    head, parts = copy.fixed("int2", "int8", columns=4), [copy.HEADER]
    for type_id, shard, id, body in given_rows:
        parts += (head(type_id, shard), copy.variable(id.encode()), copy.variable(body))
    stream, found = Rows(), []
    for piece in pieces(b"".join([*parts, copy.TRAILER]), sizes):
        assert not stream.ended()
        found += stream.feed(piece)
    assert (found, stream.ended()) == (given_rows, True)


@given(rows, cuts)
def test_frames_are_shards_and_bodies(given_rows: list[tuple[int, int, str, bytes]], sizes: list[int]) -> None:
    head, parts = copy.fixed("int8", columns=2), [copy.HEADER]
    for _, shard, _, body in given_rows:
        parts += (head(shard), copy.variable(body))
    stream = Frames()
    found: list[Any] = []
    for piece in pieces(b"".join([*parts, copy.TRAILER]), sizes):
        assert not stream.ended()
        found += zip(*stream.feed(piece), strict=True)
    assert (found, stream.ended()) == ([(shard, body) for _, shard, _, body in given_rows], True)
