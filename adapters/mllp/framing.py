"""Split a TCP byte stream into MLLP blocks. No sockets, no clock: bytes in, events out.

Block:   <VT> payload <FS><CR>            0x0B … 0x1C 0x0D
In:      any chunking of the stream
Out:     Block(payload) | Fault(why)       after a Fault the connection must be closed
Limits:  payload_bytes_max, junk_bytes_max (CR and LF tolerated between blocks)
Cost:    every byte is looked at once, so a peer that drips single bytes costs no more
Source:  HL7 Version 3 Standard: Transport Specification, MLLP Release 1
Why:     a Fault ends the connection because after a framing error nobody knows where the next message
         starts, and guessing is how one patient's result lands in another's message.
"""

from dataclasses import dataclass, field
from typing import Final

VT: Final = 0x0B
FS: Final = 0x1C
CR: Final = 0x0D
PADDING: Final = b"\r\n"


@dataclass(frozen=True, slots=True)
class Block:
    """One whole payload, start and end block removed."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """The stream broke the framing rules; nothing after it can be trusted."""

    why: str


def wrap(payload: bytes) -> bytes:
    """The block that carries a payload."""
    assert VT not in payload, "a payload holds no start block"
    assert FS not in payload, "a payload holds no end block"
    return b"\x0b" + payload + b"\x1c\x0d"


@dataclass(slots=True)
class Framer:
    payload_bytes_max: int
    junk_bytes_max: int = 16
    _buffer: bytearray = field(default_factory=bytearray)
    _scanned: int = 0
    _in_block: bool = False
    _faulted: bool = False

    def feed(self, chunk: bytes) -> list[Block | Fault]:
        """Every event the stream so far completes; at most one Fault, as the last."""
        assert not self._faulted, "feed() after a Fault"
        self._buffer += chunk
        events: list[Block | Fault] = []
        while (event := self._next()) is not None:
            events.append(event)
            if isinstance(event, Fault):
                self._faulted = True
                break
        return events

    @property
    def mid_block(self) -> bool:
        """The peer has begun a block and not ended it: the read deadline runs."""
        return self._in_block

    @property
    def held(self) -> bytes:
        """What has arrived of an unfinished block, for the log of a fault; never handed on as a message."""
        return bytes(self._buffer)

    def _next(self) -> Block | Fault | None:
        if not self._in_block:
            fault = self._seek_start()
            if fault is not None or not self._in_block:
                return fault
        return self._seek_end()

    def _seek_start(self) -> Fault | None:
        start = self._buffer.find(VT)
        junk = self._buffer if start < 0 else self._buffer[:start]
        if junk.strip(PADDING):
            return Fault("bytes outside a block")
        if len(junk) > self.junk_bytes_max:
            return Fault("too many line ends between blocks")
        if start >= 0:
            del self._buffer[: start + 1]
            self._scanned = 0
            self._in_block = True
        return None

    def _seek_end(self) -> Block | Fault | None:
        end = self._buffer.find(FS, self._scanned)
        fresh_end = len(self._buffer) if end < 0 else end
        if self._buffer.find(VT, self._scanned, fresh_end) >= 0:
            return Fault("start block inside a block")
        if fresh_end > self.payload_bytes_max:
            return Fault("block over limit")
        self._scanned = fresh_end
        if end < 0 or len(self._buffer) == end + 1:
            return None
        if self._buffer[end + 1] != CR:
            return Fault("end block not followed by carriage return")
        payload = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._in_block = False
        return Block(payload)
