"""Bundle.entry → Entry: what each entry asks, taken apart and checked for form. Pure.

Errors:  Malformed, NotSupported, each naming Bundle.entry[n].request.…
Source:  FHIR R4 2.36 Bundle (request, ifMatch, ifNoneExist), 3.1.0.11
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import unquote

from ehr.errors import Malformed, NotSupported
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import FHIR_ID
from ehr.store.criteria import Criteria, parse

Method = Literal["GET", "POST", "PUT", "DELETE"]
_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE"})
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,9})"')


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. at is its FHIRPath; type_name and id come from the url."""

    at: str
    method: Method
    url: str
    type_name: str
    id: str | None
    version: int | None
    query: str
    criteria: Criteria | None
    if_match: int | None
    full_url: str | None
    resource: dict[str, Any] | None


def read_entries(raw: Sequence[Mapping[str, Any]]) -> list[Entry]:
    return [_entry(f"Bundle.entry[{position}]", entry) for position, entry in enumerate(raw)]


def _entry(at: str, raw: Mapping[str, Any]) -> Entry:
    request = raw.get("request")
    if not isinstance(request, dict):
        raise Malformed("an entry of a transaction or batch has a request", at=f"{at}.request")
    method, url = request.get("method"), request.get("url")
    if not isinstance(url, str) or not url:
        raise Malformed("an entry's request has a url", at=f"{at}.request.url")
    if method not in _METHODS:
        raise NotSupported("the method of an entry is GET, POST, PUT or DELETE", at=f"{at}.request.method")
    if request.get("ifNoneMatch") is not None or request.get("ifModifiedSince") is not None:
        raise NotSupported("conditional reads are not served inside a Bundle", at=f"{at}.request")
    kind = cast("Method", method)
    type_name, id, version, query = _url(url, f"{at}.request.url", method=kind)
    entry = Entry(
        at=at,
        method=kind,
        url=url,
        type_name=type_name,
        id=id,
        version=version,
        query=query,
        criteria=_criteria(at, kind, type_name, "" if id else query, request),
        if_match=_if_match(request.get("ifMatch"), at),
        full_url=_text(raw.get("fullUrl")),
        resource=_resource(at, kind, type_name, raw.get("resource")),
    )
    if kind == "POST" and (id or query):
        raise NotSupported("POST in a Bundle creates: its url is a resource type", at=f"{at}.request.url")
    if kind in ("PUT", "DELETE") and not (id or query):
        raise Malformed(f"{kind} names a resource or criteria", at=f"{at}.request.url")
    if kind != "GET" and version is not None:
        raise NotSupported("only GET names a version", at=f"{at}.request.url")
    if kind == "PUT" and id and entry.resource is not None and entry.resource.get("id", id) != id:
        raise Malformed("the resource's id is not the id of the url", at=f"{at}.resource.id")
    return entry


def _url(url: str, at: str, *, method: Method) -> tuple[str, str | None, int | None, str]:
    """Type, id, version, query of "Type", "Type/id", "Type/id/_history/1", "Type?query", "/Type"."""
    path, _, query = url.partition("?")
    parts = [unquote(part) for part in path.strip("/").split("/")]
    type_name = parts[0]
    if type_name not in TYPE_IDS:
        if method == "GET":  # "?…", "_history": the door's reader may know them
            return type_name, None, None, query or path
        raise NotSupported("the url of an entry begins with a resource type of R4, not with a host", at=at)
    match parts[1:]:
        case []:
            return type_name, None, None, query
        case [id] if FHIR_ID.fullmatch(id):
            return type_name, id, None, query
        case [id, "_history", number] if FHIR_ID.fullmatch(id) and number.isdecimal() and len(number) < 10:
            return type_name, id, int(number), query
        case _ if method == "GET":
            return type_name, None, None, path
        case _:
            raise NotSupported("the url of an entry is Type, Type/id or Type?criteria", at=at)


def _criteria(at: str, method: Method, type_name: str, query: str, request: Mapping[str, Any]) -> Criteria | None:
    condition = request.get("ifNoneExist")
    if condition is not None:
        if method != "POST" or not isinstance(condition, str):
            raise Malformed("ifNoneExist is a query, for POST", at=f"{at}.request.ifNoneExist")
        return parse(type_name, condition, f"{at}.request.ifNoneExist")
    if method in ("PUT", "DELETE") and query:
        return parse(type_name, query, f"{at}.request.url")
    return None


def _if_match(text: object, at: str) -> int | None:
    if text is None:
        return None
    found = _ETAG.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise Malformed('ifMatch is a version: W/"3"', at=f"{at}.request.ifMatch")
    return int(found[1])


def _resource(at: str, method: Method, type_name: str, resource: object) -> dict[str, Any] | None:
    if method in ("GET", "DELETE"):
        return None
    if not isinstance(resource, dict):
        raise Malformed(f"{method} has a resource", at=f"{at}.resource")
    if resource.get("resourceType") != type_name:
        raise Malformed("the resource's type is not the type of the url", at=f"{at}.resource.resourceType")
    return resource


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
