"""Put an answer that is whole on the wire in one write: status, headers and body together.

In:      the ASGI messages of one answer
Out:     bytes on the connection, as uvicorn writes them; whatever is not the plain case (a stream, HEAD, no body, a
         connection that ends) is left to uvicorn
Keeps:   no byte of a header breaks out of its line; Content-Length is the body's
Why:     uvicorn writes headers and body apart, which is a system call and a packet more (12 µs), and looks at every
         byte of headers that are the same in every answer. ASGI asks a server to wait for the body's first piece
         (ASGI specification, HTTP: Response Start); then both are at hand
"""

import re
from collections.abc import Sequence
from typing import Final

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from ehr.api.answer import Header

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_THEIR_OWN: Final = frozenset({b"date", b"etag", b"last-modified", b"location", b"x-request-id"})
"""Headers whose values are seldom seen again: their lines are not kept."""

_LINES_MAX: Final = 1_024
_lines: Final[dict[Header, bytes]] = {}
_names: Final[set[bytes]] = set()
"""Names that are ones: there are as many as the program has."""


class OneWrite:
    """The send of one answer. It stands in for that of uvicorn's cycle until the first piece of the body is there."""

    __slots__ = ("_cycle", "_over", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._start: Message | None = None
        self._over = False

    async def __call__(self, message: Message) -> None:
        cycle, start = self._cycle, self._start
        if self._over:
            await cycle.send(message)  # type: ignore[arg-type]  # uvicorn has a type for each message
            return
        if start is None and message["type"] == "http.response.start":
            self._start = message
            return
        self._over = True
        del cycle.send  # from here on it is uvicorn's own, and does not refer to us
        content = None if start is None else _whole(cycle, start, message)
        if content is not None:
            cycle.response_started = cycle.response_complete = True
            cycle.waiting_for_100_continue = False
            cycle.transport.write(content)
            cycle.message_event.set()
            cycle.on_response()
            return
        if start is not None:
            await cycle.send(start)  # type: ignore[arg-type]
        await cycle.send(message)  # type: ignore[arg-type]


def _whole(cycle: RequestResponseCycle, start: Message, message: Message) -> bytes | None:
    """The answer's bytes, where this is all of it, with a body and a length, on a connection that stays."""
    body = message.get("body", b"")
    if not (body and cycle.keep_alive) or message.get("more_body") or cycle.disconnected or cycle.flow.write_paused:
        return None
    length = b"content-length", b"%d" % len(body)
    pieces, told = [STATUS_LINE[start["status"]], _defaults.of(cycle.default_headers)], False
    for header in start["headers"]:
        if header == length:
            told = True
            pieces.append(b"content-length: %b\r\n" % header[1])
        elif header[0] in (b"content-length", b"transfer-encoding", b"connection"):
            return None
        else:
            pieces.append(_lines.get(header) or _line(header))
    if not told or cycle.scope["method"] == "HEAD":
        return None
    return b"".join((*pieces, b"\r\n", body))


class _Defaults:
    """The lines of uvicorn's own headers, which are others each second."""

    def __init__(self) -> None:
        self._headers: Sequence[Header] = ()
        self._lines = b""

    def of(self, headers: Sequence[Header]) -> bytes:
        if headers is not self._headers:
            self._headers, self._lines = headers, b"".join(map(_line, headers))
        return self._lines


_defaults: Final = _Defaults()


def _line(header: Header) -> bytes:
    name, value = header
    if not ((name in _names or _NAME.fullmatch(name)) and _VALUE.fullmatch(value)):
        raise ValueError("a header's name or value has a character that ends it")
    _names.add(name)
    line = b"%b: %b\r\n" % (name, value)
    if name not in _THEIR_OWN and len(_lines) < _LINES_MAX:
        _lines[header] = line
    return line
