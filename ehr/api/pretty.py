"""Indent JSON bytes without reading their numbers or strings: every digit stays as it was stored (_pretty=true)."""

import re
from typing import Final

_PIECE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_OPENERS: Final = {b"{": b"}", b"[": b"]"}


def indented(body: bytes) -> bytes:
    """The same JSON with one value a line, two spaces a level."""
    out: list[bytes] = []
    depth = 0
    pieces = _PIECE.findall(body)
    for place, piece in enumerate(pieces):
        following = pieces[place + 1] if place + 1 < len(pieces) else b""
        if piece in _OPENERS:
            depth += 1
            out.append(piece)
            if following != _OPENERS[piece]:
                out.append(b"\n" + b"  " * depth)
        elif piece in (b"}", b"]"):
            depth -= 1
            if pieces[place - 1] not in _OPENERS:
                out.append(b"\n" + b"  " * depth)
            out.append(piece)
        elif piece == b",":
            out.append(b",\n" + b"  " * depth)
        elif piece == b":":
            out.append(b": ")
        else:
            out.append(piece)
    return b"".join(out)
