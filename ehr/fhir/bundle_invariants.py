"""The invariants of Bundle.

Source:  FHIR R4 4.0.1 Bundle, constraints bdl-1 to bdl-12
"""

from collections.abc import Mapping
from typing import Any, Final

from ehr.fhir.invariant import Invariant, has

Node = Mapping[str, Any]


def _entries(bundle: Node) -> list[Node]:
    return list(bundle.get("entry", []))


def _everywhere(bundle: Node, name: str) -> bool:
    return all(name in entry for entry in _entries(bundle))


def _nowhere(bundle: Node, name: str) -> bool:
    return all(name not in entry for entry in _entries(bundle))


def _requests(bundle: Node) -> bool:
    if bundle.get("type") in ("batch", "transaction", "history"):
        return _everywhere(bundle, "request")
    return _nowhere(bundle, "request")


def _responses(bundle: Node) -> bool:
    if bundle.get("type") in ("batch-response", "transaction-response", "history"):
        return _everywhere(bundle, "response")
    return _nowhere(bundle, "response")


def _urls_differ(bundle: Node) -> bool:
    if bundle.get("type") == "history":
        return True
    seen: set[tuple[str, Any]] = set()
    for entry in _entries(bundle):
        url = entry.get("fullUrl")
        if url is None:
            continue
        key = (url, entry.get("resource", {}).get("meta", {}).get("versionId"))
        if key in seen:
            return False
        seen.add(key)
    return True


def _first_is(bundle: Node, type_name: str) -> bool:
    first = next(iter(_entries(bundle)), {})
    return bool(first.get("resource", {}).get("resourceType") == type_name)


def _is(bundle: Node, *kinds: str) -> bool:
    return bundle.get("type") in kinds


BUNDLE_INVARIANTS: Final[Mapping[str, tuple[Invariant, ...]]] = {
    "Bundle": (
        Invariant(
            "bdl-1",
            "total only in a searchset or history",
            lambda node: not has(node, "total") or _is(node, "searchset", "history"),
        ),
        Invariant(
            "bdl-2",
            "entry.search only in a searchset",
            lambda node: _is(node, "searchset") or _nowhere(node, "search"),
        ),
        Invariant(
            "bdl-3", "entry.request in every entry of a batch, transaction or history, and nowhere else", _requests
        ),
        Invariant("bdl-4", "entry.response in every entry of a response or history, and nowhere else", _responses),
        Invariant("bdl-7", "a fullUrl occurs once, or with versions that differ", _urls_differ),
        Invariant(
            "bdl-9",
            "a document has an identifier with system and value",
            lambda node: not _is(node, "document") or has(node.get("identifier", {}), "system", "value"),
        ),
        Invariant(
            "bdl-10", "a document has a timestamp", lambda node: not _is(node, "document") or has(node, "timestamp")
        ),
        Invariant(
            "bdl-11",
            "a document begins with a Composition",
            lambda node: not _is(node, "document") or _first_is(node, "Composition"),
        ),
        Invariant(
            "bdl-12",
            "a message begins with a MessageHeader",
            lambda node: not _is(node, "message") or _first_is(node, "MessageHeader"),
        ),
    ),
    "Bundle.entry": (
        Invariant(
            "bdl-5",
            "a resource unless there is a request or response",
            lambda node: any(name in node for name in ("resource", "request", "response")),
        ),
        Invariant("bdl-8", "fullUrl names no version", lambda node: "/_history/" not in node.get("fullUrl", "")),
    ),
}
