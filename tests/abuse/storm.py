"""Send generated requests to a server, one after the other, and collect what it did wrong.

Out:     storm(client, requests) → Weather: the requests sent by family and status, and each fault with its request
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from tests.abuse.judge import faults
from tests.abuse.request import Asked
from tests.abuse.store import fill


@dataclass
class Weather:
    """What came of it."""

    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[tuple[str, str, Asked]] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: Asked | None = None

    def families(self) -> dict[str, Counter[int]]:
        """Statuses by family, in the order they were sent."""
        found: dict[str, Counter[int]] = {}
        for (family, status), count in self.sent.items():
            found.setdefault(family, Counter())[status] += count
        return found


async def storm(client: httpx.AsyncClient, requests: Iterable[tuple[str, Asked]]) -> Weather:
    """Each family finds the resources there, whatever the one before did to them."""
    weather, filled = Weather(), ""
    for family, asked in requests:
        if family != filled:
            await fill(client)
            filled = family
        began_s = time.perf_counter()
        answer = await client.send(asked.request(client))
        took_s = time.perf_counter() - began_s
        if took_s > weather.slowest_s:
            weather.slowest_s, weather.slowest = took_s, asked
        weather.sent[family, answer.status_code] += 1
        weather.faults += [(family, fault, asked) for fault in faults(asked, answer, took_s)]
    return weather
