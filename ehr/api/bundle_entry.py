"""Answer an entry of a Bundle as the same request would be answered by itself: by the handler of its address.

In:      the request that brought the Bundle; where handlers are found; an entry's method, url, conditions and resource
Out:     for a batch the answer entry; for a transaction the resource that a read brings, as the transaction sees it
Errors:  those of the handler
Source:  FHIR R4 bundle.html (request, response), http.html#transaction
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import Message

from ehr.api.answer import Answer
from ehr.api.exchange import Exchange, Handler, parsed_query
from ehr.api.negotiation import JSON
from ehr.clock import instant
from ehr.errors import Malformed, NotFound
from ehr.fhir import codec
from ehr.limits import bundle_bytes_max
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
        answer = await EntryDoor(inside, self._find)._ask("GET", url)
        return codec.loads(answer.body, bytes_max=bundle_bytes_max)

    async def serve(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A read or an operation of a batch."""
        request, resource = entry["request"], entry.get("resource")
        body = codec.dumps(resource) if resource is not None else b""
        answer = await self._ask(request["method"], request["url"], body, **_conditions(request))
        return _entry(answer, request["method"])

    async def _ask(self, method: str, url: str, body: bytes = b"", **conditions: str) -> Answer:
        """The answer of the handler that this url has."""
        exchange = self._exchange
        path, _, query = url.removeprefix(f"{exchange.base}/").lstrip("/").partition("?")
        if "://" in path:
            raise NotFound("the url of an entry is below this server's base; this one is another server's")
        handler, parts = self._find(method, _BASE + unquote(path))
        headers = {name.replace("_", "-"): value for name, value in conditions.items()}
        headers |= {"content-type": JSON, "content-length": str(len(body))}

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        asked = replace(exchange, method=method, path=parts, headers=headers, receive=receive, looks=())
        asked.query = asked.negotiated(parsed_query(query.encode()))
        return await handler(asked)


def _conditions(request: Mapping[str, Any]) -> dict[str, str]:
    """The conditional headers that an entry's request stands for."""
    headers: dict[str, str] = {}
    if request.get("ifNoneMatch") is not None:
        headers["if_none_match"] = str(request["ifNoneMatch"])
    since = request.get("ifModifiedSince")
    if since is not None:
        try:
            headers["if_modified_since"] = format_datetime(datetime.fromisoformat(str(since)))
        except ValueError as error:
            raise Malformed("an instant is wanted", at="ifModifiedSince") from error
    return headers


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
