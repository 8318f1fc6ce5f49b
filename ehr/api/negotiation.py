"""Turn the headers with which a client says what it wants into decisions, or refuse what we do not produce.

In:      Accept, Content-Type, Prefer, If-Match, If-None-Match, If-Modified-Since, _format
Out:     nothing where JSON will do; Preferences; a version number; a moment
Errors:  NotAcceptable (406), UnsupportedMedia (415), Malformed (400), each naming the header or parameter
Source:  FHIR R4 http.html#mime-type, #ops, #concurrency, #cread; RFC 9110 12.5.1, 13.1; RFC 7240
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from ehr.errors import Malformed, NotAcceptable, NotSupported, UnsupportedMedia

JSON: Final = "application/fhir+json"
JSON_PATCH: Final = "application/json-patch+json"
PATCH_FORMATS: Final = (JSON_PATCH,)
"""Media types a patch may have, as the CapabilityStatement names them."""
_PRODUCED: Final = frozenset({"application/fhir+json", "application/json", "text/json", "json"})
_READ: Final = frozenset({"application/fhir+json", "application/json", "text/json"})
_ETAG: Final = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)

Return = Literal["representation", "minimal", "OperationOutcome"]


@dataclass(frozen=True, slots=True)
class Preferences:
    """Prefer of RFC 7240, as FHIR uses it."""

    returns: Return = "representation"
    lenient: bool = False


DEFAULTS: Final = Preferences()


def preferences(header: str | None) -> Preferences:
    """What Prefer asks for; a preference we do not know may be ignored (RFC 7240 2)."""
    if not header:
        return DEFAULTS
    returns: Return = "representation"
    lenient = False
    for one in re.split(r"[,;]", header):
        name, _, value = one.strip().partition("=")
        value = value.strip().strip('"')
        match name.strip().lower():
            case "return":
                if value == "minimal":
                    returns = "minimal"
                elif value == "OperationOutcome":
                    returns = "OperationOutcome"
            case "handling":
                lenient = value == "lenient"
            case _:
                pass
    return Preferences(returns, lenient)


def check_produced(accept: str | None, format_: str | None) -> None:
    """Refuse what we cannot produce. _format overrides Accept (http.html#mime-type)."""
    if format_ is not None:
        if _essence(format_) not in _PRODUCED:
            raise NotAcceptable("this server produces JSON; use _format=json", at="_format")
        return
    if accept is None or accept in ("*/*", JSON):
        return
    if not any(_accepts_json(one) for one in accept.split(",")):
        raise NotAcceptable(f"this server produces {JSON}; name it in Accept", at="Accept")


def _accepts_json(media: str) -> bool:
    name, *parameters = [part.strip() for part in media.split(";")]
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q" and (not _QUALITY.fullmatch(value.strip()) or float(value) == 0):
            return False
        if key.strip().lower() == "fhirversion" and value.strip().strip('"') not in ("4.0", "4.0.1"):
            return False
    return name.lower() in ("*/*", "application/*") or name.lower() in _PRODUCED - {"json"}


def check_read(content_type: str | None) -> None:
    """Refuse a body we do not read, before it is read."""
    if content_type is None:
        raise UnsupportedMedia(f"a body needs a Content-Type; this server reads {JSON}", at="Content-Type")
    if _essence(content_type) not in _READ:
        raise UnsupportedMedia(f"this server reads {JSON}", at="Content-Type")
    charset = re.search(r"charset\s*=\s*\"?([^\";\s]+)", content_type, re.IGNORECASE)
    if charset and charset[1].lower().replace("-", "") != "utf8":
        raise UnsupportedMedia("FHIR JSON is UTF-8", at="Content-Type")


def _essence(media: str) -> str:
    """The type without parameters; a + that came undecoded through a query is a space there (http.html#mime-type)."""
    return media.split(";", maxsplit=1)[0].strip().lower().replace(" ", "+")


def if_match(header: str | None) -> int | None:
    """The version an update or delete insists on, from W/"3"."""
    if header is None:
        return None
    found = _ETAG.fullmatch(header)
    if found is None or not _VERSION.fullmatch(found[1]):
        raise Malformed('If-Match names one version, as in W/"3"', at="If-Match")
    return int(found[1])


def if_none(header: str | None) -> bool:
    """Whether an update insists that nothing is there yet: If-None-Match: * (RFC 9110 13.1.2)."""
    if header is not None and header.strip() != "*":
        raise NotSupported("If-None-Match of an update is *; a version is named by If-Match", at="If-None-Match")
    return header is not None


def not_modified(if_none_match: str | None, if_modified_since: str | None, version: int, updated: datetime) -> bool:
    """Whether a conditional read may be answered 304; If-None-Match decides where both are given (RFC 9110 13.2.2)."""
    if if_none_match is not None:
        if if_none_match.strip() == "*":
            return True
        tags = [found[1] for one in if_none_match.split(",") if (found := _ETAG.fullmatch(one))]
        return str(version) in tags
    if if_modified_since is None:
        return False
    try:
        since = parsedate_to_datetime(if_modified_since)
    except ValueError:
        return False  # a date that cannot be read is ignored (RFC 9110 13.1.3)
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return updated.replace(microsecond=0) <= since


def not_modified_tag(if_none_match: str | None, etag: str) -> bool:
    """Whether If-None-Match names this entity tag; compared weakly (RFC 9110 13.1.2)."""
    if if_none_match is None:
        return False
    own = _ETAG.fullmatch(etag)
    tags = [found[1] for one in if_none_match.split(",") if (found := _ETAG.fullmatch(one))]
    return if_none_match.strip() == "*" or (own is not None and own[1] in tags)


def is_true(value: str | None, name: str) -> bool:
    """A boolean parameter."""
    if value in (None, "false"):
        return False
    if value == "true":
        return True
    raise Malformed("true or false is wanted", at=name)
