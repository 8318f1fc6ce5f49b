"""The one clock: nothing else in the program asks what time it is.

Ordering is never taken from a clock: versions, feeds and pages are ordered by the database.
"""

import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final, Protocol

ICT: Final = timezone(timedelta(hours=7), "ICT")
"""Indochina Time, the legal time of Viet Nam; it has no daylight saving."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


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
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def us_of(moment: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z, as columns named _us have it."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(us: int) -> datetime:
    """The moment so many microseconds after 1970-01-01T00:00Z, in UTC."""
    return _EPOCH + us * _MICROSECOND


def day_of(moment: datetime) -> date:
    """The calendar day of a moment in Viet Nam."""
    return moment.astimezone(ICT).date()


def local(text: str) -> str:
    """A FHIR date or dateTime by the clocks of Viet Nam: 2026-11-01T23:30:00Z is 2026-11-02T06:30:00+07:00.

    What has no time, or none that a clock can show (a leap second, the ends of the calendar), stays as it was sent.
    """
    if "T" not in text or text.endswith("+07:00"):
        return text
    try:
        return datetime.fromisoformat(text).astimezone(ICT).isoformat()
    except (ValueError, OverflowError):
        return text
