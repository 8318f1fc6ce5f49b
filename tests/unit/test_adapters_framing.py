"""MLLP framing: any chunking gives the same blocks, and never half a message."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mllp.framing import Block, Fault, Framer, wrap

PAYLOADS = st.lists(st.binary(max_size=200).map(lambda raw: raw.translate(None, b"\x0b\x1c")), max_size=6)


def fed(chunks: list[bytes], *, payload_bytes_max: int = 10_000) -> list[Block | Fault]:
    framer = Framer(payload_bytes_max)
    events: list[Block | Fault] = []
    for chunk in chunks:
        events += framer.feed(chunk)
        if events and isinstance(events[-1], Fault):
            break
    return events


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(PAYLOADS, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_chunking_gives_the_same_blocks(payloads: list[bytes], places: list[int]) -> None:
    stream = b"\r\n".join(wrap(payload) for payload in payloads)
    assert fed(cut(stream, places)) == [Block(payload) for payload in payloads]


@given(st.lists(st.binary(max_size=64), max_size=20))
def test_random_bytes_end_in_events_and_a_bounded_buffer(chunks: list[bytes]) -> None:
    framer = Framer(100)
    for chunk in chunks:
        events = framer.feed(chunk)
        assert len(framer.held) <= 100 + 64 + 16
        if events and isinstance(events[-1], Fault):
            return


@given(st.binary(min_size=1, max_size=100), st.integers(0, 200))
def test_a_cut_message_is_no_block(raw: bytes, place: int) -> None:
    payload = raw.translate(None, b"\x0b\x1c")
    stream = wrap(payload)
    kept = stream[: place % len(stream)]
    assert not any(isinstance(event, Block) for event in fed([kept]))


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"MSH|^~\\&|", "bytes outside a block"),
        (b"\x0bMSH|\x0bMSH|", "start block inside a block"),
        (b"\x0bMSH|\x1cPID|", "end block not followed by carriage return"),
        (b"\x0b" + b"x" * 101, "block over limit"),
        (b"\r\n" * 9, "too many line ends between blocks"),
        (wrap(b"MSH|1") + b"GET / HTTP/1.1", "bytes outside a block"),
    ],
)
def test_faults_are_named(stream: bytes, why: str) -> None:
    assert fed([stream], payload_bytes_max=100)[-1] == Fault(why)


def test_an_end_block_inside_the_payload_is_a_fault_and_not_two_messages() -> None:
    """The most used Python reader cuts here and acknowledges the first half."""
    events = fed([b"\x0bMSH|^~\\&|A\rPID|1\x1c|rest\rOBX|1\x1c\r"])
    assert events == [Fault("end block not followed by carriage return")]


def test_dripping_single_bytes_costs_no_more() -> None:
    stream = wrap(b"x" * 200_000)
    framer = Framer(1_000_000)
    began = time.perf_counter()
    events = [event for place in range(len(stream)) for event in framer.feed(stream[place : place + 1])]
    assert events == [Block(b"x" * 200_000)]
    assert time.perf_counter() - began < 5
