"""The outermost layer of the HTTP side: every request gets an id, bounds, headers, a measurement, and an answer.

In:      any ASGI http request
Out:     the application's response with X-Request-Id and security headers; 413 for an over-long query; 500 for a bug
Why:     One plain ASGI layer and not five: a layer of Starlette's middleware costs more than a read's own Python.
         From here FHIR requests go straight to their own routes; the rest to FastAPI's.
"""

import logging
import re
from typing import Final

import structlog
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ehr import ids, limits
from ehr.api.answer import Answer
from ehr.api.errors import answer_of, bug_answer, is_fhir
from ehr.api.exchange import form_of
from ehr.api.form import shown_as
from ehr.clock import Clock
from ehr.errors import TooMuch
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
_NOT_KEPT: Final = (b"cache-control", b"no-store")
_NOTHING_RUNS: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""Unless the answer says otherwise."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TLS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, fhir: ASGIApp, metrics: Metrics, clock: Clock, tls: bool) -> None:
        self._app = app
        self._fhir = fhir
        self._metrics = metrics
        self._clock = clock
        self._always = [*_ALWAYS, _TLS] if tls else _ALWAYS
        self._paths: dict[object, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = self._clock.monotonic_s()
        request_id = _request_id(scope)
        scope["request_id"] = request_id
        status = 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], *self._always, (b"x-request-id", request_id.encode())]
                names = [name for name, _ in headers]
                headers += [one for one in (_NOT_KEPT, _NOTHING_RUNS) if one[0] not in names]
                message["headers"] = headers
            await send(message)

        REQUEST_ID.set(request_id)
        try:
            if len(scope["query_string"]) > limits.http_query_bytes_max:
                error = TooMuch(f"the query is over {limits.http_query_bytes_max} bytes; use POST _search")
                await _as_asked(answer_of(scope["path"], error), scope).send(with_headers)
            else:
                application = self._fhir if is_fhir(scope["path"]) else self._app
                await application(scope, receive, with_headers)
        except Exception:
            log.error("request failed", route=self._route(scope), method=scope["method"], exc_info=True)
            if status == 0:
                await _as_asked(bug_answer(scope["path"]), scope).send(with_headers)
        self._observe(scope, status or 500, self._clock.monotonic_s() - began_s)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = self._route(scope), _method(scope)
        self._metrics.observe(route, method, status, seconds)
        if status >= 400 or _ROOT.level <= logging.DEBUG:
            told = log.info if status >= 400 else log.debug
            told("answered", route=route, method=method, status=status, duration_ms=round(seconds * 1000, 1))

    def _route(self, scope: Scope) -> str:
        """The pattern of the route that answered, never the address: that holds ids."""
        pattern = scope.get("route_pattern")
        if isinstance(pattern, str):
            return pattern
        if self._paths is None:
            routes = scope["app"].routes
            self._paths = {one.endpoint: one.path for one in routes if isinstance(one, Route)}
            self._paths |= {one.app: one.path for one in routes if isinstance(one, Mount)}
        known = self._paths.get(scope.get("endpoint")) or getattr(scope.get("route"), "path", None)
        return str(known or "none")


def _as_asked(answer: Answer, scope: Scope) -> Answer:
    return shown_as(answer, form_of(scope)) if is_fhir(scope["path"]) else answer


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
