"""Run an ASGI application on one socket, and hand back a handle to stop it.

In:      the application, a host, a port (0 takes a free one)
Out:     HttpServer: .port as bound, .stop() after which every answer that was begun has been sent
Why:     uvicorn's own serve() takes over the signals of the process; here the composition root keeps them, because
         it also has a database, a broker and an MLLP listener to stop in order.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from ehr.api.deadline import DeadlineProtocol

_GRACE_S: Final = 30
_KEEP_ALIVE_S: Final = 30
_BACKLOG: Final = 2_048


class _Quiet(uvicorn.Server):
    """uvicorn without its hands on the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class HttpServer:
    """A running server."""

    def __init__(self, server: _Quiet, task: "asyncio.Task[None]", host: str, port: int) -> None:
        self._server = server
        self._task = task
        self.host = host
        self.port = port

    @property
    def base_url(self) -> str:
        """The FHIR base of this socket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/fhir"

    async def stop(self) -> None:
        """Take no new request, finish those begun within 30 s, and end."""
        self._server.should_exit = True
        await self._task


async def run_http(app: ASGIApp, host: str, port: int) -> HttpServer:
    """Bind, start, and return when requests are accepted; OSError where the address is taken."""
    listener = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
    )
    # Connections inherit it. asyncio sets it only on sockets whose protocol is named, and these have 0; without it
    # the second piece of every answer waits 40 ms for the client's delayed acknowledgment.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=DeadlineProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        with suppress(asyncio.CancelledError):
            await ready
        listener.close()
        await task
        raise OSError("the HTTP server ended while it started")
    return HttpServer(server, task, host, listener.getsockname()[1])
