"""The server under the HTTP side: answers leave at once, and it ends at once with whole answers."""

import asyncio
import socket
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from ehr.api.server import HttpServer, run_http


async def test_the_pieces_of_an_answer_do_not_wait_for_acknowledgments() -> None:
    """Measured on the loop of `ehr serve`: with Nagle's algorithm every answer came 40 ms late."""
    nodelay: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for connection in server._server.server_state.connections:
            accepted: socket.socket = connection.transport.get_extra_info("socket")
            nodelay.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    server = await run_http(application, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"204"
    writer.close()
    await writer.wait_closed()
    await server.stop()
    assert nodelay == [1]


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def seconds_to_end(server: HttpServer) -> float:
    begun = time.perf_counter()
    await server.stop()
    return time.perf_counter() - begun


async def test_a_server_that_nobody_asks_anything_ends_at_once() -> None:
    """uvicorn's own way took 100 to 300 ms. The best of some: the machine may be busy."""
    took = []
    for _ in range(5):
        server = await run_http(empty, "127.0.0.1", 0)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(server.base_url)
            took.append(await seconds_to_end(server))  # while the client keeps its connection
            with pytest.raises(httpx.TransportError):
                await client.get(server.base_url)
        assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()) < 30
    assert min(took) < 0.08


async def test_what_was_begun_is_answered_before_the_end() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go.wait()
        await empty(scope, receive, send)

    server = await run_http(slow, "127.0.0.1", 0)
    async with httpx.AsyncClient(trust_env=False) as client:
        asked = asyncio.create_task(client.get(server.base_url))
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        go.set()
        assert (await asked).status_code == 204
        await stopping
    await server.stop()  # once more does no harm


async def test_what_is_not_answered_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehr.api.server._GRACE_S", 0.05)
    begun = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    server = await run_http(endless, "127.0.0.1", 0)
    async with httpx.AsyncClient(trust_env=False) as client:
        asked = asyncio.create_task(client.get(server.base_url))
        await begun.wait()
        assert await seconds_to_end(server) < 10
        assert (await asked).status_code == 500
