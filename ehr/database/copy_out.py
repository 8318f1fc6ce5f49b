"""The bytes of COPY … TO STDOUT (FORMAT binary) → rows, as they arrive. Pure.

In:      pieces of the stream, cut anywhere; every row is (smallint, bigint, text, bytea), or (bigint, bytea), none null
Out:     the rows of each piece, in order; what belongs to a row that is not whole yet waits for the next piece
Memory:  one piece and the longest row
Why:     a cursor is asked for a number of rows, and a number of rows says nothing about bytes; COPY is a stream
Source:  PostgreSQL documentation, COPY, "Binary Format"
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, Generic, TypeVar

from ehr.database.copy import HEADER

Row = tuple[int, int, str, bytes]
"""type_id, shard, id, body."""

T = TypeVar("T")

_FIRST: Final = Struct(">hihiqi")
"""Number of columns; smallint and bigint with their lengths; the length of the text."""
_LENGTH: Final = Struct(">i")
_COLUMNS: Final = 4
_BARE: Final = Struct(">6xqi")
"""Bigint, after the number of columns and its length; the length of the bytea."""
_BARE_COLUMNS: Final = b"\x00\x02"
_TRAILER: Final = b"\xff\xff"


class _Stream(Generic[T]):
    """One stream."""

    def __init__(self, whole: Callable[[bytes, int], tuple[T, int]]) -> None:
        """whole: content and where its rows begin → the rows that are whole, and where they end."""
        self._whole = whole
        self._rest = b""
        self._began = False

    def feed(self, piece: bytes) -> T:
        """The rows that are whole now."""
        content = self._rest + piece if self._rest else bytes(piece)
        start = 0
        if not self._began and len(content) >= len(HEADER):
            assert content.startswith(HEADER), "a binary COPY without oids"
            start, self._began = len(HEADER), True
        rows, end = self._whole(content if self._began else b"", start)
        self._rest = content[end:]
        return rows

    def ended(self) -> bool:
        """Whether the stream came to its own end."""
        return self._rest == _TRAILER


class Rows(_Stream[list[Row]]):
    """Of four columns."""

    def __init__(self) -> None:
        super().__init__(_whole)


class Frames(_Stream[tuple[list[int], list[bytes]]]):
    """Of shard and body: a list of each."""

    def __init__(self) -> None:
        super().__init__(_whole_frames)


def _whole(content: bytes, start: int) -> tuple[list[Row], int]:
    rows: list[Row] = []
    first, length, head, size = _FIRST.unpack_from, _LENGTH.unpack_from, _FIRST.size, len(content)
    while start + head <= size:
        columns, _, type_id, _, shard, id_bytes = first(content, start)
        assert columns == _COLUMNS, "the statement has four columns"
        id_end = start + head + id_bytes
        if id_end + 4 > size:
            break
        body_end = id_end + 4 + length(content, id_end)[0]
        if body_end > size:
            break
        rows.append((type_id, shard, content[start + head : id_end].decode(), content[id_end + 4 : body_end]))
        start = body_end
    return rows, start


def _whole_frames(content: bytes, start: int) -> tuple[tuple[list[int], list[bytes]], int]:
    shards: list[int] = []
    frames: list[bytes] = []
    first, head, size = _BARE.unpack_from, _BARE.size, len(content)
    assert start + head > size or content.startswith(_BARE_COLUMNS, start), "the statement has two columns"
    while start + head <= size:
        shard, length = first(content, start)
        end = start + head + length
        if end > size:
            break
        shards.append(shard)
        frames.append(content[start + head : end])
        start = end
    return (shards, frames), start
