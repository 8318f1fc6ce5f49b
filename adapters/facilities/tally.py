"""Count what the simulated facilities sent and what they were answered.

Out:     Event for whoever watches; Tally per facility; Report of a run
Limits:  latencies_max samples are kept for the percentiles, the newest replacing the oldest
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from adapters.facilities.faults import Fault
from adapters.facilities.registry import Facility

LATENCIES_MAX: Final = 20_000

Outcome = Literal["accepted", "refused", "lost"]
"""lost: it was sent and the run ended before the answer came."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message and its fate. said: AA, AE, AR or the HTTP status; at_s: seconds since the run began.

    repeated: a duplicate on purpose; same: it got the answer of the first, byte for byte
    """

    facility: Facility
    kind: str
    outcome: Outcome
    said: str
    latency_s: float
    at_s: float
    simulated: datetime
    fault: Fault | None = None
    resent: int = 0
    repeated: bool = False
    same: bool = True


@dataclass(slots=True)
class Tally:
    """Of one facility. different: duplicates that got another answer than the first."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    lost: int = 0
    resent: int = 0
    repeated: int = 0
    different: int = 0

    def note(self, event: Event) -> None:
        self.resent += event.resent
        if event.repeated:
            self.repeated += 1
            self.different += not event.same
            return
        self.sent += 1
        if event.outcome == "accepted":
            self.accepted += 1
        elif event.outcome == "refused":
            self.refused += 1
        else:
            self.lost += 1


@dataclass(slots=True)
class Report:
    """Of a run."""

    facilities: dict[str, Tally]
    episodes: int = 0
    seconds: float = 0.0
    simulated: datetime | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_MAX))

    @staticmethod
    def of(facilities: Iterable[Facility]) -> "Report":
        return Report({facility.code: Tally() for facility in facilities})

    def note(self, event: Event) -> None:
        self.facilities[event.facility.code].note(event)
        if event.fault is not None and not event.repeated:
            self.faults[event.fault] += 1
        if not event.repeated:
            self.kinds[event.kind] += 1
            self.answers[event.said] += 1
            self.latencies_s.append(event.latency_s)

    @property
    def sent(self) -> int:
        return sum(tally.sent for tally in self.facilities.values())

    @property
    def accepted(self) -> int:
        return sum(tally.accepted for tally in self.facilities.values())

    @property
    def refused(self) -> int:
        return sum(tally.refused for tally in self.facilities.values())

    @property
    def lost(self) -> int:
        return sum(tally.lost for tally in self.facilities.values())

    def latency_s(self, part: float) -> float | None:
        """A percentile of the answered messages (part 0.5: the median); None before the first answer."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
