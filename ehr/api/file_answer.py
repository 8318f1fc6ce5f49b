"""An answer whose body is a file: streamed, and compressed on the way where the client takes gzip.

In:      an open file, and which part of it is wanted
Out:     the ASGI messages of the answer; the file is closed
Memory:  one block
Ends:    early, when the client has gone
Source:  RFC 9110 12.5.3 (Accept-Encoding), 14.4 (Content-Range), 15.3.1, 15.3.7
"""

import asyncio
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from starlette.types import Receive, Send

from ehr.api.answer import Answer, Header

_BLOCK_BYTES: Final = 256 * 1024
_GZIP_BITS: Final = 31
"""zlib's way to say: gzip's header and trailer, the widest window."""
_LEVEL: Final = 1
_REFUSED: Final = re.compile(r"q\s*=\s*0(\.0{0,3})?\s*$", re.ASCII)


@dataclass(slots=True)
class FileAnswer(Answer):
    """headers hold the type of the content; length, range and encoding are added. part: None is all of it."""

    file: BinaryIO | None = None
    length: int = 0
    gzip: bool = False
    part: range | None = None
    receive: Receive | None = None

    async def send(self, send: Send, more: Sequence[Header] = (), *, head: bool = False) -> None:
        assert self.file is not None, "made with a file"
        assert self.receive is not None, "made with the request"
        with self.file:
            headers = [*self.headers, *self._extent(), (b"vary", b"Accept-Encoding"), *more]
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            if head:
                await send({"type": "http.response.body", "body": b""})
                return
            gone = asyncio.create_task(_gone(self.receive))
            try:
                await self._blocks(send, gone)
            finally:
                gone.cancel()

    def _extent(self) -> list[Header]:
        """How much is sent; of a part, which."""
        if self.gzip:
            return [(b"content-encoding", b"gzip")]
        if self.part is None:
            return [(b"content-length", b"%d" % self.length)]
        place = b"bytes %d-%d/%d" % (self.part.start, self.part.stop - 1, self.length)
        return [(b"content-length", b"%d" % len(self.part)), (b"content-range", place)]

    async def _blocks(self, send: Send, gone: "asyncio.Task[None]") -> None:
        block_of = _compressing(self.file) if self.gzip else _plain(self.file, self.part or range(self.length))
        while not gone.done():
            block, last = await asyncio.to_thread(block_of)
            await send({"type": "http.response.body", "body": block, "more_body": not last})
            if last:
                return


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether the client takes gzip: named, and not with a quality of 0."""
    for one in (accept_encoding or "").lower().split(","):
        name, _, quality = one.partition(";")
        if name.strip() == "gzip":
            return not _REFUSED.search(quality.strip())
    return False


def _plain(file: BinaryIO | None, part: range) -> Callable[[], tuple[bytes, bool]]:
    assert file is not None, "made with a file"
    file.seek(part.start)
    left = len(part)

    def next_block() -> tuple[bytes, bool]:
        nonlocal left
        block = file.read(min(left, _BLOCK_BYTES))
        left -= len(block)
        return block, not block

    return next_block


def _compressing(file: BinaryIO | None) -> Callable[[], tuple[bytes, bool]]:
    assert file is not None, "made with a file"
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)

    def next_block() -> tuple[bytes, bool]:
        block = file.read(_BLOCK_BYTES)
        return (packer.compress(block), False) if block else (packer.flush(), True)

    return next_block


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
