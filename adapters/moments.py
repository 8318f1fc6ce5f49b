"""Turn the date-times of feeds into FHIR dateTimes: HL7 v2 DTM, of which the digits of the claim tables are a part.

In:      "20261123081500+0700", "202611230815", "19530000"; zeros stand for a month or day that is not known
Out:     dateTime with the precision sent; the offset of the text, else the message's, else that of Viet Nam
Errors:  Unreadable for a text that is no date-time
Source:  HL7 v2.5.1 2.A.22 DTM; HL7 v2-to-FHIR guide, DTM[dateTime]; FHIR R4 2.24.0.1 dateTime
"""

import re
from datetime import date, datetime, timedelta
from typing import Any, Final

from ehr.fhir.elements import EXTENSION

VIETNAM_OFFSET: Final = "+07:00"
_DTM: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,9})?)?)?)?)?)?(?:([+-])(\d\d)(\d\d))?"
)
_OFFSET: Final = re.compile(r"([+-])(\d\d)(\d\d)$")


class Unreadable(ValueError):
    """A value that is not of its data type; the text is safe to show."""


def offset_of(text: str) -> str | None:
    """The time zone of a date-time text, as FHIR writes it."""
    match = _OFFSET.search(text)
    return f"{match[1]}{match[2]}:{match[3]}" if match else None


def date_time(text: str, offset: str = VIETNAM_OFFSET) -> str | None:
    """DTM as FHIR dateTime with the precision sent; the offset is that of the text, else of the message.

    Zeros for an unknown month or day ("19530000", as in Vietnamese records) give the year alone. FHIR demands
    minutes, seconds and an offset with an hour, so they are written as zeros where the sender gave an hour only.
    """
    text = text.strip()
    if not text or not text.strip("0"):
        return None
    match = _DTM.fullmatch(text)
    if not match:
        raise Unreadable("not a date-time YYYY[MM[DD[HH[MM[SS[.S]]]]]][+/-ZZZZ]")
    year, month, day, hour, minute, second, fraction, sign, zone_h, zone_m = match.groups()
    if year == "0000":
        raise Unreadable("there is no year 0000")
    if month is None or (month == "00" and day in (None, "00")):
        return str(year)
    if not 1 <= int(month) <= 12:
        raise Unreadable("no such month")
    if day is None or day == "00":
        return f"{year}-{month}"
    try:
        the_day = date(int(year), int(month), int(day))
    except ValueError as error:
        raise Unreadable("no such day") from error
    if hour is None:
        return the_day.isoformat()
    the_day, time = _time(the_day, int(hour), int(minute or 0), int(second or 0))
    zone = f"{sign}{zone_h}:{zone_m}" if sign else offset
    if int(zone[1:3]) > 14 or int(zone[4:6]) > 59:
        raise Unreadable("no such time zone")
    return f"{the_day.isoformat()}T{time}{fraction or ''}{'+00:00' if zone == '-00:00' else zone}"


def _time(day: date, hour: int, minute: int, second: int) -> tuple[date, str]:
    """A time of day; 24:00, which FHIR does not know, is 00:00 of the next day."""
    if hour == 24 and not minute and not second and day < date.max:
        return day + timedelta(days=1), "00:00:00"
    if hour > 23 or minute > 59 or second > 60:
        raise Unreadable("no such time of day")
    return day, f"{hour:02}:{minute:02}:{second:02}"


def birth(text: str, moment: str) -> dict[str, Any]:
    """The elements of Patient for a date of birth, sent as text and read as moment: the day, and the time where one
    was sent; "0000" stands for none.
    """
    elements: dict[str, Any] = {"birthDate": moment.split("T", maxsplit=1)[0]}
    if "T" in moment and not text[8:12].startswith("0000"):
        time = {"url": EXTENSION + "patient-birthTime", "valueDateTime": moment}
        elements["_birthDate"] = {"extension": [time]}
    return elements


def earlier(first: str, second: str) -> bool:
    """Whether one FHIR dateTime with time is before another."""
    return _instant(first) < _instant(second)


def _instant(text: str) -> datetime:
    # Python has no leap second; a second more or less does not change which message is the later one
    return datetime.fromisoformat(text.replace(":60", ":59"))
