"""An answer whose body is a file: streamed, and compressed on the way where the client takes gzip.

In:      an open file
Out:     the ASGI messages of the answer; the file is closed
Memory:  one block
Ends:    early, when the client has gone
Source:  RFC 9110 12.5.3 (Accept-Encoding), 15.3.1
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
    """headers hold the type of the content; length and encoding are added."""

    file: BinaryIO | None = None
    length: int = 0
    gzip: bool = False
    receive: Receive | None = None

    async def send(self, send: Send, more: Sequence[Header] = (), *, head: bool = False) -> None:
        assert self.file is not None, "made with a file"
        assert self.receive is not None, "made with the request"
        with self.file:
            encoding = [(b"content-encoding", b"gzip")] if self.gzip else [(b"content-length", b"%d" % self.length)]
            headers = [*self.headers, *encoding, (b"vary", b"Accept-Encoding"), *more]
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            if head:
                await send({"type": "http.response.body", "body": b""})
                return
            gone = asyncio.create_task(_gone(self.receive))
            try:
                await self._blocks(send, gone)
            finally:
                gone.cancel()

    async def _blocks(self, send: Send, gone: "asyncio.Task[None]") -> None:
        block_of = _compressing(self.file) if self.gzip else _plain(self.file)
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


def _plain(file: BinaryIO | None) -> Callable[[], tuple[bytes, bool]]:
    assert file is not None, "made with a file"

    def next_block() -> tuple[bytes, bool]:
        block = file.read(_BLOCK_BYTES)
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
