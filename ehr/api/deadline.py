"""uvicorn's HTTP protocol with bounds on a request's headers, their time and their size; whole answers in one write.

Cost:    nothing for headers that come in one piece: a clock is set only where they do not
Why:     uvicorn waits for ever for a header that does not end, and the application, which could measure, is not yet
         called. A connection on which nothing begins is ended too (keep-alive is uvicorn's own). So is one whose
         request goes on after its answer, as where the body was not wanted: each byte of it would stop the keep-alive
         clock. And what comes in a body and is none (trailers, extensions of chunks) is kept by the parser
Source:  measured: after 20 s of one header byte a second the connection was still open; after a 401, too, while a
         body dripped; 120 MB of a trailer took 180 MB. RFC 9112 7.1.2: trailers are not merged into the headers
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ehr import limits
from ehr.api.one_write import OneWrite

_REQUEST_TIMEOUT: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class DeadlineProtocol(HttpToolsProtocol):
    """One connection."""

    _waiting: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = False
    _body_came = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_headers:
            if self._waiting is None:
                self._wait()
            self._header_bytes += len(data)
            if self._header_bytes > limits.http_headers_bytes_max:
                self._end(_TOO_LARGE)
        elif self.cycle is not None and self.cycle.more_body:  # what is neither header nor content
            self._header_bytes = 0 if self._body_came else self._header_bytes + len(data)
            self._body_came = False
            if self._header_bytes > limits.http_headers_bytes_max:
                self._end(b"")

    def on_message_begin(self) -> None:
        self._arrived()
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._arrived()
        self._in_headers = False
        super().on_headers_complete()
        self._header_bytes = 0
        self.headers = []  # what the parser finds from here on are trailers
        self.cycle.send = OneWrite(self.cycle)  # type: ignore[method-assign, assignment]  # until it has answered

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and self._waiting is None:
            self._waiting = self.loop.call_later(limits.http_body_read_s, self._end, b"")

    def _wait(self) -> None:
        self._header_bytes = 0
        self._waiting = self.loop.call_later(limits.http_headers_read_s, self._end, _REQUEST_TIMEOUT)

    def _arrived(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _end(self, answer: bytes) -> None:
        self._arrived()
        transport: Any = self.transport
        if transport is not None and not transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                transport.write(answer)
            transport.close()
