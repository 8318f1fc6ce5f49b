"""Turn the headers with which a client says what it wants into decisions, or refuse what we do not produce.

In:      Accept, Content-Type, Prefer, If-Match, If-None-Match, If-Modified-Since, _format
Out:     the format of the answer, the format of the body; Preferences; the versions a write insists on; a moment
Errors:  NotAcceptable (406), UnsupportedMedia (415), Malformed (400), each naming the header or parameter
Source:  FHIR R4 http.html#mime-type, #ops, #concurrency, #cread, binary.html; RFC 9110 12.5.1, 13.1; RFC 7240
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from ehr.errors import Malformed, NotAcceptable, NotSupported, UnsupportedMedia
from ehr.fhir.patch import JSON_PATCH
from ehr.store.preconditions import Versions, if_match

Form = Literal["json", "xml"]

JSON: Final = "application/fhir+json"
XML: Final = "application/fhir+xml"
_MEDIA: Final[dict[Form, frozenset[str]]] = {
    "json": frozenset({JSON, "application/json", "text/json", "application/json+fhir"}),
    "xml": frozenset({XML, "application/xml", "text/xml", "application/xml+fhir"}),
}
"""The last ones are those of DSTU2, which servers are encouraged to know still (http.html#mime-type)."""
_FORMS: Final[dict[str, Form]] = {name: form for form, names in _MEDIA.items() for name in (*names, form)}
"""What _format may say → the format."""

_PARTS: Final[dict[Form, frozenset[str]]] = dict.fromkeys(_MEDIA, frozenset({"application/*", "text/*"}))
_ANY: Final = frozenset({"*/*"})
PATCH_FORMATS: Final = (JSON_PATCH, JSON, XML)
"""Media types a patch may have, as the CapabilityStatement names them."""

_VERSIONS: Final = frozenset({"4.0", "4.0.1"})
"""Of FHIR, as the parameter fhirVersion of a media type says them (http.html#version-parameter)."""

_ETAG: Final = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')
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


def produced(accept: str | None, format_: str | None) -> Form:
    """The format of the answer. _format overrides Accept (http.html#mime-type); JSON where neither says anything."""
    if format_ is not None:
        asked = _range(format_, 0)
        form = _FORMS.get(_essence(asked.name)) if asked is not None else None
        if form is None:
            text = "this server produces JSON and XML of FHIR R4; use _format=json or _format=xml"
            raise NotAcceptable(text, at="_format")
        return form
    if not accept or accept in ("*/*", JSON):
        return "json"
    ranges = [found for place, one in enumerate(accept.split(",")) if (found := _range(one, place)) is not None]
    wished = [(wish, form) for form in _MEDIA if (wish := _wish(ranges, form)) is not None]
    if not wished:
        raise NotAcceptable(f"this server produces {JSON} and {XML}; name one in Accept", at="Accept")
    return min(wished, key=lambda pair: pair[0])[1]


def named(accept: str | None, form: Form) -> str | None:
    """The type by which Accept names this format, where it is another than FHIR's own: the answer's type then, too
    (http.html#mime-type: a generic type SHOULD be answered with)."""
    if not accept or accept in ("*/*", JSON):
        return None
    ranges = [found for place, one in enumerate(accept.split(",")) if (found := _range(one, place)) is not None]
    naming = [one for one in ranges if one.name in _MEDIA[form] and one.weight]
    best = min(naming, key=lambda one: (-one.weight, one.name not in (JSON, XML), one.place), default=None)
    return best.name if best is not None and best.name not in (JSON, XML) else None


@dataclass(frozen=True, slots=True)
class ContentWish:
    """What Accept says of a Binary's content: the FHIR format it names by name, and how much it wants other types."""

    form: Form | None
    weight: float
    ranges: tuple["_Range", ...]

    def takes(self, content_type: str) -> bool:
        """Whether content of this type is wanted, and more than the resource that holds it (binary.html)."""
        essence = _essence(content_type)
        for name in (essence, f"{essence.partition('/')[0]}/*", "*/*"):
            weights = [one.weight for one in self.ranges if one.name == name]
            if weights:
                return max(weights) > (self.weight if self.form else 0)
        return False


def content_wish(accept: str | None) -> ContentWish:
    """Accept of a read of a Binary: only the FHIR types themselves ask for the resource."""
    ranges = [found for place, one in enumerate((accept or "*/*").split(",")) if (found := _range(one, place))]
    forms: tuple[tuple[Form, str], ...] = (("json", JSON), ("xml", XML))
    named = [(one, form) for one in ranges for form, name in forms if one.name == name and one.weight]
    if not named:
        return ContentWish(None, 0, tuple(ranges))
    best, form = min(named, key=lambda pair: (-pair[0].weight, pair[0].place))
    return ContentWish(form, best.weight, tuple(ranges))


def produced_or_json(accept: str | None, format_: str | None) -> Form:
    """The format of a refusal, which may be that of this very wish."""
    try:
        return produced(accept, format_)
    except NotAcceptable:
        return "json"


@dataclass(frozen=True, slots=True)
class _Range:
    """One member of Accept: a type or a range of types, its weight, its place."""

    name: str
    weight: float
    place: int


def _range(media: str, place: int) -> _Range | None:
    """None: a type of another FHIR version, or a weight that is none."""
    name, *parameters = [part.strip() for part in media.split(";")]
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        key, value = key.strip().lower(), value.strip()
        if key == "q":
            if not _QUALITY.fullmatch(value):
                return None
            weight = float(value)
        if key == "fhirversion" and value.strip('"') not in _VERSIONS:
            return None
    return _Range(name.lower(), weight, place)


def _wish(ranges: list[_Range], form: Form) -> tuple[float, int, int] | None:
    """How much a format is wanted, the least first: by the most specific ranges that name it (RFC 9110 12.5.1)."""
    for names in (_MEDIA[form], _PARTS[form], _ANY):
        naming = [one for one in ranges if one.name in names]
        if naming:
            best = max(naming, key=lambda one: one.weight)
            if best.weight == 0:
                return None
            return -best.weight, best.place if names is _MEDIA[form] else len(ranges), 0 if form == "json" else 1
    return None


def read_form(content_type: str | None) -> Form:
    """The format of a body; what we do not read is refused before it is read."""
    if content_type is None:
        raise UnsupportedMedia(f"a body needs a Content-Type; this server reads {JSON} and {XML}", at="Content-Type")
    form = content_form(content_type)
    if form is None:
        raise UnsupportedMedia(f"this server reads {JSON} and {XML}", at="Content-Type")
    if ";" not in content_type:
        return form
    version = re.search(r"fhirversion\s*=\s*\"?([^\";\s]+)", content_type, re.IGNORECASE)
    if version and version[1] not in _VERSIONS:
        raise UnsupportedMedia("this server reads FHIR R4, fhirVersion=4.0", at="Content-Type")
    charset = re.search(r"charset\s*=\s*\"?([^\";\s]+)", content_type, re.IGNORECASE)
    if charset and charset[1].lower().replace("-", "") != "utf8":
        raise UnsupportedMedia("FHIR is UTF-8", at="Content-Type")
    return form


def content_form(content_type: str) -> Form | None:
    """The format in which content of this type may be a resource; None: it is content, and no more."""
    return next((form for form in _MEDIA if _essence(content_type) in _MEDIA[form]), None)


def _essence(media: str) -> str:
    """The type without parameters; a + that came undecoded through a query is a space there (http.html#mime-type)."""
    return media.split(";", maxsplit=1)[0].strip().lower().replace(" ", "+")


def expected(headers: Mapping[str, str]) -> Versions | None:
    """The versions that are insisted on. If-Unmodified-Since is heeded where there is no If-Match (RFC 9110 13.1.4)."""
    header = headers.get("if-match")
    if header is not None:
        return if_match(header, "If-Match")
    if "if-unmodified-since" in headers:
        text = "seconds do not tell two versions apart; name the version you read with If-Match, which is its ETag"
        raise NotSupported(text, at="If-Unmodified-Since")
    return None


def only_new(headers: Mapping[str, str]) -> bool:
    """Whether an update insists that nothing is there yet: If-None-Match: * (RFC 9110 13.1.2)."""
    header = headers.get("if-none-match")
    if header is not None and header.strip() != "*":
        raise NotSupported("If-None-Match of an update is *; a version is named by If-Match", at="If-None-Match")
    return header is not None


def refuse_conditions(headers: Mapping[str, str], *names: str) -> None:
    """Refuse the conditions that an interaction does not know: a client would count on them."""
    for name in names:
        if name.lower() in headers:
            raise NotSupported(f"{name} is no condition of this interaction", at=name)


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
