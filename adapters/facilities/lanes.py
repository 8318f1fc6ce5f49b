"""Send the messages of one facility one after another, until each is answered.

Order:   a facility's messages keep their order; many facilities send side by side
Limits:  the road's in_flight_max over all lanes, its messages_per_s_max, one message a lane
Why:     a real interface engine waits for its acknowledgment before it sends the next message (HL7 v2.5.1 2.9.2)
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from adapters.facilities.doors import Answer, Door, NoAnswer
from adapters.facilities.faults import BEHAVIOUR, Fault, Faults, spoil
from adapters.facilities.outgoing import Outgoing
from adapters.facilities.registry import Facility
from adapters.facilities.tally import Event
from ehr.clock import Clock

PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 5.0


class Road:
    """What all lanes share: how many may be under way, how fast, and who is told."""

    def __init__(
        self,
        clock: Clock,
        tell: Callable[[Event], None],
        *,
        in_flight_max: int,
        messages_per_s_max: float | None,
    ) -> None:
        self.clock = clock
        self.tell = tell
        self.began_s = clock.monotonic_s()
        self.waiting = 0
        self.closing = False
        self._places = asyncio.Semaphore(in_flight_max)
        self._gap_s = 0.0 if messages_per_s_max is None else 1.0 / messages_per_s_max
        self._next_s = self.began_s

    @property
    def places(self) -> asyncio.Semaphore:
        return self._places

    async def pace(self) -> None:
        """Wait for this message's turn under the rate limit."""
        if not self._gap_s:
            return
        now_s = self.clock.monotonic_s()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + self._gap_s
        if turn_s > now_s:
            await asyncio.sleep(turn_s - now_s)


class _NotBegun(Exception):
    """The road closed while the message waited for its place: the facility still has it."""


@dataclass(slots=True)
class _Sent:
    answer: Answer
    resent: int
    latency_s: float


class Lane:
    """One facility's queue and door."""

    def __init__(self, facility: Facility, door: Door, road: Road, faults: Faults) -> None:
        self.facility = facility
        self._door = door
        self._road = road
        self._faults = faults
        self._queue: deque[tuple[Outgoing, Fault | None]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def put(self, message: Outgoing, fault: Fault | None) -> None:
        self._queue.append((message, fault))
        self._road.waiting += 1
        if self._task is None or self._task.done():
            if self._task is not None:
                self._task.result()  # a fault of ours ends the run, not one lane in silence
            self._task = asyncio.create_task(self._drain(), name=f"lane {self.facility.code}")

    async def finish(self, deadline_s: float) -> None:
        """Wait until the deadline for what the road still allows, then give up what is under way; close the door."""
        if self._task is not None:
            left_s = max(0.0, deadline_s - self._road.clock.monotonic_s())
            await asyncio.wait({self._task}, timeout=left_s)
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()
        await self._door.close()

    async def _drain(self) -> None:
        while self._queue and not self._road.closing:
            message, fault = self._queue[0]
            try:
                await self._deliver(message, fault)
            except _NotBegun:
                return
            except asyncio.CancelledError:
                self._tell(message, fault, None)
                self._done()
                raise
            self._done()

    def _done(self) -> None:
        self._queue.popleft()
        self._road.waiting -= 1

    async def _deliver(self, message: Outgoing, fault: Fault | None) -> None:
        payload = message.payload
        random = self._faults.random(message.control_id)
        if fault is not None and fault not in BEHAVIOUR:
            payload = spoil(payload, self.facility.feed, fault, random)
        if fault is Fault.CUT:
            await self._door.cut(payload, 0.1 + 0.8 * random.random())
        sent = await self._until_answered(message, payload)
        self._tell(message, fault, sent)
        if fault is Fault.DUPLICATE:
            with contextlib.suppress(_NotBegun):
                again = await self._until_answered(message, payload)
                self._tell(message, fault, again, repeats=sent)

    async def _until_answered(self, message: Outgoing, payload: bytes) -> _Sent:
        """latency_s runs from the first byte of the first try; waiting for a place on the road is not the server's."""
        began_s: float | None = None
        resent, pause_s = 0, PAUSE_FIRST_S
        while True:
            await self._road.pace()
            try:
                async with self._road.places:
                    if self._road.closing and began_s is None:
                        raise _NotBegun
                    began_s = self._road.clock.monotonic_s() if began_s is None else began_s
                    answer = await self._door.send(message, payload)
                return _Sent(answer, resent, self._road.clock.monotonic_s() - began_s)
            except NoAnswer:
                resent += 1
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MAX_S)

    def _tell(
        self, message: Outgoing, fault: Fault | None, sent: _Sent | None, *, repeats: _Sent | None = None
    ) -> None:
        road = self._road
        same = repeats is None or (sent is not None and sent.answer.body == repeats.answer.body)
        road.tell(
            Event(
                facility=self.facility,
                kind=message.kind,
                outcome="lost" if sent is None else ("accepted" if sent.answer.accepted else "refused"),
                said="none" if sent is None else sent.answer.said,
                latency_s=0.0 if sent is None else sent.latency_s,
                at_s=road.clock.monotonic_s() - road.began_s,
                simulated=message.at,
                fault=fault,
                resent=0 if sent is None else sent.resent,
                repeated=repeats is not None,
                same=same,
            )
        )
