"""Answer an entry of a Bundle as the same request would be answered by itself: by the handler of its address.

In:      the request that brought the Bundle; where handlers are found; an entry's method, url, conditions and resource
Out:     for a batch the answer entry; for a transaction the resource that a read brings, as the transaction sees it
Errors:  those of the handler
Source:  FHIR R4 bundle.html (request, response), http.html#transaction
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import Message

from ehr.api import denied
from ehr.api.answer import Answer
from ehr.api.exchange import Exchange, Handler, parsed_query
from ehr.api.negotiation import JSON, not_modified_tag
from ehr.clock import instant
from ehr.errors import EhrError, Malformed, NotFound, NotSupported
from ehr.fhir import codec
from ehr.limits import bundle_bytes_max
from ehr.store.bundle_entries import READS
from ehr.store.unit_of_work import UnitOfWork

Find = Callable[[str, str], tuple[Handler, Mapping[str, str]]]
"""Method and path → the handler, and the parts of the address it names."""

_BASE: Final = "/fhir/"


class EntryDoor:
    """The door as the entries of one Bundle see it."""

    def __init__(self, exchange: Exchange, find: Find) -> None:
        self._exchange = exchange
        self._find = find

    async def get(self, uow: UnitOfWork, url: str) -> dict[str, Any]:
        """A read of a transaction, after its writes and seeing them."""
        inside = replace(self._exchange, record=self._exchange.record.within(uow))
        answer = await EntryDoor(inside, self._find)._ask("GET", url, {})
        return codec.loads(answer.body, bytes_max=bundle_bytes_max)

    async def serve(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A read or an operation of a batch; a conditional read that brings nothing new is 304."""
        request, resource = entry["request"], entry.get("resource")
        method, since = request["method"], _since(request)
        body = codec.dumps(resource) if resource is not None else b""
        insists = request.get("ifMatch") if method in READS else None
        conditions = {} if insists is None else {"if-match": insists}
        answered = _entry(await self._ask(method, request["url"], conditions, body), method)
        response = answered["response"]
        if conditions and "etag" not in response:
            raise NotSupported("only the read of one resource is conditional", at="ifMatch")
        if method in READS and _is_known(response, request.get("ifNoneMatch"), since):
            return {"response": response | {"status": "304 Not Modified"}}
        return answered

    async def denied(self, request: Mapping[str, Any], error: EhrError) -> None:
        """The audit row of an entry of a batch that was refused."""
        exchange, method, url = self._exchange, str(request.get("method")), str(request.get("url"))
        await denied.note(exchange.record, exchange.caller, method, self._path(url).partition("?")[0], error)

    def _path(self, url: str) -> str:
        return url.removeprefix(f"{self._exchange.base}/").lstrip("/")

    async def _ask(self, method: str, url: str, conditions: Mapping[str, Any], body: bytes = b"") -> Answer:
        """The answer of the handler that this url has."""
        exchange = self._exchange
        path, _, query = self._path(url).partition("?")
        if "://" in path:
            raise NotFound("the url of an entry is below this server's base; this one is another server's")
        handler, parts = self._find(method, _BASE + unquote(path))
        headers = {"content-type": JSON, "content-length": str(len(body)), **conditions}

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        asked = replace(exchange, method=method, path=parts, headers=headers, receive=receive, looks=())
        asked.query = asked.negotiated(parsed_query(query.encode()))
        return await handler(asked)


def _since(request: Mapping[str, Any]) -> datetime | None:
    """ifModifiedSince: an instant, which is finer than the seconds of HTTP's header."""
    text = request.get("ifModifiedSince")
    if text is None:
        return None
    try:
        since = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise Malformed("an instant is wanted", at="ifModifiedSince") from error
    if since.tzinfo is None:
        raise Malformed("an instant has a zone", at="ifModifiedSince")
    return since


def _is_known(response: Mapping[str, Any], if_none_match: object, since: datetime | None) -> bool:
    """Whether the client has what was read already; ifNoneMatch decides where both are given (RFC 9110 13.2.2)."""
    if if_none_match is not None:
        return "etag" in response and not_modified_tag(str(if_none_match), response["etag"])
    return (
        since is not None and "lastModified" in response and datetime.fromisoformat(response["lastModified"]) <= since
    )


def _entry(answer: Answer, method: str) -> dict[str, Any]:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    response: dict[str, Any] = {"status": f"{answer.status} {HTTPStatus(answer.status).phrase}"}
    for header in ("location", "etag"):
        if header in headers:
            response[header] = headers[header]
    resource = codec.loads(answer.body, bytes_max=bundle_bytes_max) if answer.body else None
    if "last-modified" in headers:
        known = (resource or {}).get("meta", {}).get("lastUpdated")
        response["lastModified"] = known or instant(parsedate_to_datetime(headers["last-modified"]))
    if resource is None or method == "HEAD":
        return {"response": response}
    return {"resource": resource, "response": response}
