"""The bytes of answers on the wire: whole ones in one write, all others as uvicorn writes them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from ehr.api.server import HttpServer, run_http

Header = tuple[bytes, bytes]

LENGTH: list[Header] = [(b"content-length", b"5"), (b"etag", b'W/"1"')]


def start(*headers: Header, status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


ANSWERS: dict[str, list[Message]] = {
    "/whole": [start(*LENGTH), body(b"12345")],
    "/whole-with-a-line-break-in-a-header": [start(*LENGTH, (b"location", b"/\r\nset-cookie: x")), body(b"12345")],
    "/whole-with-a-name-that-ends": [start(*LENGTH, (b"x: y\r\nz", b"1")), body(b"12345")],
    "/shorter-than-said": [start(*LENGTH), body(b"123")],
    "/in-pieces": [start(*LENGTH), body(b"12", more=True), body(b"34", more=True), body(b"5")],
    "/of-unknown-length": [start(), body(b"12", more=True), body(b"345")],
    "/unknown-at-once": [start(), body(b"12345")],
    "/empty": [start(status=204), body()],
    "/closing": [start(*LENGTH, (b"connection", b"close")), body(b"12345")],
    "/too-often": [start(*LENGTH), body(b"12345"), body(b"6")],
}
Ask = Callable[[bytes], Awaitable[bytes]]


class Wire:
    """A server that answers as ANSWERS says, and counts the writes of each connection."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.server: HttpServer

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        for connection in self.server._server.server_state.connections:
            transport: Any = connection.transport
            if transport.write.__name__ != "counted":
                transport.write = self._counted(transport.write)
        for message in ANSWERS[scope["path"]]:
            await send(message)

    def _counted(self, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def counted(data: bytes) -> None:
            if data:
                self.writes.append(data)
            write(data)

        return counted

    async def ask(self, *requests: bytes) -> bytes:
        """What comes back, without the date."""
        return b"\r\n".join(line for line in await self.lines(*requests) if not line.startswith(b"date: "))

    async def lines(self, *requests: bytes) -> list[bytes]:
        """Everything that comes back until the server has nothing more to say."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(b"".join(requests))
        writer.write_eof()
        async with asyncio.timeout(10):
            raw = await reader.read()
        writer.close()
        return raw.split(b"\r\n")


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    made.server = await run_http(made, "127.0.0.1", 0)
    yield made
    await made.server.stop()


def get(path: str, *, method: str = "GET", version: str = "1.1", ends: bool = True) -> bytes:
    connection = "connection: close\r\n" if ends and version == "1.1" else ""
    return f"{method} {path} HTTP/{version}\r\nhost: x\r\n{connection}\r\n".encode()


WHOLE = b'HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: W/"1"\r\n\r\n12345'


async def test_a_whole_answer_is_one_write(wire: Wire) -> None:
    both = await wire.ask(get("/whole", ends=False), get("/whole"))
    assert both == WHOLE + WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert wire.writes[0].endswith(b"\r\n\r\n12345")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (
            get("/whole", method="HEAD"),
            b'HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: W/"1"\r\nconnection: close\r\n\r\n',
        ),
        (get("/whole", version="1.0"), WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")),
        (get("/in-pieces"), WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")),
        (get("/empty"), b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"),
        (get("/closing", ends=False), WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")),
    ],
)
async def test_every_other_answer_is_as_uvicorn_writes_it(wire: Wire, request_: bytes, answer: bytes) -> None:
    assert await wire.ask(request_) == answer


@pytest.mark.parametrize("path", ["/of-unknown-length", "/unknown-at-once"])
async def test_without_a_length_it_comes_in_chunks(wire: Wire, path: str) -> None:
    answer = await wire.ask(get(path, ends=False), get(path))
    assert answer.count(b"transfer-encoding: chunked") == 2
    assert answer.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("path", ["/whole-with-a-line-break-in-a-header", "/whole-with-a-name-that-ends"])
async def test_no_header_breaks_out_of_its_line(wire: Wire, path: str) -> None:
    answer = await wire.ask(get(path, ends=False))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in answer
    assert b"z: 1" not in answer


async def test_a_body_shorter_than_its_length_is_not_taken_for_whole(wire: Wire) -> None:
    assert (await wire.ask(get("/shorter-than-said", ends=False))).endswith(b"\r\n\r\n123")


async def test_nothing_is_written_behind_an_answer(wire: Wire) -> None:
    assert await wire.ask(get("/too-often", ends=False)) == WHOLE


async def test_the_date_is_that_of_the_answer(wire: Wire) -> None:
    dates: set[bytes] = set()
    for _ in range(2):
        lines = await wire.lines(b"GET /whole HTTP/1.1\r\nhost: x\r\n\r\n")
        dates.update(line for line in lines if line.startswith(b"date: "))
        await asyncio.sleep(1.1)  # the server makes it anew each second
    assert len(dates) == 2
