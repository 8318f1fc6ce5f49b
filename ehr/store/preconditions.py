"""What is insisted on: If-Match and If-None-Match, of a request or of a Bundle's entry, against what stands.

In:      W/"3", a list of such, or *
Out:     Versions; ANY is *: whichever stands, but one must
Errors:  Malformed where it names no version; PreconditionFailed where another one stands
Source:  FHIR R4 http.html#concurrency; RFC 9110 13.1.1, 13.1.2
"""

import re
from typing import Final

from ehr.errors import Malformed, PreconditionFailed

Versions = frozenset[int]

ANY: Final[Versions] = frozenset()

_TAG: Final = re.compile(r'\s*(?:W/)?"([1-9][0-9]{0,8})"\s*', re.ASCII)


def if_match(text: object, at: str) -> Versions:
    """The versions that may stand. A strong tag is taken for a weak one: clients mix them up."""
    if isinstance(text, str):
        if text.strip() == "*":
            return ANY
        found = [_TAG.fullmatch(one) for one in text.split(",")]
        versions = frozenset(int(tag[1]) for tag in found if tag)
        if all(found):
            return versions
    raise Malformed('a version is named as in W/"3", several as in W/"3", W/"4"; * is any', at=at)


def refuse_unmet(
    type_name: str, version: int | None, expected: Versions | None, *, only_new: bool, at: str | None
) -> None:
    """version: what stands, None for nothing. expected and only_new: by If-Match and If-None-Match: *."""
    if expected is not None and (version is None or (expected and version not in expected)):
        stands = "is not there" if version is None else f"stands at version {version}; read it again"
        where = f"{at}.request.ifMatch" if at else "If-Match"
        raise PreconditionFailed(f"If-Match insists on another version: this {type_name} {stands}", at=where)
    if only_new and version is not None:
        where = f"{at}.request.ifNoneMatch" if at else "If-None-Match"
        raise PreconditionFailed(f"this {type_name} is there already (If-None-Match: *)", at=where)
