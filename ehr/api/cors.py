"""Cross-origin requests: what a browser is told before an application of another origin may call.

In:      the origins that are let in (EHR_CORS_ORIGINS), the headers of a request
Out:     further headers of an answer; the answer to a preflight
Never:   credentials: a page of another origin sends its token, and no cookie of ours
Source:  Fetch Standard 3.2 (CORS protocol); FHIR R4 security.html#cors
"""

from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

from ehr.api.answer import Answer, Header

_SENT: Final = (
    b"Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, "
    b"If-None-Exist, If-None-Match, If-Range, Prefer, Range, X-Provenance, X-Request-Id, X-Security-Context"
)
_METHODS: Final = b"DELETE, GET, HEAD, PATCH, POST, PUT"
_SHOWN: Final = (
    b"Accept-Patch, Accept-Ranges, Allow, Content-Location, Content-Range, ETag, Expires, Last-Modified, Location, "
    b"Retry-After, WWW-Authenticate, X-Progress, X-Request-Id, X-Security-Context"
)
"""A script sees of an answer's headers only those that are named, and a few that say little."""
_PREFLIGHT_S: Final = b"7200"
"""The longest that Chrome keeps a preflight's answer."""


class Origins:
    """The origins that are let in; none, unless the operator names them."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(one.encode() for one in allowed)
        self._all = b"*" in self._allowed

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def told(self, scope: Scope) -> list[Header]:
        """What an answer says to the browser; caches are told that it depends on who asks."""
        headers: list[Header] = [] if self._all else [(b"vary", b"Origin")]
        if (origin := self._let_in(scope)) is not None:
            headers += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _SHOWN)]
        return headers

    def preflight(self, scope: Scope) -> Answer | None:
        """The answer to a preflight; None where the request is none, or of an origin that is not let in.

        It is the same for every address: one that is wrong tells so to the request itself, which can show it.
        """
        if scope["method"] != "OPTIONS" or self._let_in(scope) is None:
            return None
        if _header(scope, b"access-control-request-method") is None:
            return None
        allowed = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", _PREFLIGHT_S),
        ]
        return Answer(204, b"", allowed)

    def _let_in(self, scope: Scope) -> bytes | None:
        """The origin as it is to be told; None where it is not let in."""
        origin = _header(scope, b"origin")
        if origin is None:
            return None
        return b"*" if self._all else origin if origin in self._allowed else None


def _header(scope: Scope, name: bytes) -> bytes | None:
    found: bytes | None = next((value for key, value in scope["headers"] if key == name), None)
    return found
