"""Long work beside the requests of a process: none of them waits until it is done.

aside    pure work on something large, in the one thread there is for it. One, because Python runs one at a time
         anyway, and against several the event loop would seldom come to its turn
Turns    for loops over thousands of things on the event loop: the others have their turn after each millisecond
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

LARGE_BYTES: Final = 128 * 1024
"""Reading and checking so many takes some milliseconds; the way to the thread and back a tenth of one."""
LARGE_ENTRIES: Final = 64
"""Of a Bundle: about as much."""

_TURN_S: Final = 0.001
_THREAD: Final = ThreadPoolExecutor(1, "aside")


def is_large(body: bytes) -> bool:
    return len(body) > LARGE_BYTES


async def aside(large: bool, work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """The result of work; where that is large, out of the way of the event loop."""
    if not large:
        return work(*arguments, **named)
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: context.run(work, *arguments, **named))


class Turns:
    """Taken after each step of a loop: lets others run when its millisecond is over."""

    def __init__(self) -> None:
        self._ends_s = time.perf_counter() + _TURN_S

    async def each(self, work: Callable[[S], T], things: Iterable[S]) -> list[T]:
        """What work makes of each thing, with turns between."""
        made = []
        for thing in things:
            made.append(work(thing))
            await self.take()
        return made

    async def take(self) -> None:
        if time.perf_counter() >= self._ends_s:
            await asyncio.sleep(0)
            self._ends_s = time.perf_counter() + _TURN_S
