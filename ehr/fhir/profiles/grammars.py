"""Value sets of R4 that hold every code of a grammar, and cannot be listed.

Source:  FHIR R4 ValueSet all-languages (BCP 47, RFC 5646 section 2.1) and mimetypes (BCP 13, RFC 6838 section 4.2)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"


@dataclass(frozen=True, slots=True)
class Grammar:
    system: str
    form: re.Pattern[str]


GRAMMARS: Final[Mapping[str, Grammar]] = {
    "http://hl7.org/fhir/ValueSet/all-languages": Grammar(
        "urn:ietf:bcp:47",
        re.compile(
            r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|\d{3}))?"
            r"(?:-(?:[A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3}))*(?:-[0-9A-WY-Za-wy-z](?:-[A-Za-z0-9]{2,8})+)*"
            r"(?:-[xX](?:-[A-Za-z0-9]{1,8})+)?|[xX](?:-[A-Za-z0-9]{1,8})+"
        ),
    ),
    "http://hl7.org/fhir/ValueSet/mimetypes": Grammar(
        "urn:ietf:bcp:13", re.compile(rf"{_NAME}/{_NAME}(?:\s*;\s*{_NAME}=(?:{_NAME}|\"[^\"]*\"))*")
    ),
}
