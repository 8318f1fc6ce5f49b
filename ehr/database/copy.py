"""Values → the bytes of COPY … (FORMAT binary). Pure.

In:      rows of the bulk loader; widths of fixed columns in the order of the COPY
Out:     HEADER, one bytes per row, TRAILER
Units:   timestamps are microseconds since 2000-01-01 in PostgreSQL, since 1970 everywhere else here
Cost:    one struct call for all fixed columns of a row: about 1 µs; asyncpg's record encoder takes three times that
Source:  PostgreSQL documentation, COPY, "Binary Format"; the send functions of int2, int4, int8, float8, text, array
"""

from collections.abc import Callable, Sequence
from functools import cache
from struct import Struct
from typing import Final

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

EPOCH_OFFSET_US: Final = 946_684_800_000_000
"""From 1970-01-01 to 2000-01-01."""

_INT8_OID: Final = 20
_CODES: Final = {"int2": ("h", 2), "int4": ("i", 4), "int8": ("q", 8), "float8": ("d", 8)}
_LENGTH: Final = Struct(">i")
_EMPTY_ARRAY: Final = Struct(">iii").pack(0, 0, _INT8_OID)

_arrays: dict[int, Struct] = {}


@cache
def fixed(*types: str | int | None, columns: int | None = None) -> Callable[..., bytes]:
    """A packer for a run of columns of known width. With columns it begins a row of so many columns.

    A number stands for text or bytea of so many bytes; None for NULL, which takes no value.
    fixed("int2", 36, None, columns=4)(7, id) begins a row of four columns with the first three of them.
    """
    parts = [_part(name) for name in types]
    layout = Struct((">h" if columns is not None else ">") + "".join(f"i{code}" for code, _ in parts))
    given = ", ".join(f"v{n}" for n, (code, _) in enumerate(parts) if code)
    packed = ", ".join(f"{width}, v{n}" if code else f"{width}" for n, (code, width) in enumerate(parts))
    count = f"{columns}, " if columns is not None else ""
    namespace: dict[str, Callable[..., bytes]] = {"pack": layout.pack}
    exec(f"def packer({given}): return pack({count}{packed})", namespace)  # noqa: S102 - widths and names of our own
    return namespace["packer"]


def _part(name: str | int | None) -> tuple[str, int]:
    """Code of the struct, and what the length field says."""
    if name is None:
        return "", -1
    return (f"{name}s", name) if isinstance(name, int) else _CODES[name]


def variable(value: bytes) -> bytes:
    """text or bytea."""
    return _LENGTH.pack(len(value)) + value


def length(value: bytes) -> bytes:
    """What comes before text or bytea: for values that need not be copied once more."""
    return _LENGTH.pack(len(value))


def int8_array(values: Sequence[int]) -> bytes:
    """bigint[] of one dimension, without nulls, and without the length that comes before a value."""
    count = len(values)
    if count == 0:
        return _EMPTY_ARRAY
    layout = _arrays.get(count)
    if layout is None:
        layout = _arrays[count] = Struct(">iiiii" + "iq" * count)
    interleaved = [8] * (2 * count)
    interleaved[1::2] = values
    return layout.pack(1, 0, _INT8_OID, count, 1, *interleaved)


def moment(us_since_1970: int) -> int:
    """What an int8 column of the packer takes for a timestamptz."""
    return us_since_1970 - EPOCH_OFFSET_US
