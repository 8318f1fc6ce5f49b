"""Samples on standard input → a zstd dictionary on standard output: the part of ehr.store.dictionaries that may crash.

Run:     python -m ehr.store.dictionary_training NUMBER
In:      packed samples: length (4 bytes, little endian) and bytes, one after the other
Out:     the dictionary, which carries NUMBER; nothing and exit code 1 where the samples are too few or too alike
"""

import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import zstandard

DICTIONARY_BYTES: Final = 64 * 1024

_LENGTH: Final = struct.Struct("<I")


def packed(samples: Iterable[bytes]) -> bytes:
    return b"".join(piece for sample in samples for piece in (_LENGTH.pack(len(sample)), sample))


def unpacked(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        yield content[at : at + length]
        at += length


def main() -> int:
    samples: list[bytes | bytearray | memoryview] = [*unpacked(sys.stdin.buffer.read())]
    try:
        dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, samples, dict_id=int(sys.argv[1]))
    except zstandard.ZstdError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(dictionary.as_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
