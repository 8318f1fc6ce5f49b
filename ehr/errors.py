"""Every way this system says no.

EhrError
├── Refused                the caller must change the request; retrying as it is will not help
│   ├── Malformed              400  structure      AR   not FHIR JSON, not HL7, not XML
│   ├── Invalid                422  invariant      AE   well formed, but breaks a rule we enforce
│   │   ├── InvalidResource    400  invariant      AE   breaks R4 itself; each issue has a code of its own
│   │   └── BadSearch          400  value          AE   a value of a search, or a condition, that cannot mean anything
│   ├── NotSupported           400  not-supported  AR   a parameter, type or message we do not serve
│   ├── Unauthenticated        401  login          AR   no token, or one we cannot accept
│   ├── Forbidden              403  forbidden      AR   scope, consent or facility says no
│   ├── NotFound               404  not-found      AE   also where Forbidden would leak existence
│   ├── MethodNotAllowed       405  not-supported  AR   a route that has no such method
│   ├── NotAcceptable          406  not-supported  AR   a representation we do not produce
│   ├── Gone                   410  deleted        AE
│   ├── UnsupportedMedia       415  structure      AR   a body in a format we do not read
│   └── TooMuch                413  too-costly     AR   over a limit of ehr.limits
│       └── TooLong            414  too-costly     AR   an address over one
├── Conflicted             the caller must read again, then retry
│   ├── PreconditionFailed     412  conflict       AE   If-Match, or criteria that match many
│   └── Duplicate              409  duplicate      AE
└── Unavailable            retry the same request later; nothing was stored, or the same
    ├── Busy                   503  throttled      AE   idempotency key gives the first answer
    ├── NoRoom                 503  no-store       AE   the disk of the database is full
    └── Throttled              429  throttled      AE   the caller has too much under way

Anything else that escapes is a bug: 500, no details to the caller, full details to the log.
Columns: class, HTTP status, FHIR issue-type code, HL7 acknowledgment code (table 0008).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

Severity = Literal["fatal", "error", "warning", "information"]
Acknowledgment = Literal["AA", "AE", "AR"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding, as OperationOutcome.issue and the HL7 ERR segment both need it.

    code      FHIR issue-type code (value set issue-type)
    text      what is wrong and what to do; safe to show, holds no patient data
    at        FHIRPath or HL7 path of the element ("Observation.status", "PID-3.1"), or None
    severity  FHIR issue-severity
    """

    code: str
    text: str
    at: str | None = None
    severity: Severity = "error"


class EhrError(Exception):
    """Something this system refuses or cannot do now; carries at least one Issue."""

    http_status: ClassVar[int] = 500
    issue_code: ClassVar[str] = "exception"
    ack: ClassVar[Acknowledgment] = "AE"

    def __init__(self, text: str, *, at: str | None = None, issues: list[Issue] | None = None) -> None:
        super().__init__(text)
        self.issues: list[Issue] = issues or [Issue(self.issue_code, text, at)]


class Refused(EhrError):
    """The caller must change the request."""


class Malformed(Refused):
    http_status, issue_code, ack = 400, "structure", "AR"


class Invalid(Refused):
    http_status, issue_code, ack = 422, "invariant", "AE"


class InvalidResource(Invalid):
    http_status, issue_code, ack = 400, "invariant", "AE"


class BadSearch(Invalid):
    http_status, issue_code, ack = 400, "value", "AE"


class NotSupported(Refused):
    http_status, issue_code, ack = 400, "not-supported", "AR"


class UnservedModifier(NotSupported):
    """Of a search parameter: refused even where an unknown parameter is let be (FHIR R4 search.html#modifiers)."""


class Unauthenticated(Refused):
    """presented: a token was sent, and is none we accept (RFC 6750 3.1)."""

    http_status, issue_code, ack = 401, "login", "AR"
    presented = False


class Forbidden(Refused):
    http_status, issue_code, ack = 403, "forbidden", "AR"


class NotFound(Refused):
    http_status, issue_code, ack = 404, "not-found", "AE"


class MethodNotAllowed(Refused):
    http_status, issue_code, ack = 405, "not-supported", "AR"


class NotAcceptable(Refused):
    http_status, issue_code, ack = 406, "not-supported", "AR"


class Gone(Refused):
    http_status, issue_code, ack = 410, "deleted", "AE"


class UnsupportedMedia(Refused):
    http_status, issue_code, ack = 415, "structure", "AR"


class TooMuch(Refused):
    http_status, issue_code, ack = 413, "too-costly", "AR"


class TooLong(TooMuch):
    http_status, issue_code, ack = 414, "too-costly", "AR"


class Conflicted(EhrError):
    """The caller must read again, then retry."""


class PreconditionFailed(Conflicted):
    http_status, issue_code, ack = 412, "conflict", "AE"


class Duplicate(Conflicted):
    http_status, issue_code, ack = 409, "duplicate", "AE"


class Unavailable(EhrError):
    """Retry the same request later."""

    http_status, issue_code, ack = 503, "transient", "AE"


class Busy(Unavailable):
    http_status, issue_code, ack = 503, "throttled", "AE"


class NoRoom(Unavailable):
    http_status, issue_code, ack = 503, "no-store", "AE"


class Throttled(Unavailable):
    http_status, issue_code, ack = 429, "throttled", "AE"
