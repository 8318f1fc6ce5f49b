"""Bundle.entry → Entry: what each entry asks, taken apart and checked for form. Pure.

Patches: the resource of a PATCH is the patch: a Binary that holds a JSON Patch, or a FHIRPath Patch
Errors:  Malformed, NotSupported, each naming Bundle.entry[n].request.…; those of a patch, naming its entry
Source:  FHIR R4 2.36 Bundle (request, ifMatch, ifNoneMatch, ifModifiedSince, ifNoneExist), 3.1.0.11
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, cast
from urllib.parse import unquote

import msgspec

from ehr.errors import EhrError, Issue, Malformed, NotSupported, Refused
from ehr.fhir import references
from ehr.fhir.patch import Patch, of_entry
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import FHIR_ID
from ehr.store import gate
from ehr.store.criteria import Criteria, parse
from ehr.store.preconditions import Versions, if_match

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
READS: Final = frozenset({"GET", "HEAD"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,9})"')


class Entry(msgspec.Struct, frozen=True):
    """One entry. at is its FHIRPath; type_name and id come from the url.

    if_none     a PUT that only creates: ifNoneMatch is *
    unless      of a read: versions the client has (ifNoneMatch), or everything (*)
    since       of a read: not, when it did not change after this moment (ifModifiedSince)
    resource    of a POST or PUT
    loose       its references, or those of its patch, whose meaning is not in their text alone
    patch       of a PATCH
    """

    at: str
    method: Method
    url: str
    type_name: str
    id: str | None
    version: int | None
    query: str
    criteria: Criteria | None
    if_match: Versions | None
    full_url: str | None
    resource: dict[str, Any] | None
    loose: tuple[str, ...] = ()
    if_none: bool = False
    unless: frozenset[str] = frozenset()
    since: datetime | None = None
    patch: Patch | None = None

    def with_resource(self, resource: dict[str, Any]) -> "Entry":
        """The same entry, writing another resource."""
        return msgspec.structs.replace(self, resource=resource, loose=_loose(resource))


def read_entries(raw: Sequence[Mapping[str, Any]]) -> list[Entry]:
    return [_entry(f"Bundle.entry[{position}]", entry) for position, entry in enumerate(raw)]


def placed(error: EhrError, at: str) -> EhrError:
    """The same error, its issues at this place in the Bundle; a parameter that one names is said in its text."""

    def moved(issue: Issue) -> Issue:
        if issue.at and issue.at.startswith("Bundle."):
            return issue
        text = f"{issue.at}: {issue.text}" if issue.at else issue.text
        return Issue(issue.code, text, at, issue.severity)

    return type(error)(str(error), issues=[moved(issue) for issue in error.issues])


def refuse_unknown(at: str, raw: Mapping[str, Any]) -> None:
    """What R4 has not, in an entry or its request."""
    gate.refuse_unknown(raw, "Bundle.entry", at)
    if isinstance(request := raw.get("request"), dict):
        gate.refuse_unknown(request, "Bundle.entry.request", f"{at}.request")


def _entry(at: str, raw: Mapping[str, Any]) -> Entry:
    refuse_unknown(at, raw)
    request = raw.get("request")
    if not isinstance(request, dict):
        raise Malformed("an entry of a transaction or batch has a request", at=f"{at}.request")
    method, url = request.get("method"), request.get("url")
    if not isinstance(url, str) or not url:
        raise Malformed("an entry's request has a url", at=f"{at}.request.url")
    if method not in _METHODS:
        raise NotSupported(f"the method of an entry is one of {', '.join(sorted(_METHODS))}", at=f"{at}.request.method")
    kind = cast("Method", method)
    type_name, id, version, query = _url(url, f"{at}.request.url", method=kind)
    _refuse_place(at, kind, id or query, version)
    resource = raw.get("resource")
    unless, expected = _none_match(at, kind, request.get("ifNoneMatch")), request.get("ifMatch")
    sent = _resource(at, type_name, resource) if kind in ("POST", "PUT") else None
    patch = _patch(at, type_name, resource) if kind == "PATCH" else None
    entry = Entry(
        at=at,
        method=kind,
        url=url,
        type_name=type_name,
        id=id,
        version=version,
        query=query,
        criteria=_criteria(at, kind, type_name, "" if id else query, request),
        if_match=None if expected is None else if_match(expected, f"{at}.request.ifMatch"),
        full_url=_text(raw.get("fullUrl")),
        resource=sent,
        loose=_loose(patch.content if patch else sent),
        if_none=kind == "PUT" and bool(unless),
        unless=unless,
        since=_since(at, kind, request.get("ifModifiedSince")),
        patch=patch,
    )
    if kind in READS and (unless or entry.since or expected is not None) and (id is None or query):
        raise NotSupported("only the read of one resource is conditional", at=f"{at}.request")
    if kind == "PUT" and id and entry.resource is not None and entry.resource.get("id", id) != id:
        raise Malformed("the resource's id is not the id of the url", at=f"{at}.resource.id")
    return entry


def _loose(referring: Mapping[str, Any] | None) -> tuple[str, ...]:
    texts = dict.fromkeys(references.outward(referring)) if referring is not None else ()
    return tuple(text for text in texts if text.startswith("urn:") or "?" in text or references.VERSION in text)


def _refuse_place(at: str, method: Method, named: str | None, version: int | None) -> None:
    if method == "POST" and named:
        raise NotSupported("POST in a transaction creates: its url is a resource type", at=f"{at}.request.url")
    if method in ("PUT", "PATCH", "DELETE") and not named:
        raise Malformed(f"{method} names a resource or criteria", at=f"{at}.request.url")
    if method not in READS and version is not None:
        raise NotSupported("only GET and HEAD name a version", at=f"{at}.request.url")


def _url(url: str, at: str, *, method: Method) -> tuple[str, str | None, int | None, str]:
    """Type, id, version, query of "Type", "Type/id", "Type/id/_history/1", "Type?query", "/Type"."""
    path, _, query = url.partition("?")
    parts = [unquote(part) for part in path.strip("/").split("/")]
    type_name = parts[0]
    if type_name not in TYPE_IDS:
        if method in READS:  # "?…", "_history": the door's reader may know them
            return type_name, None, None, query or path
        raise NotSupported("the url of an entry begins with a resource type of R4, not with a host", at=at)
    match parts[1:]:
        case []:
            return type_name, None, None, query
        case [id] if FHIR_ID.fullmatch(id):
            return type_name, id, None, query
        case [id, "_history", number] if FHIR_ID.fullmatch(id) and number.isdecimal() and len(number) < 10:
            return type_name, id, int(number), query
        case _ if method in READS:
            return type_name, None, None, path
        case _:
            raise NotSupported("the url of an entry is Type, Type/id or Type?criteria", at=at)


def _criteria(at: str, method: Method, type_name: str, query: str, request: Mapping[str, Any]) -> Criteria | None:
    condition = request.get("ifNoneExist")
    if condition is not None:
        if method != "POST" or not isinstance(condition, str):
            raise Malformed("ifNoneExist is a query, for POST", at=f"{at}.request.ifNoneExist")
        return parse(type_name, condition, f"{at}.request.ifNoneExist")
    if method in ("PUT", "PATCH", "DELETE") and query:
        return parse(type_name, query, f"{at}.request.url")
    return None


def _none_match(at: str, method: Method, text: object) -> frozenset[str]:
    """Versions, or *."""
    if text is None:
        return frozenset()
    if method == "PUT" and text == "*":
        return frozenset("*")
    if method not in READS or not isinstance(text, str):
        raise NotSupported("ifNoneMatch is for reads, and as * for PUT", at=f"{at}.request.ifNoneMatch")
    found = [_ETAG.fullmatch(one.strip()) for one in text.split(",")]
    return frozenset("*") if text.strip() == "*" else frozenset(one[1] for one in found if one)


def _since(at: str, method: Method, text: object) -> datetime | None:
    if text is None:
        return None
    try:
        since = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        since = None
    if method not in READS or since is None or since.tzinfo is None:
        raise Malformed("ifModifiedSince is an instant, for reads", at=f"{at}.request.ifModifiedSince")
    return since


def _patch(at: str, type_name: str, resource: object) -> Patch:
    if type_name == "Binary":
        raise NotSupported("a Binary is not patched; send it anew", at=f"{at}.request.url")
    try:
        return of_entry(resource)
    except Refused as error:
        issues = [Issue(one.code, f"{one.at}: {one.text}", f"{at}.resource", one.severity) for one in error.issues]
        raise type(error)(str(error), issues=issues) from error


def _resource(at: str, type_name: str, resource: object) -> dict[str, Any]:
    if not isinstance(resource, dict):
        raise Malformed("a POST or PUT has a resource", at=f"{at}.resource")
    if resource.get("resourceType") != type_name:
        raise Malformed("the resource's type is not the type of the url", at=f"{at}.resource.resourceType")
    return resource


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
