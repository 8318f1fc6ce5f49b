"""FHIR dates and times → the digits of the claim tables, in Indochina Time.

Source: QĐ 4750: yyyymmddHHMM and yyyymmdd; XML1.NGAY_SINH: unknown parts are zeros.
"""

from datetime import date, datetime
from typing import Any

from ehr.clock import ICT
from ehr.errors import Invalid
from ehr.fhir.elements import EXTENSION


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
    first, last = (date(int(text[:4]), int(text[4:6]), int(text[6:8])) for text in (arrived, left))
    return (last - first).days + 1
