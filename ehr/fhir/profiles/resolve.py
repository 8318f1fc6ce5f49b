"""A reference → the resource it means, where that is in the same resource or Bundle.

Keeps:   asks no store: of what lies outside only the type is known, where the reference tells it
Source:  FHIR R4 references.html#contained, bundle.html#references
"""

from collections.abc import Mapping
from typing import Any, Final

from ehr.fhir import references
from ehr.fhir.profiles.item import Item, Scope
from ehr.fhir.r4 import TYPE_IDS


class Resolver:
    """For one check: the entries of a Bundle are put in order once."""

    def __init__(self) -> None:
        self._entries: dict[int, dict[str, int]] = {}
        self._found: dict[tuple[str, int, str | None], Item | None] = {}

    def resolve(self, text: Any, scope: Scope) -> Item | None:
        if not isinstance(text, str) or not text:
            return None
        if text.startswith("#"):
            return _contained(text[1:], scope)
        if scope.bundle is None:
            return None
        key = (text, id(scope.bundle), scope.full_url)
        if key not in self._found:
            self._found[key] = self._entry(text, scope, scope.bundle)
        return self._found[key]

    def _entry(self, text: str, scope: Scope, bundle: Mapping[str, Any]) -> Item | None:
        places = self._entries.get(id(bundle))
        if places is None:
            places = self._entries[id(bundle)] = _places(bundle)
        place = next((places[name] for name in _names(text, scope.full_url) if name in places), None)
        return None if place is None else _entry(bundle, scope.bundle_path, place)


def _contained(id: str, scope: Scope) -> Item | None:
    if not id:
        return _resource(scope.root, scope.root_path, scope)
    for position, inner in enumerate(scope.root.get("contained", [])):
        if isinstance(inner, Mapping) and inner.get("id") == id:
            return _resource(inner, f"{scope.root_path}.contained[{position}]", scope)
    return None


def _resource(tree: Mapping[str, Any], path: str, scope: Scope) -> Item:
    inner = Scope(tree, scope.root, scope.root_path, scope.bundle, scope.bundle_path, scope.full_url)
    return Item(_kind(tree), tree, path, inner)


def _entry(bundle: Mapping[str, Any], bundle_path: str, place: int) -> Item:
    entry = bundle["entry"][place]
    tree, path = entry["resource"], f"{bundle_path}.entry[{place}].resource"
    return Item(_kind(tree), tree, path, Scope(tree, tree, path, bundle, bundle_path, entry.get("fullUrl")))


def _kind(tree: Mapping[str, Any]) -> str:
    kind = tree.get("resourceType")
    return kind if isinstance(kind, str) and kind in TYPE_IDS else "Resource"


def _names(text: str, full_url: str | None) -> list[str]:
    """What an entry may be found by: its fullUrl, told by the reference or by the base of who refers; then Type/id."""
    bare = text.partition("#")[0].partition("/_history/")[0]
    found = references.parse(text)
    if found.kind != "relative":
        return [bare]
    from_url = references.parse(full_url or "")
    return [*([f"{from_url.base}/{bare}"] if from_url.base else []), bare]


_MANY: Final = 2
"""Two entries of one Type/id: a relative reference without a base means neither."""


def _places(bundle: Mapping[str, Any]) -> dict[str, int]:
    by_url: dict[str, int] = {}
    by_id: dict[str, list[int]] = {}
    for place, entry in enumerate(bundle.get("entry", [])):
        tree = entry.get("resource") if isinstance(entry, Mapping) else None
        if not isinstance(tree, Mapping):
            continue
        if isinstance(entry.get("fullUrl"), str):
            by_url.setdefault(entry["fullUrl"], place)
        if isinstance(tree.get("id"), str):
            by_id.setdefault(f"{tree.get('resourceType')}/{tree['id']}", []).append(place)
    return {name: places[0] for name, places in by_id.items() if len(places) < _MANY} | by_url


def told_type(reference: Mapping[str, Any]) -> str | None:
    """The type that a reference names, without looking at what it refers to."""
    text = reference.get("reference")
    told = references.parse(text).type if isinstance(text, str) else None
    named = reference.get("type")
    return told or (named if isinstance(named, str) and named in TYPE_IDS else None)
