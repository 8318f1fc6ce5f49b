"""FHIR date and time texts → ranges of microseconds since 1970-01-01T00:00Z, both ends included.

A date is as wide as it is vague: "2026" a year, "2026-11-23" a day, "…T10:00:00Z" a second, "….120Z" a millisecond.

Zone:    texts without one (all dates) are Indochina Time: a day in Ha Noi is a day in Ha Noi
Errors:  None for what is not a date; the validator or the search parser says why
Source:  FHIR R4 2.24.0.1 date, dateTime, instant; 3.1.1.4.7 date search, implicit ranges
"""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from ehr.clock import ICT

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
ICT_US: Final = 7 * 3_600 * SECOND_US

BEGINNING_US: Final = (1 - EPOCH_DAY) * DAY_US
"""Year 0001: the start of a period that has none."""
END_US: Final = (date(9999, 12, 31).toordinal() - EPOCH_DAY + 1) * DAY_US - 1
"""The end of year 9999: the end of a period that has none."""

_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,20}))?)?(?P<zone>Z|[+\-]\d\d:\d\d)?",
    re.ASCII,
)
_DATE: Final = re.compile(r"\d{4}(?:-\d\d(?:-\d\d)?)?", re.ASCII)
_ONE_US: Final = timedelta(microseconds=1)

Range = tuple[int, int]


@lru_cache(maxsize=8_192)  # an encounter's moments are repeated by all that happened in it
def date_range(text: str) -> Range | None:
    """The first and the last microsecond a date, dateTime or instant may mean."""
    try:
        return _moment(text) if len(text) > 10 else _day(text)
    except ValueError:  # 31 February, hour 25, year 0
        return None


def _day(text: str) -> Range | None:
    if _DATE.fullmatch(text) is None:
        return None
    year = int(text[:4])
    if len(text) == 4:
        first, after = date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal() + 1
    elif len(text) == 7:
        month = int(text[5:7])
        first = date(year, month, 1).toordinal()
        after = date(year, 12, 31).toordinal() + 1 if month == 12 else date(year, month + 1, 1).toordinal()
    else:
        first = date.fromisoformat(text).toordinal()
        after = first + 1
    return (first - EPOCH_DAY) * DAY_US - ICT_US, (after - EPOCH_DAY) * DAY_US - ICT_US - 1


def _moment(text: str) -> Range | None:
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    second, fraction = found["second"], found["fraction"]
    leap = second == "60"  # R4 allows leap seconds; a day of ours has none: the last second, once more
    plain = text[:17] + "59" + text[19:] if leap else text
    if fraction and len(fraction) > 6:
        plain = plain.replace(fraction, fraction[:6], 1)
    moment = datetime.fromisoformat(plain)
    offset = moment.utcoffset()
    zone_us = offset // _ONE_US if offset is not None else ICT.utcoffset(None) // _ONE_US
    seconds = (moment.toordinal() - EPOCH_DAY) * 86_400 + moment.hour * 3_600 + moment.minute * 60 + moment.second
    low = seconds * SECOND_US + moment.microsecond - zone_us
    if second is None:
        return low, low + 60 * SECOND_US - 1
    width = 10 ** (6 - min(len(fraction), 6)) if fraction else SECOND_US
    return low, low + width - 1


def period_range(start: object, end: object) -> Range | None:
    """A Period; an absent end is open (R4 datatypes, Period)."""
    low = date_range(start) if isinstance(start, str) else None
    high = date_range(end) if isinstance(end, str) else None
    if low is None and high is None:
        return None
    first, last = low[0] if low else BEGINNING_US, high[1] if high else END_US
    return (first, last) if first <= last else (last, first)
