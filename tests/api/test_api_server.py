"""The socket under the HTTP side: answers leave at once."""

import asyncio
import socket

from starlette.types import Receive, Scope, Send

from ehr.api.server import run_http


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
