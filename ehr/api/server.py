"""Run an ASGI application on one socket, and hand back a handle to stop it.

In:      the application, a host, a port (0 takes a free one)
Out:     HttpServer: .port as bound, .stop() after which every answer that was begun has been sent
Why:     uvicorn's own serve() takes over the signals of the process; here the composition root keeps them, because
         it also has a database, a broker and an MLLP listener to stop in order. And uvicorn looks every 100 ms whether
         it is to stop, waits 100 ms more, and looks again: a server that nobody asks anything ends at once here
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
_DATE_S: Final = 1
_LOOK_S: Final = 0.01
_KEEP_ALIVE_S: Final = 30
_BACKLOG: Final = 2_048


class _Quiet(uvicorn.Server):
    """uvicorn without its hands on the process and without its naps."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.ending = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Until asked to end; each turn renews the Date of the answers."""
        while not self.ending.is_set():
            await self.on_tick(0)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ending.wait(), _DATE_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Connections end where nothing is asked on them, or with their answer; after 30 s it is given up."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - nobody is told
                    await asyncio.sleep(_LOOK_S)
        for task in self.server_state.tasks:
            task.cancel()


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
        self._server.ending.set()
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
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        await asyncio.wait({ready})
        listener.close()
        await task
        raise OSError("the HTTP server ended while it started")
    return HttpServer(server, task, host, listener.getsockname()[1])
