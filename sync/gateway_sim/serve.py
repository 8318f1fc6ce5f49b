"""Run the simulated gateway on a socket, inside the event loop of whoever starts it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import uvicorn

from ehr.clock import Clock, SystemClock
from sync.gateway_sim.app import create_app
from sync.gateway_sim.books import Books
from sync.gateway_sim.faults import Faults


class _Server(uvicorn.Server):
    """Signals belong to the process, which has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GatewaySim:
    """start(), port, url, books, stop(). port 0 takes a free one."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, faults: Faults | None = None, clock: Clock | None = None
    ) -> None:
        self.host, self.port = host, port
        self.books = Books(clock or SystemClock(), faults or Faults())
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        config = uvicorn.Config(
            create_app(self.books), self.host, self.port, log_config=None, access_log=False, lifespan="off", ws="none"
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the simulated gateway ended before it served")
            await asyncio.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
            self._server = self._task = None


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


async def run_gateway_sim(host: str, port: int, *, faults: Faults | None = None) -> None:
    """Serve until cancelled."""
    async with gateway_sim(host, port, faults=faults):
        await asyncio.Event().wait()
