"""Turn an ASGI request into an Exchange, run the handler of its method, and send its Answer.

In:      the scope of a request that matched one FHIR route
Out:     the handler's Answer, or the OperationOutcome of its refusal
Limits:  the query, the body and the time a body may take
Why:     These are plain ASGI endpoints: FastAPI's own routing costs more than a read by id does (docs/adr/0020).
"""

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from ehr import limits
from ehr.access.authenticate import Authenticator
from ehr.access.policy import Caller, Grants
from ehr.api import denied
from ehr.api.answer import Answer, Header, error_answer
from ehr.api.at_home import resource_at_home
from ehr.api.form import shown_as
from ehr.api.negotiation import (
    PATCH_FORMATS,
    Form,
    Preferences,
    is_true,
    named,
    preferences,
    produced,
    produced_or_json,
    read_form,
)
from ehr.aside import aside, is_large
from ehr.errors import (
    EhrError,
    Forbidden,
    Malformed,
    MethodNotAllowed,
    NotFound,
    NotSupported,
    TooMuch,
    UnsupportedMedia,
)
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.xml_reader import to_json
from ehr.nearest import did_you_mean
from ehr.store.record import Record

Handler = Callable[["Exchange"], Awaitable[Answer]]

_READING: Final = frozenset({"GET", "HEAD"})
_LOOKS: Final = frozenset({"_format", "_pretty"})
_CODINGS: Final = frozenset({"identity", "gzip", "x-gzip"})
_GZIP: Final = 16 + zlib.MAX_WBITS
_FIELDS_MAX: Final = limits.search_parameters_max * 4
_ESCAPED: Final = re.compile("[%+\x00]")
"""Where there is none of these, a query is as it reads."""

NO_ENDPOINT: Final = frozenset({"Parameters"})
"""Types that are only ever content of an operation (R4 parameters.html)."""


@dataclass(slots=True)
class Exchange:
    """One request in hand: who asks, for what, and how they want the answer."""

    record: Record
    caller: Caller
    method: str
    path: Mapping[str, str]
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    base: str
    preferences: Preferences
    receive: Receive
    format_asked: str | None = None
    shown_form: Form = "json"
    pretty: bool = False
    looks: tuple[tuple[str, str], ...] = ()

    @property
    def type_name(self) -> str:
        """The resource type of the address; an unknown one is not found (http.html#summary)."""
        return known_type(self.path["type"])

    def address(self, name: str) -> str:
        """The address of an operation at the place this request names."""
        return "/".join([self.base, *(self.path[part] for part in ("type", "id") if part in self.path), name])

    @property
    def has_body(self) -> bool:
        return self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers

    async def body(self, bytes_max: int) -> bytes:
        """The request's body as JSON, within its bounds of size and time."""
        form = read_form(self.headers.get("content-type"))
        body = await read_body(self.receive, self.headers, bytes_max)
        return body if form == "json" else await aside(is_large(body), to_json, body, bytes_max=bytes_max)

    async def resource(self) -> bytes:
        """The body of a write, of one resource."""
        body = await self.body(limits.resource_bytes_max)
        return await aside(is_large(body), resource_at_home, body, self.base)

    async def form(self) -> list[tuple[str, str]]:
        """The fields of a POST _search."""
        essence = self.headers.get("content-type", "").split(";")[0].strip().lower()
        raw = await read_body(self.receive, self.headers, limits.resource_bytes_max)
        if essence != "application/x-www-form-urlencoded":
            if raw:
                raise UnsupportedMedia("_search takes application/x-www-form-urlencoded", at="Content-Type")
            return []
        return self.negotiated(parsed_query(raw))

    def negotiated(self, query: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The parameters without those that say how the answer is to look, which are noted."""
        if _LOOKS.isdisjoint(dict(query)):
            return query
        asked = _once(query, "_format")
        if asked is not None:
            self.shown_form, self.format_asked = produced(None, asked), asked
        self.pretty = is_true(_once(query, "_pretty"), "_pretty") or self.pretty
        self.looks += tuple(one for one in query if one[0] in _LOOKS)
        return [one for one in query if one[0] not in _LOOKS]

    def only(self, *names: str) -> None:
        """Refuse every parameter but these, by name; handling=lenient lets the others be."""
        if self.preferences.lenient:
            return
        for name, _ in self.query:
            if name not in names:
                raise unknown_parameter(name)

    def parameter(self, name: str) -> str | None:
        """The value of a parameter that may be given once."""
        return _once(self.query, name)


class Door:
    """What every FHIR endpoint shares: the record, who checks tokens, and the public address."""

    def __init__(self, record: Record, authenticator: Authenticator, base_url: str | None) -> None:
        self.record = record
        self.authenticator = authenticator
        self._base_url = base_url

    def base(self, scope: Scope) -> str:
        """The FHIR base: as configured, else the socket's own address. Never the Host header, which a client writes."""
        if self._base_url is not None:
            return self._base_url
        host, port = scope.get("server") or ("127.0.0.1", 80)
        return f"http://[{host}]:{port}/fhir" if ":" in host else f"http://{host}:{port}/fhir"

    def open(self, scope: Scope, receive: Receive, *, public: bool) -> Exchange:
        """Authenticate first, then read the query: an unknown caller learns nothing about either."""
        headers = header_map(scope)
        peer = scope["client"][0] if scope.get("client") else None
        caller = NOBODY if public else self.authenticator.caller(headers, peer)
        raw = scope["query_string"]
        return Exchange(
            self.record,
            caller,
            scope["method"],
            scope["path_params"],
            parsed_query(raw) if raw else [],
            headers,
            self.base(scope),
            preferences(headers.get("prefer")),
            receive,
        )


NOBODY: Final = Caller("anonymous", "anonymous", Grants())


class Endpoint:
    """One FHIR route: method → handler."""

    def __init__(
        self, door: Door, pattern: str, handlers: Mapping[str, Handler], *, public: bool = False, files: bool = False
    ) -> None:
        """public: no token is asked for. files: what is read has a format of its own, whatever Accept says."""
        self._door = door
        self._pattern = pattern
        self._public = public
        self._files = files
        self._handlers = dict(handlers)
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """The handler's answer, or that of its refusal."""
        scope["route_pattern"] = self._pattern
        try:
            return await self._answer(scope, receive)
        except EhrError as error:
            answer = refused_as(error_answer(error), scope)
            if isinstance(error, MethodNotAllowed):
                answer.headers.append(self._allow())
            if isinstance(error, UnsupportedMedia) and scope["method"] == "PATCH":
                answer.headers.append((b"accept-patch", ", ".join(PATCH_FORMATS).encode()))
            return answer

    def handler(self, method: str) -> Handler:
        handler = self._handlers.get(method)
        if handler is None:
            raise MethodNotAllowed("this address has no such method; Allow lists those it has")
        return handler

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] == "OPTIONS" and "OPTIONS" not in self._handlers:
            known_type(scope["path_params"].get("type", "Patient"))
            return Answer(204, b"", [self._allow()])
        handler = self.handler(scope["method"])
        exchange = self._door.open(scope, receive, public=self._public)
        if exchange.query:
            exchange.query = exchange.negotiated(exchange.query)
        if exchange.format_asked is None and not (self._files and exchange.method in _READING):
            exchange.shown_form = produced(exchange.headers.get("accept"), None)
        try:
            answer = await handler(exchange)
        except EhrError as error:
            scope["format_asked"] = exchange.format_asked  # by a form, too
            if isinstance(error, Forbidden | NotFound):
                await denied.note(self._door.record, exchange.caller, exchange.method, _below_base(scope), error)
            raise
        form, pretty = exchange.shown_form, exchange.pretty
        media = None if exchange.format_asked or self._files else named(exchange.headers.get("accept"), form)
        if form == "json" and not pretty and media is None:
            return answer
        return await aside(is_large(answer.body), shown_as, answer, form, pretty=pretty, media=media)

    def _allow(self) -> Header:
        return b"allow", ", ".join(sorted({*self._handlers, "OPTIONS"})).encode()


def _below_base(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix("/fhir")


def refused_as(answer: Answer, scope: Scope) -> Answer:
    """A refusal in the format that was asked for, whatever else is wrong with the request."""
    try:
        asked = scope.get("format_asked") or dict(parsed_query(scope["query_string"])).get("_format")
    except EhrError:
        asked = None
    accept = header_map(scope).get("accept")
    form = produced_or_json(accept, asked)
    return shown_as(answer, form, media=None if asked else named(accept, form))


def _once(query: list[tuple[str, str]], name: str) -> str | None:
    found = [value for key, value in query if key == name and value]
    if len(found) > 1:
        raise Malformed(f"{name} may be given once", at=name)
    return found[0] if found else None


def header_map(scope: Scope) -> dict[str, str]:
    """Header names in lower case → values; one that came twice is a list, as RFC 9110 5.3 joins them."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1")
        text = value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def parsed_query(raw: bytes) -> list[tuple[str, str]]:
    """The parameters of a query or form, in order."""
    try:
        text = raw.decode("ascii" if raw.isascii() else "utf-8")
        if not _ESCAPED.search(text) and text.count("&") < _FIELDS_MAX:
            return [(name, value) for name, _, value in [one.partition("=") for one in text.split("&") if one]]
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except UnicodeDecodeError as error:
        raise Malformed("a parameter is not UTF-8") from error
    except ValueError as error:
        raise TooMuch("too many parameters") from error
    if held := [name for name, value in pairs if "\x00" in name or "\x00" in value]:
        raise Malformed("a parameter holds a NUL character", at=held[0].replace("\x00", "") or None)
    return pairs


async def read_body(receive: Receive, headers: Mapping[str, str], bytes_max: int) -> bytes:
    """The whole body, refused as soon as it is known to be too long or too slow."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in _CODINGS:
        raise UnsupportedMedia("a body is sent as it is, or packed with gzip", at="Content-Encoding")
    body = await _received(receive, headers, bytes_max)
    return body if coding == "identity" else await aside(True, _unpacked, body, bytes_max)


async def _received(receive: Receive, headers: Mapping[str, str], bytes_max: int) -> bytes:
    told = headers.get("content-length", "")
    if told.isdigit() and int(told) > bytes_max:
        raise TooMuch(f"the body is over the limit of {bytes_max} bytes")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.http_body_read_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Malformed("the connection ended before the body did")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > bytes_max:
                    raise TooMuch(f"the body is over the limit of {bytes_max} bytes")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError as error:
        raise Malformed(f"the body did not arrive within {limits.http_body_read_s:g} seconds") from error


def _unpacked(packed: bytes, bytes_max: int) -> bytes:
    """What gzip packed: no more of it is unpacked than may be there."""
    unpacking = zlib.decompressobj(wbits=_GZIP)
    try:
        body = unpacking.decompress(packed, bytes_max + 1)
    except zlib.error as error:
        raise Malformed("the body is not gzip, as Content-Encoding says", at="Content-Encoding") from error
    if len(body) > bytes_max:
        raise TooMuch(f"the body is over the limit of {bytes_max} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise Malformed("the body is one gzip member, which ends where the body does", at="Content-Encoding")
    return body


def known_type(name: str) -> str:
    """A resource type that has an address here."""
    if name not in TYPE_IDS or name in NO_ENDPOINT:
        raise NotFound(f"there is no resource type {shown(name)}{did_you_mean(name, TYPE_IDS)}")
    return name


def unknown_parameter(name: str) -> NotSupported:
    """The refusal of a parameter that this address has not."""
    return NotSupported(f"the parameter {shown(name)} is not supported here", at=name if _is_plain(name) else None)


def shown(name: str) -> str:
    """A name the client sent, fit for an error text: short and of plain letters, else left out."""
    return name if _is_plain(name) else "of this name"


def _is_plain(name: str) -> bool:
    plain = name.replace("-", "").replace("_", "").replace(":", "").replace(".", "").replace("$", "")
    return len(name) <= 64 and plain.isalnum() and plain.isascii()
