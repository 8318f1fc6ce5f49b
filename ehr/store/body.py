"""Resource bytes ↔ zstd frames, with a dictionary per type where the database has one.

In:      type_id and JSON bytes; rows of zstd_dictionary
Out:     a frame that names its dictionary, so that any dictionary ever used stays readable
New:     another process may have written with a dictionary that this one has not seen: it is fetched then, once
Source:  RFC 8878 3.1.1.1, the frame header
Errors:  LookupError   a frame names a dictionary that the database does not have
Why:     a dictionary of 64 KiB shrinks a resource 8 times, without one 2.1 times (benchmarks/bytes.py)
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Final

import zstandard

_LEVEL: Final = 1
_SINGLE_SEGMENT: Final = 1 << 5
"""Bit of the header's descriptor: there is no window byte after it."""
_NAMED: Final = 3
"""Bits of it that say how many bytes the dictionary's number has."""
_NUMBER_BYTES: Final = (0, 1, 2, 4)

_USUAL: Final = _SINGLE_SEGMENT | 2
_HEAD: Final = slice(4, 7)
"""Descriptor and number of a usual frame: one look-up instead of reading the header."""
_head_of: Final = itemgetter(_HEAD)

LINE_FEED: Final = bytes.fromhex("28b52ffd20010900000a")
"""A frame of one line feed, as it is: RFC 8878 3.1.1, of one segment and one raw block. Any dictionary may stand by."""
LINES_BYTES: Final = 4 * 1024 * 1024
"""Of bodies unpacked in one step."""

Dictionaries = Iterable[tuple[int, bytes]]
"""(type_id, bytes) in the order they were made; the last of a type compresses."""


class BodyCodec:
    """Not for use from several threads at once: zstandard's contexts are not thread safe."""

    def __init__(self, dictionaries: Dictionaries = (), *, fetch: Callable[[], Dictionaries] | None = None) -> None:
        """fetch: every dictionary of the database, now."""
        self._plain = zstandard.ZstdCompressor(level=_LEVEL)
        self._plain_reader = zstandard.ZstdDecompressor()
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        self._readers: dict[int, zstandard.ZstdDecompressor] = {}
        self._by_head: dict[bytes, Callable[[bytes], bytes]] = {}
        self._fetch = fetch
        self.learn(dictionaries)

    def learn(self, dictionaries: Dictionaries) -> None:
        """Add those that are not known yet."""
        for type_id, content in dictionaries:
            dictionary = zstandard.ZstdCompressionDict(content)
            number = dictionary.dict_id()
            assert number, "a raw-content dictionary has no number and could not be found again"
            if number not in self._readers:
                self._compressors[type_id] = zstandard.ZstdCompressor(level=_LEVEL, dict_data=dictionary)
                self._readers[number] = zstandard.ZstdDecompressor(dict_data=dictionary)

    def has_dictionary(self, type_id: int) -> bool:
        return type_id in self._compressors

    def compress(self, type_id: int, body: bytes) -> bytes:
        return self._compressors.get(type_id, self._plain).compress(body)

    def decompress(self, frame: bytes) -> bytes:
        known = self._by_head.get(frame[_HEAD])
        return known(frame) if known is not None else self._read(frame)

    def lines(self, frames: Sequence[bytes]) -> memoryview | None:
        """The bodies, a line feed after each, unpacked in one step to where they stay until the next call.

        None where that cannot be: frames of several dictionaries, more than LINES_BYTES, a line feed within a body.
        """
        numbers = {_dictionary_of_head(head) for head in set(map(_head_of, frames))}
        number = numbers.pop() if len(numbers) == 1 else None
        if number is None:
            return None
        content, room = LINE_FEED.join((*frames, b"")), self._room
        size = self._reader(number).stream_reader(content, read_across_frames=True).readinto(room)
        find, end = room.find, -1
        for _ in frames:  # bytes.count looks at one byte after the other
            end = find(10, end + 1)
        return memoryview(room)[:size] if end == size - 1 < LINES_BYTES - 1 else None

    @cached_property
    def _room(self) -> bytearray:
        return bytearray(LINES_BYTES)

    def _read(self, frame: bytes) -> bytes:
        reader = self._reader(_dictionary_of(frame))
        if frame[4] & (_SINGLE_SEGMENT | _NAMED) == _USUAL:
            self._by_head[frame[_HEAD]] = reader.decompress
        return reader.decompress(frame)

    def _reader(self, number: int) -> zstandard.ZstdDecompressor:
        """Of frames that name this dictionary; 0: none."""
        if not number:
            return self._plain_reader
        if number not in self._readers:
            self.learn(self._fetch() if self._fetch is not None else ())
        if number not in self._readers:
            raise LookupError(f"there is no zstd dictionary {number}")
        return self._readers[number]


def _dictionary_of(frame: bytes) -> int:
    """The number in the frame's header, 0 where it names none; zstandard's own reader makes an object of it all."""
    descriptor = frame[4]
    start = 5 if descriptor & _SINGLE_SEGMENT else 6
    return int.from_bytes(frame[start : start + _NUMBER_BYTES[descriptor & _NAMED]], "little")


def _dictionary_of_head(head: bytes) -> int | None:
    """The same of the head alone; None of a frame that is not usual, which takes more to tell."""
    if not head[0] & _NAMED:
        return 0
    return int.from_bytes(head[1:], "little") if head[0] & (_SINGLE_SEGMENT | _NAMED) == _USUAL else None
