"""Dates and times known to any precision: compared, moved, and their bounds.

In:      "2014", "2014-01-05T10:30:00.000+07:00", "10:30"
Out:     Moment; comparisons give None where what is known does not decide
Source:  FHIRPath 2.0.0 sections 6.1 equality, 6.2 comparison, 6.6.7 date/time arithmetic; 2.1 lowBoundary
"""

import calendar
import re
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Final

from ehr.fhir.fhirpath.errors import ExpressionError

_DATE: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?"
    r"(?:T(?P<hour>\d\d)?(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
_TIME: Final = re.compile(r"(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?", re.ASCII)
_PARTS: Final = ("year", "month", "day", "hour", "minute", "second")
_LOWEST: Final = (1, 1, 1, 0, 0, Decimal(0))
_HIGHEST: Final = (9999, 12, 31, 23, 59, Decimal("59.999"))
_ZONES_MINUTES: Final = (-12 * 60, 14 * 60)
_DAY_SECONDS: Final = 86_400
_AMOUNT_MAX: Final = 10**15
"""Milliseconds in 30,000 years: whatever the unit, more leads out of the calendar."""

SECONDS: Final = {"week": 604_800, "day": _DAY_SECONDS, "hour": 3_600, "minute": 60, "second": 1}
"""Seconds of each unit that always has the same number of them."""

Part = int | Decimal


@dataclass(frozen=True, slots=True)
class Moment:
    """A Date, DateTime or Time. parts: year … second, as many as are known; a Time begins at the hour.

    digits  written after the decimal point of the seconds
    zone    minutes east of UTC, None where not said
    """

    kind: str
    parts: tuple[Part, ...]
    digits: int = 0
    zone: int | None = None

    @property
    def first(self) -> int:
        """Which of year, month … the first part is."""
        return 3 if self.kind == "Time" else 0

    @property
    def text(self) -> str:
        written = ""
        for position, part in enumerate(self.parts, start=self.first):
            if position == 5:
                written += f":{part:0{2 if not self.digits else 3 + self.digits}.{self.digits}f}"
            elif position == 0:
                written += f"{part:04}"
            else:
                written += f"{'' if position == self.first else '--T:'[position - 1]}{part:02}"
        return written + self._zone_text()

    def _zone_text(self) -> str:
        if self.zone is None or len(self.parts) < 4:
            return ""
        sign, minutes = ("-" if self.zone < 0 else "+"), abs(self.zone)
        return "Z" if self.zone == 0 else f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def read(text: str, kind: str) -> Moment | None:
    """None where the text is no date or time of this kind."""
    match = (_TIME if kind == "Time" else _DATE).fullmatch(text)
    if match is None or (kind == "Date" and "T" in text):
        return None
    found = match.groupdict()
    parts: list[Part] = []
    for name in _PARTS[3 if kind == "Time" else 0 :]:
        if found[name] is None:
            break
        parts.append(Decimal(found[name]) if name == "second" else int(found[name]))
    digits = len((found["second"] or "").partition(".")[2])
    moment = Moment(kind, tuple(parts), digits, _zone(found.get("zone")))
    return moment if _exists(moment) else None


def _zone(text: str | None) -> int | None:
    if text is None or text == "Z":
        return None if text is None else 0
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    return -minutes if text[0] == "-" else minutes


def _exists(moment: Moment) -> bool:
    first = moment.first
    limits = zip(moment.parts, _LOWEST[first:], (9999, 12, 31, 23, 59, 61)[first:], strict=False)
    if not all(low <= part <= high for part, low, high in limits):
        return False
    return first == 3 or len(moment.parts) < 3 or moment.parts[2] <= _month_days(moment)


def _month_days(moment: Moment) -> int:
    return calendar.monthrange(int(moment.parts[0]), int(moment.parts[1]))[1]


def compare(left: Moment, right: Moment) -> int | None:
    """-1, 0 or 1; None where the precision or a missing time zone leaves it open, or the kinds cannot be compared."""
    if (left.kind == "Time") != (right.kind == "Time"):
        return None
    timed = len(left.parts) > 3 and len(right.parts) > 3 and left.kind != "Time"
    if timed and (left.zone is None) != (right.zone is None):
        return _compare_one_zone(left, right)
    if timed and left.zone != right.zone:
        left, right = _in_utc(left), _in_utc(right)
    for one, other in zip(left.parts, right.parts, strict=False):
        if one != other:
            return -1 if one < other else 1
    return 0 if len(left.parts) == len(right.parts) else None


def _compare_one_zone(left: Moment, right: Moment) -> int | None:
    """One is without a time zone: it may be in any, and only what holds in all of them is known."""
    found = {
        compare(
            replace(left, zone=zone if left.zone is None else left.zone),
            replace(right, zone=zone if right.zone is None else right.zone),
        )
        for zone in _ZONES_MINUTES
    }
    return found.pop() if len(found) == 1 and 0 not in found else None


def _in_utc(moment: Moment) -> Moment:
    """The same moment with zone 0."""
    assert moment.zone is not None
    return replace(_moved(moment, Decimal(-moment.zone * 60), len(moment.parts)), zone=0)


def canonical(moment: Moment) -> tuple[object, ...]:
    """Equal for two moments exactly when compare gives 0."""
    if moment.zone is not None and len(moment.parts) > 3:
        moment = _in_utc(moment)
    return (moment.kind == "Time", moment.zone is None or len(moment.parts) <= 3, moment.parts)


def add(moment: Moment, amount: Decimal, unit: str) -> Moment | None:
    """Moved by an amount of calendar units; what is finer than the moment is dropped. None outside years 1 to 9999."""
    if abs(amount) > _AMOUNT_MAX:
        return None
    if unit in ("year", "month"):
        return _moved_months(moment, int(amount) * (12 if unit == "year" else 1))
    if unit == "millisecond":
        amount, unit = amount / 1000, "second"
    if unit != "second":
        amount = Decimal(int(amount))
    return _moved_seconds(moment, amount * SECONDS[unit])


def _moved_months(moment: Moment, months: int) -> Moment | None:
    if moment.kind == "Time":
        raise ExpressionError("FHIRPath: years and months cannot be added to a time of day")
    year = int(moment.parts[0])
    if len(moment.parts) == 1:
        parts: tuple[Part, ...] = (year + int(months / 12),)
    else:
        count = year * 12 + int(moment.parts[1]) - 1 + months
        parts = (count // 12, count % 12 + 1, *moment.parts[2:])
    if not 1 <= parts[0] <= 9999:
        return None
    moved = replace(moment, parts=parts)
    if len(parts) > 2:
        parts = (*parts[:2], min(parts[2], _month_days(moved)), *parts[3:])
    return replace(moment, parts=parts)


def _moved_seconds(moment: Moment, seconds: Decimal) -> Moment | None:
    known = len(moment.parts) + moment.first
    if known <= 2:
        days = int(seconds / _DAY_SECONDS)
        return _moved_months(moment, int(days / 365) * 12 if known == 1 else int(days / 30))
    step = {3: _DAY_SECONDS, 4: 3_600, 5: 60}.get(known)
    if step:
        seconds = Decimal(int(seconds / step) * step)
    try:
        moved = _moved(moment, seconds, len(moment.parts))
    except (OverflowError, ValueError):
        return None
    digits = max(moment.digits, -int(seconds.normalize().as_tuple().exponent)) if known == 6 else 0
    return replace(moved, digits=digits)


def _moved(moment: Moment, seconds: Decimal, length: int) -> Moment:
    """Moved by seconds of any number, keeping as many parts."""
    filled = (*_LOWEST[: moment.first], *moment.parts, *_LOWEST[moment.first + length :])
    year, month, day, hour, minute = (int(part) for part in filled[:5])
    total = (
        date(year, month, day).toordinal() * _DAY_SECONDS + hour * 3_600 + minute * 60 + Decimal(filled[5]) + seconds
    )
    days, rest = divmod(total, _DAY_SECONDS)
    if rest < 0:
        days, rest = days - 1, rest + _DAY_SECONDS
    day_found = date.min if moment.first else date.fromordinal(int(days))
    whole = (day_found.year, day_found.month, day_found.day, int(rest // 3_600), int(rest // 60) % 60, rest % 60)
    return replace(moment, parts=whole[moment.first : moment.first + length])


def bound(moment: Moment, precision: int | None, *, is_high: bool) -> Moment | None:
    """The first or last moment that is written like this, to a precision: 4 for a year, 17 for milliseconds."""
    widths = (2, 4, 6, 9) if moment.kind == "Time" else (4, 6, 8, 10, 12, 14, 17)
    highest = {"Date": 8, "DateTime": 17, "Time": 9}[moment.kind]
    wanted = highest if precision is None else precision
    if wanted not in widths or wanted > highest:
        return None
    length = min(widths.index(wanted) + 1, 6 - moment.first)
    ends = (_HIGHEST if is_high else _LOWEST)[moment.first :]
    parts = (*moment.parts, *ends[len(moment.parts) :])[:length]
    filled = replace(moment, parts=parts, digits=3 if wanted == widths[-1] and highest != 8 else 0)
    if is_high and len(moment.parts) < 3 <= length and moment.kind != "Time":
        filled = replace(filled, parts=(*parts[:2], _month_days(filled), *parts[3:]))
    if filled.zone is None and length > 3 and moment.kind == "DateTime":
        filled = replace(filled, zone=_ZONES_MINUTES[0 if is_high else 1])
    return filled


def precision_of(moment: Moment) -> int:
    """Digits of what is known: 4 for a year, 17 for milliseconds."""
    digits = sum(4 if position == 0 else 2 for position in range(moment.first, moment.first + len(moment.parts)))
    return digits + moment.digits
