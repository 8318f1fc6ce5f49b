"""Turn _since, _at and like parameters into moments.

In:      an instant, or a date or dateTime of any precision (for _at)
Out:     an aware moment; or the period a partial date covers, both ends included
Units:   a date without a zone is a day of Indochina Time, the legal time of Viet Nam
Errors:  Malformed naming the parameter
Source:  FHIR R4 http.html#history, datatypes.html#dateTime
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ehr.clock import ICT
from ehr.errors import Malformed

_DATE: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?", re.ASCII)
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_MICROSECOND: Final = timedelta(microseconds=1)


def instant_of(text: str, name: str) -> datetime:
    """A moment with its zone; a + that the query turned into a space is put back."""
    plain = text.replace(" ", "+")
    if not _INSTANT.fullmatch(plain):
        raise Malformed("an instant is wanted, as in 2026-11-23T09:30:00+07:00", at=name)
    try:
        found = datetime.fromisoformat(plain)
        found.astimezone(UTC)  # the database counts in it: a moment near year 1 or 9999 may have none
    except (ValueError, OverflowError) as error:
        raise Malformed("this is not a moment of the calendar", at=name) from error
    return found


def period_of(text: str, name: str) -> tuple[datetime, datetime]:
    """The first and the last moment of a date, month or year; of the minute or second that an instant names, and of
    the fraction of one as far as it has digits (search.html#date)."""
    found = _DATE.fullmatch(text)
    if found is None:
        moment = instant_of(text, name)
        return moment, moment + (_length(text) - _MICROSECOND)
    year, month, day = (int(part) if part else None for part in found.groups())
    assert year is not None, "the pattern has a year"
    try:
        first = datetime(year, month or 1, day or 1, tzinfo=ICT)
        first.astimezone(UTC)
        after = first + timedelta(days=1) if day else _next(first, whole_year=month is None)
    except (ValueError, OverflowError) as error:
        raise Malformed("this is not a day of the calendar", at=name) from error
    return first, after - timedelta(microseconds=1)


def _length(text: str) -> timedelta:
    """How long the smallest part lasts that an instant has."""
    found = _INSTANT.fullmatch(text.replace(" ", "+"))
    assert found is not None, "it was read as an instant"
    seconds, fraction = found[1], found[2]
    if fraction:
        return timedelta(microseconds=10 ** max(0, 7 - len(fraction)))
    return timedelta(seconds=1) if seconds else timedelta(minutes=1)


def _next(first: datetime, *, whole_year: bool) -> datetime:
    if whole_year or first.month == 12:
        return first.replace(year=first.year + 1, month=1)
    return first.replace(month=first.month + 1)


def since_of(text: str | None) -> datetime | None:
    """_since: an instant; a date is taken as its first moment."""
    return None if text is None else period_of(text, "_since")[0]


def at_of(text: str | None) -> tuple[datetime, datetime] | None:
    """_at: every version that was current at some moment of the period."""
    return None if text is None else period_of(text, "_at")


def count_of(text: str | None) -> int | None:
    """_count: zero or more."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise Malformed("a number of entries is wanted", at="_count")
    return int(text)


def page_count_of(given: object) -> int | None:
    """_count of an operation that answers pages: there is none without entries."""
    found = None if given is None else count_of(str(given))
    if found == 0:
        raise Malformed("a page has one entry or more", at="_count")
    return found
