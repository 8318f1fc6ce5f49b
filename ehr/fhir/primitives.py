"""A JSON value of a primitive element → what is wrong with it, or None.

In:      primitive type name, JSON value (numbers as int, float or Decimal)
Out:     one sentence without the value, which may name a patient
Keeps:   PATTERNS are exact, calendar included: 2023-02-29 and 2024-04-31 do not match
         control characters are refused where text is read, not here
Source:  FHIR R4 2.24.0.1 primitive types and their regular expressions. Text that is only space is accepted: the
         specification says SHOULD there
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from ehr.fhir.narrative import narrative_problem

_YEAR: Final = r"(?!0000)[0-9]{4}"
_LEAP_YEAR: Final = r"(?!0000)(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY: Final = (
    rf"(?:{_YEAR}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    rf"|{_LEAP_YEAR}-02-29)"
)
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE: Final = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_PARTIAL: Final = rf"{_YEAR}(?:-(?:0[1-9]|1[0-2]))?"

STRING_CHARACTERS_MAX: Final = 1024 * 1024
CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""No string of FHIR holds these characters. Whoever reads text from outside looks for them there (ehr.fhir.codec,
adapters.hl7v2): asking each string of a tree would take as long as all the rest of its validation."""

INTEGER_MIN: Final = -(2**31)
INTEGER_MAX: Final = 2**31 - 1

PATTERNS: Final = {
    "base64Binary": r"[0-9a-zA-Z+/\s]+={0,2}\s*",
    "canonical": r"\S+",
    "code": r"[^\s]+(?:\s[^\s]+)*",
    "date": rf"(?:{_DAY}|{_PARTIAL})",
    "dateTime": rf"(?:{_DAY}(?:T{_CLOCK}{_ZONE})?|{_PARTIAL})",
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "instant": rf"{_DAY}T{_CLOCK}{_ZONE}",
    "markdown": r"[\s\S]+",
    "oid": r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+",
    "string": r"[\s\S]+",
    "time": _CLOCK,
    "uri": r"\S+",
    "url": r"\S+",
    "uuid": r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
"""Primitive type → regular expression of the whole text."""

_MATCH: Final = {name: re.compile(pattern, re.ASCII).fullmatch for name, pattern in PATTERNS.items()}

_FORMS: Final = {
    "base64Binary": "base64 text of 4, 8, 12, … characters",
    "canonical": "a canonical URL without space",
    "code": "a code: no space before, after, or twice within",
    "date": "a date that exists: YYYY, YYYY-MM or YYYY-MM-DD",
    "dateTime": "a moment that exists: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz",
    "id": "an id: 1 to 64 of A-Z a-z 0-9 - .",
    "instant": "an instant that exists: YYYY-MM-DDThh:mm:ss+zz:zz",
    "markdown": "text that is not empty",
    "oid": "urn:oid: and an OID",
    "string": "text that is not empty",
    "time": "a time: hh:mm:ss",
    "uri": "a URI without space",
    "url": "a URL without space",
    "uuid": "urn:uuid: and a UUID in lower case",
}

_INTEGERS: Final = {"integer": INTEGER_MIN, "unsignedInt": 0, "positiveInt": 1}


def problem(kind: str, value: Any) -> str | None:
    """What is wrong with the value of a primitive element, or None."""
    return _CHECKS.get(kind, _text)(kind, value)


def _boolean(_kind: str, value: Any) -> str | None:
    return None if value is True or value is False else "must be true or false"


def _decimal(_kind: str, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return "must be a JSON number"
    return None if math.isfinite(value) else "must be a finite number"


def _integer(kind: str, value: Any) -> str | None:
    least = _INTEGERS[kind]
    if isinstance(value, bool) or not isinstance(value, int):
        return "must be a JSON number without fraction or exponent"
    return None if least <= value <= INTEGER_MAX else f"must be from {least} to {INTEGER_MAX}"


def _text(kind: str, value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be a JSON string: {_FORMS[kind]}"
    if not value:
        return "must not be empty; leave the element out instead"
    if len(value) > STRING_CHARACTERS_MAX and kind != "base64Binary":
        return f"must have at most {STRING_CHARACTERS_MAX} characters"
    if not _MATCH[kind](value) or (kind == "base64Binary" and sum(map(len, value.split())) % 4):
        return f"must be {_FORMS[kind]}"
    return None


def _xhtml(_kind: str, value: Any) -> str | None:
    return narrative_problem(value) if isinstance(value, str) else "must be a JSON string with one XHTML div"


_CHECKS: Final[dict[str, Callable[[str, Any], str | None]]] = {
    "boolean": _boolean,
    "decimal": _decimal,
    "xhtml": _xhtml,
    **dict.fromkeys(_INTEGERS, _integer),
}
