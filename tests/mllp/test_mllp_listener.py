"""What a listener does with peers that do not keep to the rules: deadlines, limits, no answer for half a message."""

import asyncio
import gc

import pytest

from adapters.mllp.client import MllpClient, NotAnswered
from adapters.mllp.server import MllpServer
from tests.mllp.mothers import admission, code_of

WHOLE = b"\x0b" + admission() + b"\x1c\x0d"


class Echo:
    """A receiver that answers at once and remembers what it got."""

    def __init__(self, *, fails: bool = False) -> None:
        self.got: list[bytes] = []
        self.fails = fails
        self.broken: list[Exception] = []

    async def receive_hl7(self, block: bytes, peer: str, *, facility_code: str | None = None) -> bytes:
        self.got.append(block)
        if self.fails:
            raise KeyError("a fault of ours")
        return b"MSH|^~\\&|\rMSA|AA|1\r"

    async def broke(self, block: bytes, error: Exception, *, facility_code: str | None = None) -> bytes | None:
        self.broken.append(error)
        return b"MSH|^~\\&|\rMSA|AE|1\r"


async def answer_to(port: int, stream: bytes, *, pause_s: float = 0.0) -> bytes:
    """Everything the listener says until it closes the connection; in pieces where there is a pause."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if pause_s:
            for place in range(len(stream)):
                writer.write(stream[place : place + 1])
                await writer.drain()
                await asyncio.sleep(pause_s)
        else:
            writer.write(stream)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def listening(receiver: Echo, **limits: float) -> MllpServer:
    listener = MllpServer(receiver, **limits)  # type: ignore[arg-type]
    await listener.start()
    return listener


@pytest.mark.parametrize(
    "stream",
    [
        WHOLE[:-1],  # no CR after the end block, then silence
        WHOLE[: len(WHOLE) // 2],  # half a block, then silence
        b"\x0b",
        b"",
    ],
)
async def test_silence_ends_the_connection_and_nothing_is_a_message(stream: bytes) -> None:
    receiver = Echo()
    listener = await listening(receiver, block_read_s=0.3, idle_s=0.3)
    assert await answer_to(listener.port, stream) == b""
    assert receiver.got == []
    assert listener.connections == 0
    await listener.stop()


async def test_a_drip_is_cut_at_the_deadline_of_the_block() -> None:
    """Each byte comes in time, the block does not."""
    receiver = Echo()
    listener = await listening(receiver, block_read_s=0.4, idle_s=5)
    began = asyncio.get_running_loop().time()
    await answer_to(listener.port, WHOLE, pause_s=0.02)
    assert receiver.got == []
    assert asyncio.get_running_loop().time() - began < 8
    await listener.stop()


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",  # a TLS hello
        b"\x0b" + admission()[:40] + WHOLE,  # a block begun inside a block
        b"\x0b" + admission()[:40] + b"\x1c" + admission()[40:] + b"\x1c\x0d",  # an end block inside the payload
        b"\x0b" + b"x" * 300_000 + b"\x1c\x0d",
    ],
)
async def test_framing_faults_close_without_an_answer(stream: bytes) -> None:
    receiver = Echo()
    listener = await listening(receiver, block_bytes_max=200_000)
    assert await answer_to(listener.port, stream) == b""
    assert receiver.got == []
    await listener.stop()


async def test_blocks_before_a_fault_are_answered() -> None:
    receiver = Echo()
    listener = await listening(receiver)
    assert (await answer_to(listener.port, WHOLE + WHOLE + b"junk")).count(b"MSA|AA") == 2
    assert len(receiver.got) == 2
    await listener.stop()


async def test_an_empty_block_is_a_message_and_gets_an_answer() -> None:
    receiver = Echo()
    listener = await listening(receiver, idle_s=0.3)
    assert b"MSA" in await answer_to(listener.port, b"\x0b\x1c\x0d")
    assert receiver.got == [b""]
    await listener.stop()


async def test_a_fault_of_ours_is_answered_and_others_go_on() -> None:
    receiver = Echo(fails=True)
    listener = await listening(receiver)
    assert b"MSA|AE" in await answer_to(listener.port, WHOLE)
    assert [type(error) for error in receiver.broken] == [KeyError]
    receiver.fails = False
    client = MllpClient("127.0.0.1", listener.port)
    assert code_of(await client.send(admission())) == "AA"
    await client.close()
    await listener.stop()


async def test_connections_are_bounded_and_slow_ones_do_not_hold_up_others() -> None:
    receiver = Echo()
    listener = await listening(receiver, connections_max=20)
    slow = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(19)]
    for _, writer in slow:
        writer.write(WHOLE[:10])
    client = MllpClient("127.0.0.1", listener.port)
    assert code_of(await client.send(admission(), timeout_s=2)) == "AA"
    assert await answer_to(listener.port, WHOLE) == b""  # the twenty-first
    for _, writer in slow:
        writer.close()
    await client.close()
    await listener.stop()


async def test_stopping_answers_what_is_in_hand() -> None:
    class Slow(Echo):
        async def receive_hl7(self, block: bytes, peer: str, *, facility_code: str | None = None) -> bytes:
            await asyncio.sleep(0.3)
            return await super().receive_hl7(block, peer, facility_code=facility_code)

    listener = await listening(Slow())
    client = MllpClient("127.0.0.1", listener.port)
    sending = asyncio.create_task(client.send(admission(), timeout_s=5))
    await asyncio.sleep(0.1)
    await listener.stop()
    assert code_of(await sending) == "AA"
    await client.close()


async def test_the_client_sends_again_when_the_answer_is_lost() -> None:
    """A listener that takes the first message and dies before it answers."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\x1c\x0d"))
        if len(seen) > 2:
            writer.write(b"\x0bMSH|^~\\&|\rMSA|AA|A1\r\x1c\x0d")
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = MllpClient("127.0.0.1", listener.sockets[0].getsockname()[1])
    assert code_of(await client.send(admission(), timeout_s=10)) == "AA"
    assert seen == [WHOLE] * 3
    assert client.resent == 2
    await client.close()
    listener.close()
    await listener.wait_closed()


async def test_the_client_gives_up_at_its_deadline() -> None:
    client = MllpClient("127.0.0.1", 9)
    with pytest.raises(NotAnswered):
        await client.send(admission(), timeout_s=0.3)
    gc.collect()
