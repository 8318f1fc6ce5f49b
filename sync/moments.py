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
    return (date_of(left) - date_of(arrived)).days + 1


def date_of(digits: str) -> date:
    """The day of a yyyymmdd or yyyymmddHHMM of ours."""
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
