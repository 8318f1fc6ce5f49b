"""The one clock: nothing else in the program asks what time it is.

Ordering is never taken from a clock: versions, feeds and pages are ordered by the database.
"""

import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final, Protocol

ICT: Final = timezone(timedelta(hours=7), "ICT")
"""Indochina Time, the legal time of Viet Nam; it has no daylight saving."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The present moment, timezone aware, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that only go forward; for durations."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


def instant(moment: datetime) -> str:
    """FHIR instant in UTC with milliseconds, "2026-11-23T02:35:48.120Z" (R4 datatypes, instant)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_of(moment: datetime) -> date:
    """The calendar day of a moment in Viet Nam."""
    return moment.astimezone(ICT).date()
