"""Listen for MLLP connections, and answer each block after the pipeline has made it durable.

In:      TCP connections of facilities
Out:     one ACK per block, in the order of the blocks
Limits:  connections_max open connections; idle_s between blocks; block_read_s from start block to end block;
         a peer that does not read its answers is cut after the same time
Errors:  a framing fault closes the connection without an answer; when the record cannot be reached nothing is
         answered either and the connection is closed, so that the facility keeps its message and sends it again
Why:     never an answer before the message is durable (docs/adr/0016), and never one for half a message.
"""

import asyncio
import contextlib
from typing import Final, Protocol

import structlog

from adapters.mllp.framing import Block, Fault, Framer, wrap
from ehr import limits
from ehr.errors import Unavailable

log = structlog.get_logger(__name__)

CHUNK_BYTES: Final = 65_536
CLOSE_S: Final = 2.0
"""To finish the blocks in hand when the listener stops."""


class Receiver(Protocol):
    """What the listener needs of the pipeline."""

    async def receive_hl7(self, block: bytes, peer: str, *, facility_code: str | None = None) -> bytes:
        """Make one message durable, apply it, and answer."""
        ...

    async def broke(self, block: bytes, error: Exception, *, facility_code: str | None = None) -> bytes | None:
        """Note that a message met a fault of ours, and answer it if it is at least kept."""
        ...


class MllpServer:
    """One listener. facility_code binds it to one facility, for senders that do not name themselves in MSH-4."""

    def __init__(
        self,
        pipeline: Receiver,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        default_facility: str | None = None,
        connections_max: int = limits.mllp_connections_max,
        idle_s: float = limits.mllp_idle_s,
        block_read_s: float = limits.mllp_block_read_s,
        block_bytes_max: int = limits.mllp_block_bytes_max,
    ) -> None:
        self._pipeline = pipeline
        self._host = host
        self.port = port
        self._facility_code = default_facility
        self._connections_max = connections_max
        self._idle_s = idle_s
        self._block_read_s = block_read_s
        self._block_bytes_max = block_bytes_max
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.Event] = {}

    @property
    def connections(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, self._host, self.port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop accepting, let blocks in hand be answered for a moment, then close."""
        if self._server is None:
            return
        self._server.close()
        for at_rest in self._open.values():
            at_rest.set()
        if self._open:
            _, late = await asyncio.wait(list(self._open), timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self._connections_max:
            log.warning("mllp.refused", issue="too many connections", count=len(self._open))
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None, "a connection is a task"
        stopping = self._open[task] = asyncio.Event()
        try:
            await self._converse(reader, writer, stopping)
        except (ConnectionError, TimeoutError) as error:
            log.info("mllp.closed", issue=type(error).__name__)
        except asyncio.CancelledError:
            # The listener stops. The task ends here and now; passed on, asyncio would report it as a failed callback.
            log.info("mllp.closed", issue="stopped")
        finally:
            del self._open[task]
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await writer.wait_closed()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stopping: asyncio.Event
    ) -> None:
        framer = Framer(self._block_bytes_max)
        peer = str((writer.get_extra_info("peername") or ("?",))[0])
        loop = asyncio.get_running_loop()
        began: float | None = None
        while not stopping.is_set():
            due = loop.time() + self._idle_s if began is None else began + self._block_read_s
            chunk = await self._read(reader, due, stopping)
            if not chunk:
                if framer.mid_block:
                    issue = "connection ended inside a block"
                    log.warning("mllp.fault", issue=issue, host=peer, bytes=len(framer.held))
                return
            for event in framer.feed(chunk):
                match event:
                    case Block(payload):
                        began = None
                        if not await self._answer(payload, peer, writer):
                            return
                    case Fault(why):
                        log.warning("mllp.fault", issue=why, host=peer)
                        return
            began = (began or loop.time()) if framer.mid_block else None

    async def _read(self, reader: asyncio.StreamReader, due: float, stopping: asyncio.Event) -> bytes:
        """The next bytes; b"" at the end, at the deadline, or when the listener stops."""
        read = asyncio.ensure_future(reader.read(CHUNK_BYTES))
        stop = asyncio.ensure_future(stopping.wait())
        try:
            remaining = due - asyncio.get_running_loop().time()
            await asyncio.wait((read, stop), timeout=max(remaining, 0), return_when=asyncio.FIRST_COMPLETED)
            if read.done():
                return read.result()
            if not stopping.is_set():
                log.warning("mllp.fault", issue="deadline passed")
            return b""
        finally:
            for waiting in (read, stop):
                waiting.cancel()
            await asyncio.gather(read, stop, return_exceptions=True)

    async def _answer(self, payload: bytes, peer: str, writer: asyncio.StreamWriter) -> bool:
        """Answer one block; False when the connection must be closed."""
        keep_open = True
        try:
            answer: bytes | None = await self._pipeline.receive_hl7(payload, peer, facility_code=self._facility_code)
        except Unavailable:
            log.warning("mllp.unavailable", exc_info=True)
            return False
        except Exception as error:
            # The edge: a fault of ours must not end the listener, nor the message. It is in the ledger.
            log.exception("mllp.failed")
            answer = await self._broken(payload, error)
            keep_open = False
        if answer is None:
            return False
        writer.write(wrap(answer))
        async with asyncio.timeout(self._block_read_s):
            await writer.drain()
        return keep_open

    async def _broken(self, payload: bytes, error: Exception) -> bytes | None:
        try:
            return await self._pipeline.broke(payload, error, facility_code=self._facility_code)
        except Exception:
            log.exception("mllp.failed_twice")
            return None
