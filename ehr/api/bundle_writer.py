"""Join stored resources into a searchset or history Bundle, without reading any of them.

In:      entries whose bodies are the stored bytes; links; a total where it is known
Out:     the bytes of the Bundle
Keeps:   every byte of every body; only the frame around them is written here
Source:  FHIR R4 bundle.html (searchset bdl-1 to bdl-11, history bdl-3, bdl-4), search.html#return, http.html#history
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import orjson

from ehr.clock import instant
from ehr.errors import Issue
from ehr.fhir import codec, outcome
from ehr.ids import new_id
from ehr.store.version import Version

_MADE_BY: Final = {"C": ("POST", "201"), "P": ("PUT", "201"), "U": ("PUT", "200"), "D": ("DELETE", "204")}
"""Method and status of the interaction that made a version."""


class Stored(Protocol):
    """The part of ehr.search.page.Found that an entry shows."""

    @property
    def type_name(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def body(self) -> bytes | None: ...


def searchset(
    *,
    base: str,
    matches: Iterable[Stored],
    included: Iterable[Stored],
    issues: Sequence[Issue],
    total: int | None,
    links: Sequence[tuple[str, str]],
    now: datetime,
    unstored: Iterable[Mapping[str, Any]] = (),
) -> bytes:
    """A page of search results: matches, what they include, and what the server has to say.

    unstored: matches that were made for this answer; they have no address.
    """
    parts = _entries(base, matches, b"match")
    parts += [b',{"resource":' + codec.dumps(one) + b',"search":{"mode":"match"}}' for one in unstored]
    parts += _entries(base, included, b"include")
    if issues:
        told = codec.dumps({**outcome.operation_outcome(issues), "id": new_id()})
        parts.append(b',{"resource":' + told + b',"search":{"mode":"outcome"}}')
    return _bundle(b"searchset", total, links, parts, now)


def history(
    *, base: str, versions: Iterable[Version], total: int | None, links: Sequence[tuple[str, str]], now: datetime
) -> bytes:
    """A page of versions, newest first, each with the request that made it."""
    return _bundle(b"history", total, links, [_version(base, one) for one in versions], now)


def _entries(base: str, found: Iterable[Stored], mode: bytes) -> list[bytes]:
    """Entries in pieces, each behind a comma: bodies are copied once, when the Bundle is joined."""
    parts: list[bytes] = []
    start, end = f',{{"fullUrl":"{base}/', b',"search":{"mode":"' + mode + b'"}}'
    for one in found:
        assert one.body is not None, "a search finds resources that are not deleted"
        parts += (f'{start}{one.type_name}/{one.id}","resource":'.encode(), one.body, end)
    return parts


def _version(base: str, one: Version) -> bytes:
    """An entry behind a comma; a deletion has no resource (bdl-4 asks for the request, bdl-3 for the response)."""
    method, status = _MADE_BY[one.op]
    request = {"method": method, "url": one.type_name if method == "POST" else one.reference}
    response = {"status": status, "etag": one.etag, "lastModified": instant(one.updated)}
    resource = b"" if one.body is None else b'"resource":' + one.body + b","
    return b"".join(
        (
            b',{"fullUrl":"',
            f"{base}/{one.reference}".encode(),
            b'",',
            resource,
            b'"request":',
            orjson.dumps(request),
            b',"response":',
            orjson.dumps(response),
            b"}",
        )
    )


def _bundle(
    kind: bytes, total: int | None, links: Sequence[tuple[str, str]], parts: Sequence[bytes], now: datetime
) -> bytes:
    """The frame around entries in pieces. An empty entry list is left out: FHIR JSON has no empty arrays."""
    head: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": new_id(),
        "meta": {"lastUpdated": instant(now)},
        "type": kind.decode(),
    }
    if total is not None:
        head["total"] = total
    head["link"] = [{"relation": relation, "url": url} for relation, url in links]
    frame = orjson.dumps(head)
    if not parts:
        return frame
    return b"".join((frame[:-1], b',"entry":[', parts[0][1:], *parts[1:], b"]}"))
