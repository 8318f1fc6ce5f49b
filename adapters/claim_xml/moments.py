"""Dates of claim tables as FHIR: yyyymmddHHMM and yyyymmdd, Indochina Time.

Source:  QĐ 4750 annex (12 and 8 digits; unknown time, day and month are zeros)
"""

from adapters.moments import Unreadable, date_time

__all__ = ["Unreadable", "day", "minute"]


def minute(text: str) -> str:
    """dateTime with the precision that is known."""
    if len(text) not in (8, 12) or not text.isdecimal():
        raise Unreadable("not a date-time of 12 digits, yyyymmddHHMM")
    moment = date_time(text)
    if moment is None:
        raise Unreadable("a date-time of zeros only")
    return moment


def day(text: str) -> str:
    if len(text) not in (8, 12) or not text.isdecimal():
        raise Unreadable("not a date of 8 digits, yyyymmdd")
    return minute(text).split("T", maxsplit=1)[0]
