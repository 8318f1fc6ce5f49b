"""The number of a frame's dictionary, read from its header, is what zstandard itself reads there."""

import random

import pytest
import zstandard

from ehr.store.body import _dictionary_of

NUMBERS = (1, 255, 256, 65_535, 65_536, 2**31 - 1)
SIZES = (0, 1, 200, 255, 256, 70_000, 300_000)


def dictionary(number: int) -> zstandard.ZstdCompressionDict:
    """A trained dictionary under a number of ours (RFC 8878 5: magic, then the number)."""
    made = random.Random(1)
    texts = (made.randint(0, 9**9) for _ in range(2_000))
    samples: list[bytes | bytearray | memoryview] = [b'{"resourceType":"Basic","text":"%d"}' % n for n in texts]
    trained = zstandard.train_dictionary(4_096, samples).as_bytes()
    return zstandard.ZstdCompressionDict(trained[:4] + number.to_bytes(4, "little") + trained[8:])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_named_dictionary(number: int) -> None:
    compressor = zstandard.ZstdCompressor(level=1, dict_data=dictionary(number))
    for size in SIZES:
        frame = compressor.compress(b"x" * size)
        assert _dictionary_of(frame) == zstandard.get_frame_parameters(frame).dict_id == number


@pytest.mark.parametrize("content_size", [True, False])
def test_none(content_size: bool) -> None:
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=content_size)
    for size in SIZES:
        frame = compressor.compress(b"x" * size)
        assert _dictionary_of(frame) == zstandard.get_frame_parameters(frame).dict_id == 0
