"""Send HL7 messages to an MLLP listener, one at a time, until each is answered.

In:      messages as bytes
Out:     the ACK of each
Limits:  timeout_s for one message, resends included
Why:     a lost connection means an unknown outcome: the same bytes are sent again, and the receiver, which keeps
         messages by control id and content, gives the answer it gave before.
"""

import asyncio
import contextlib
from typing import Final

from adapters.mllp.framing import Block, Fault, Framer, wrap
from ehr import limits

CHUNK_BYTES: Final = 65_536
PAUSE_FIRST_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0


class NotAnswered(ConnectionError):
    """The deadline passed, or the connection was lost with no time left to send again."""


class MllpClient:
    """One connection to one listener, opened when needed."""

    def __init__(self, host: str, port: int, *, answer_bytes_max: int = limits.mllp_block_bytes_max) -> None:
        self.host = host
        self.port = port
        self.resent = 0
        self._answer_bytes_max = answer_bytes_max
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def send(self, message: bytes, timeout_s: float = limits.mllp_block_read_s) -> bytes:
        """Send one message and wait for its ACK; the same bytes go out again when the connection is lost."""
        pause_s = PAUSE_FIRST_S
        try:
            async with self._turn, asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await self._exchange(message)
                    except OSError:
                        await self.close()
                        self.resent += 1
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, PAUSE_MAX_S)
        except TimeoutError as error:
            await self.close()
            raise NotAnswered(f"no answer in {timeout_s} s") from error
        except asyncio.CancelledError:
            # An answer still under way would be taken for that of the next message.
            await self.close()
            raise

    async def close(self) -> None:
        if self._streams is None:
            return
        _, writer = self._streams
        self._streams = None
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _exchange(self, message: bytes) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        writer.write(wrap(message))
        await writer.drain()
        framer = Framer(self._answer_bytes_max)
        while True:
            chunk = await reader.read(CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("the listener closed the connection")
            for event in framer.feed(chunk):
                match event:
                    case Block(payload):
                        return payload
                    case Fault(why):
                        raise ConnectionAbortedError(why)
