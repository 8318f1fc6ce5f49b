"""One answer of the FHIR interface: status, headers and bytes, and how a stored version becomes one.

In:      Version, tree or error
Out:     Answer, sent as one ASGI response
Keeps:   the stored bytes as they are: nothing is parsed to be served
Source:  FHIR R4 http.html#general (Location, ETag, Last-Modified), RFC 9110 15.4.5 (304 carries the validators)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from starlette.types import Send

from ehr.errors import EhrError, Issue, Unauthenticated
from ehr.fhir import codec, outcome
from ehr.store.version import Version

Header = tuple[bytes, bytes]

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RETRY_AFTER_S: Final = {429: b"60", 503: b"1"}
JSON_HEADER: Final[Header] = (b"content-type", b"application/fhir+json; charset=utf-8")


@dataclass(slots=True)
class Answer:
    """What goes back. headers hold no Content-Length: it is that of the body. Every request makes one: not frozen."""

    status: int
    body: bytes = b""
    headers: list[Header] = field(default_factory=list)

    async def send(self, send: Send, more: Sequence[Header] = (), *, head: bool = False) -> None:
        """Send it with more headers; a HEAD gets the headers of the GET and no body."""
        headers = [*self.headers, *more]
        if self.status not in (204, 304):
            headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else self.body})

    def with_body(self, body: bytes) -> "Answer":
        return replace(self, body=body)


def json_answer(status: int, body: bytes, *more: Header) -> Answer:
    """FHIR JSON bytes as they are."""
    return Answer(status, body, [JSON_HEADER, *more])


def outcome_answer(status: int, issues: list[Issue], *more: Header) -> Answer:
    """An OperationOutcome with these issues."""
    return json_answer(status, codec.dumps(outcome.operation_outcome(issues)), *more)


def tree_answer(tree: dict[str, Any], *more: Header) -> Answer:
    """200 with a resource we built ourselves."""
    return json_answer(200, codec.dumps(tree), *more)


def error_answer(error: EhrError) -> Answer:
    """The OperationOutcome of a refusal, with the headers its status asks for."""
    more: list[Header] = []
    if isinstance(error, Unauthenticated):
        wrong = b', error="invalid_token"' if error.presented else b""
        more.append((b"www-authenticate", b'Bearer realm="fhir"' + wrong))
    if error.http_status in _RETRY_AFTER_S:
        more.append((b"retry-after", _RETRY_AFTER_S[error.http_status]))
    return json_answer(error.http_status, codec.dumps(outcome.of_error(error)), *more)


def validators(version: Version) -> list[Header]:
    """ETag and Last-Modified of a version."""
    return [(b"etag", version.etag.encode()), (b"last-modified", http_date(version.updated).encode())]


def http_date(moment: datetime) -> str:
    """IMF-fixdate of RFC 9110 5.6.7; by hand, because every read says it and email.utils takes ten times as long."""
    utc = moment.astimezone(UTC)
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day:02} {_MONTHS[utc.month - 1]} {utc.year:04} "
        f"{utc.hour:02}:{utc.minute:02}:{utc.second:02} GMT"
    )
