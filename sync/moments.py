"""FHIR dates and times → the digits of the claim tables, in Indochina Time.

Source: QĐ 4750: yyyymmddHHMM and yyyymmdd; XML1.NGAY_SINH: unknown parts are zeros.
"""

import re
from datetime import date, datetime
from typing import Any, Final

from ehr.clock import ICT
from ehr.errors import Invalid
from ehr.fhir.elements import EXTENSION

_DIGITS: Final = re.compile(r"[0-9]{8}([0-9]{4})?")


def moment(value: str, at: str) -> datetime:
    """A FHIR dateTime or instant with a time of day, in Indochina Time."""
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise Invalid("a time of day with its zone is needed here", at=at)
    return parsed.astimezone(ICT)


def minute(value: str, at: str) -> str:
    """yyyymmddHHMM."""
    return moment(value, at).strftime("%Y%m%d%H%M")


def day(value: str, at: str) -> str:
    """yyyymmdd of a full date, or of a moment in Indochina Time."""
    try:
        if "T" in value:
            return moment(value, at).strftime("%Y%m%d")
        return date.fromisoformat(value).strftime("%Y%m%d")
    except ValueError as error:
        raise Invalid("a full date is needed here", at=at) from error


def birth(patient: dict[str, Any]) -> str:
    """NGAY_SINH: yyyymmddHHMM, zeros for the parts that are not known."""
    for extension in patient.get("_birthDate", {}).get("extension", ()):
        if extension.get("url") == EXTENSION + "patient-birthTime":
            return minute(extension["valueDateTime"], "Patient.birthDate")
    digits = str(patient.get("birthDate", "")).replace("-", "")
    return digits.ljust(12, "0") if digits else ""


def days_of_stay(arrived: str, left: str) -> int:
    """Day of leaving minus day of arriving plus one, of two yyyymmddHHMM."""
    return (date_of(left, "XML1.NGAY_RA") - date_of(arrived, "XML1.NGAY_VAO")).days + 1


def date_of(digits: str, at: str = "") -> date:
    """The day of a yyyymmdd or yyyymmddHHMM, which a facility may have written itself."""
    if not is_moment(digits):
        raise Invalid("is no day or minute of the calendar; write yyyymmdd or yyyymmddHHMM", at=at)
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))


def is_moment(digits: str) -> bool:
    """Whether these are the digits of a real day, or of a real minute of one."""
    if not _DIGITS.fullmatch(digits):
        return False
    try:
        datetime.strptime(digits, "%Y%m%d%H%M" if len(digits) > 8 else "%Y%m%d")  # noqa: DTZ007 - only its form
    except ValueError:
        return False
    return True
