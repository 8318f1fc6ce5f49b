"""The outermost layer of the HTTP side: every request gets an id, bounds, headers, a measurement, and an answer.

In:      any ASGI http request
Out:     the application's response with X-Request-Id and security headers; 414 for an over-long query; 503 where the
         database is away; 500 for a bug
Why:     One plain ASGI layer and not five: a layer of Starlette's middleware costs more than a read's own Python.
         FHIR requests go straight to their own routes, which hand their answer back to be sent; the rest to FastAPI's.
"""

import logging
import re
from collections.abc import Sequence
from typing import Final

import structlog
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ehr import ids, limits
from ehr.api.answer import Answer, Header
from ehr.api.cors import Origins
from ehr.api.errors import answer_of, escaped_answer
from ehr.api.exchange import refused_as
from ehr.api.fhir import Routes
from ehr.clock import Clock
from ehr.errors import TooLong
from ehr.ops.logging import REQUEST_ID
from ehr.ops.metrics import Metrics

log = structlog.get_logger()
_ROOT: Final = logging.getLogger()
"""Its level is that of all (ehr.ops.logging); structlog takes 3 µs to drop a line."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_ALWAYS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_UNLESS_SAID: Final = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TLS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class _Edge:
    """What every answer gets, and what is noted of it."""

    def __init__(self, metrics: Metrics, clock: Clock, *, tls: bool) -> None:
        self._metrics = metrics
        self._monotonic_s = clock.monotonic_s
        self._headers = [*_UNLESS_SAID.items(), *_ALWAYS, *([_TLS] if tls else ())]

    def _added(self, headers: Sequence[Header], request_id: str) -> list[Header]:
        """What goes with the headers of an answer."""
        said = [name for name, _ in headers if name in _UNLESS_SAID]
        ours = [one for one in self._headers if one[0] not in said] if said else self._headers
        return [*ours, (b"x-request-id", request_id.encode())]

    def _observe(self, scope: Scope, route: str, status: int, began_s: float) -> None:
        seconds, method = self._monotonic_s() - began_s, _method(scope)
        self._metrics.observe(route, method, status, seconds)
        if status >= 400 or _ROOT.level <= logging.DEBUG:
            told = log.info if status >= 400 else log.debug
            told("answered", route=route, method=method, status=status, duration_ms=round(seconds * 1000, 1))


class FhirEdge(_Edge):
    """The ASGI application of /fhir: sends what its routes answer."""

    def __init__(self, routes: Routes, metrics: Metrics, clock: Clock, origins: Origins, *, tls: bool) -> None:
        super().__init__(metrics, clock, tls=tls)
        self._routes = routes
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = self._monotonic_s()
        request_id = _begun(scope)
        answer = await self._answer(scope, receive)
        more = self._added(answer.headers, request_id)
        if self._origins:
            more += self._origins.told(scope)
        try:
            await answer.send(send, more, head=scope["method"] == "HEAD")
        except Exception:
            log.error("request failed", route=_pattern(scope), method=scope["method"], exc_info=True)
        self._observe(scope, _pattern(scope), answer.status, began_s)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        error = _too_long(scope)
        if error is not None:
            return refused_as(answer_of(scope["path"], error), scope)
        if self._origins and (preflight := self._origins.preflight(scope)) is not None:
            return preflight
        try:
            return await self._routes.answer(scope, receive)
        except Exception as escaped:
            log.error("request failed", route=_pattern(scope), method=scope["method"], exc_info=True)
            return refused_as(escaped_answer(scope["path"], escaped), scope)


class Edge(_Edge):
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, clock: Clock, tls: bool) -> None:
        super().__init__(metrics, clock, tls=tls)
        self._app = app
        self._paths: dict[object, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = self._monotonic_s()
        request_id = _begun(scope)
        status = 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message["headers"])
                message["headers"] = headers + self._added(headers, request_id)
            await send(message)

        try:
            error = _too_long(scope)
            if error is not None:
                await answer_of(scope["path"], error).send(with_headers)
            else:
                await self._app(scope, receive, with_headers)
        except Exception as escaped:
            log.error("request failed", route=self._route(scope), method=scope["method"], exc_info=True)
            if status == 0:
                await escaped_answer(scope["path"], escaped).send(with_headers)
        self._observe(scope, self._route(scope), status or 500, began_s)

    def _route(self, scope: Scope) -> str:
        """The pattern of the route that answered, never the address: that holds ids."""
        if self._paths is None:
            routes = scope["app"].routes
            self._paths = {one.endpoint: one.path for one in routes if isinstance(one, Route)}
            self._paths |= {one.app: one.path for one in routes if isinstance(one, Mount)}
        known = self._paths.get(scope.get("endpoint")) or getattr(scope.get("route"), "path", None)
        return str(known or "none")


def _pattern(scope: Scope) -> str:
    """The pattern of the FHIR route that answered."""
    return scope.get("route_pattern", "none")  # type: ignore[no-any-return]  # Routes put it there


def _begun(scope: Scope) -> str:
    """The request's id, known from here on to every line that is logged for it."""
    request_id = _request_id(scope)
    scope["request_id"] = request_id
    REQUEST_ID.set(request_id)
    return request_id


def _too_long(scope: Scope) -> TooLong | None:
    if len(scope["query_string"]) > limits.http_query_bytes_max:
        return TooLong(f"the query is over {limits.http_query_bytes_max} bytes; use POST _search")
    return None


def _request_id(scope: Scope) -> str:
    """The client's id where it is plain, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return ids.new_id()


def _method(scope: Scope) -> str:
    """The method where it is one of HTTP's own: a metric's labels are a closed set."""
    method: str = scope["method"]
    return method if method in _METHODS else "other"
