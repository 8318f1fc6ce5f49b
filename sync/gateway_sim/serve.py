"""Run the simulated gateway on a socket, inside the event loop of whoever starts it."""

import contextlib
from collections.abc import AsyncIterator

from ehr.api.server import HttpServer, run_http
from ehr.clock import Clock, SystemClock
from sync.gateway_sim.app import create_app
from sync.gateway_sim.books import Books
from sync.gateway_sim.faults import Faults


class GatewaySim:
    """start(), port, url, books, stop(). port 0 takes a free one."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, faults: Faults | None = None, clock: Clock | None = None
    ) -> None:
        self.host, self.port = host, port
        self.books = Books(clock or SystemClock(), faults or Faults())
        self._server: HttpServer | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        self._server = await run_http(create_app(self.books), self.host, self.port)
        self.port = self._server.port

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None


@contextlib.asynccontextmanager
async def gateway_sim(
    host: str = "127.0.0.1", port: int = 0, *, faults: Faults | None = None, clock: Clock | None = None
) -> AsyncIterator[GatewaySim]:
    """A running simulator for the time of a block."""
    simulator = GatewaySim(host, port, faults=faults, clock=clock)
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()
