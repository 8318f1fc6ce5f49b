"""The bytes of COPY … TO STDOUT (FORMAT binary) → rows, as they arrive. Pure.

In:      pieces of the stream, cut anywhere; every row is (smallint, bigint, text, bytea), none of them null
Out:     Row tuples of each piece, in order; what belongs to a row that is not whole yet waits for the next piece
Memory:  one piece and the longest row
Why:     a cursor is asked for a number of rows, and a number of rows says nothing about bytes; COPY is a stream
Source:  PostgreSQL documentation, COPY, "Binary Format"
"""

from struct import Struct
from typing import Final

from ehr.database.copy import HEADER

Row = tuple[int, int, str, bytes]
"""type_id, shard, id, body."""

_FIRST: Final = Struct(">hihiqi")
"""Number of columns; smallint and bigint with their lengths; the length of the text."""
_LENGTH: Final = Struct(">i")
_COLUMNS: Final = 4
_TRAILER: Final = b"\xff\xff"


class Rows:
    """One stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._began = False

    def feed(self, piece: bytes) -> list[Row]:
        """The rows that are whole now."""
        content = self._rest + piece if self._rest else bytes(piece)
        start = 0
        if not self._began:
            if len(content) < len(HEADER):
                self._rest = content
                return []
            assert content.startswith(HEADER), "a binary COPY without oids"
            start, self._began = len(HEADER), True
        rows, end = _whole(content, start)
        self._rest = content[end:]
        return rows

    def ended(self) -> bool:
        """Whether the stream came to its own end."""
        return self._rest == _TRAILER


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
