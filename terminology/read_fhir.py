"""FHIR JSON of CodeSystem, ValueSet and ConceptMap, alone or in a Bundle → rows.

In:      bytes of a file
Out:     list of CodeSystem, ValueSet, ConceptMap; other resources of a Bundle are passed over
Errors:  Unreadable  not JSON, another resource, or an element that is missing, with its FHIRPath
Source:  FHIR R4 4.8 CodeSystem, 4.9 ValueSet, 4.10 ConceptMap
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from terminology.errors import Unreadable
from terminology.resources import CodeSystem, Concept, ConceptMap, Filter, Include, Loadable, Mapped, ValueSet

Tree = Mapping[str, Any]


def read(body: bytes) -> list[Loadable]:
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error}") from error
    kind = tree.get("resourceType") if isinstance(tree, dict) else None
    if kind == "Bundle":
        inner: list[Tree] = [entry.get("resource", {}) for entry in tree.get("entry", [])]
        return [_READERS[one["resourceType"]](one) for one in inner if one.get("resourceType") in _READERS]
    if not isinstance(kind, str) or kind not in _READERS:
        raise Unreadable("must be a CodeSystem, ValueSet, ConceptMap, or a Bundle of them", at="resourceType")
    return [_READERS[kind](tree)]


def _text(tree: Tree, name: str, at: str) -> str:
    value = tree.get(name)
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{name} is required", at=f"{at}.{name}")
    return value


def _code_system(tree: Tree) -> CodeSystem:
    url = _text(tree, "url", "CodeSystem")
    language = str(tree.get("language", "en"))
    concepts = tuple(_concepts(tree.get("concept", []), None, language, "CodeSystem.concept"))
    if tree.get("content") in ("not-present", "supplement") or not concepts:
        raise Unreadable("holds no concepts that can be loaded", at="CodeSystem.content")
    codes = {concept.code for concept in concepts}
    if len(codes) != len(concepts):
        raise Unreadable("a code occurs twice", at="CodeSystem.concept")
    return CodeSystem(url, str(tree.get("version", "")), _title(tree), language, concepts)


def _title(tree: Tree) -> str:
    return str(tree.get("title") or tree.get("name") or "")


def _concepts(listed: list[Tree], parent: str | None, language: str, at: str) -> Iterator[Concept]:
    for position, tree in enumerate(listed):
        here = f"{at}[{position}]"
        code = _text(tree, "code", here)
        properties = {entry["code"]: _value(entry) for entry in tree.get("property", []) if "code" in entry}
        designations = {
            entry["language"]: entry["value"]
            for entry in tree.get("designation", [])
            if "value" in entry and entry.get("language", language) != language
        }
        above = properties.get("subsumedBy") or properties.get("parent") or parent
        yield Concept(
            code=code,
            display=str(tree.get("display", code)),
            parent=str(above) if above else None,
            selectable=not (properties.get("notSelectable") or properties.get("inactive")),
            properties=properties,
            designations=designations,
        )
        yield from _concepts(tree.get("concept", []), code, language, f"{here}.concept")


def _value(entry: Tree) -> object:
    found = next((value for name, value in entry.items() if name.startswith("value")), None)
    return found.get("code") if isinstance(found, dict) else found


def _value_set(tree: Tree) -> ValueSet:
    url = _text(tree, "url", "ValueSet")
    compose = tree.get("compose", {})
    expansion = tree.get("expansion", {}).get("contains")
    if expansion is None and not compose.get("include"):
        raise Unreadable("has neither an expansion nor an include", at="ValueSet.compose")
    return ValueSet(
        url=url,
        version=str(tree.get("version", "")),
        title=_title(tree),
        expansion=None if expansion is None else tuple(_expanded(expansion)),
        include=_parts(compose, "include"),
        exclude=_parts(compose, "exclude"),
    )


def _expanded(contains: list[Tree]) -> Iterator[tuple[str, str, str]]:
    for entry in contains:
        if "code" in entry and not entry.get("abstract"):
            yield str(entry.get("system", "")), entry["code"], str(entry.get("display", ""))
        yield from _expanded(entry.get("contains", []))


def _parts(compose: Tree, name: str) -> tuple[Include, ...]:
    return tuple(_include(one, f"ValueSet.compose.{name}[{place}]") for place, one in enumerate(compose.get(name, [])))


def _include(entry: Tree, at: str) -> Include:
    """What R4 demands may be there as an extension only, which names nothing."""
    listed = entry.get("concept")
    return Include(
        system=entry.get("system"),
        version=entry.get("version"),
        codes=None
        if listed is None
        else tuple(
            (_text(one, "code", f"{at}.concept[{place}]"), str(one.get("display", "")))
            for place, one in enumerate(listed)
        ),
        filters=tuple(
            Filter(*(_text(one, name, f"{at}.filter[{place}]") for name in ("property", "op", "value")))
            for place, one in enumerate(entry.get("filter", []))
        ),
        value_sets=tuple(entry.get("valueSet", [])),
    )


def _concept_map(tree: Tree) -> ConceptMap:
    url = _text(tree, "url", "ConceptMap")
    entries: list[Mapped] = []
    for position, group in enumerate(tree.get("group", [])):
        at = f"ConceptMap.group[{position}]"
        source = _text(group, "source", at)
        target = str(group.get("target", ""))
        for place, element in enumerate(group.get("element", [])):
            code = _text(element, "code", f"{at}.element[{place}]")
            targets = element.get("target") or [{"equivalence": "unmatched"}]
            entries += [
                Mapped(source, code, target, str(to.get("code", "")), str(to.get("equivalence", "relatedto")))
                for to in targets
            ]
    if not entries:
        raise Unreadable("holds no mappings", at="ConceptMap.group")
    unique = {(e.source_system, e.source_code, e.target_system, e.target_code): e for e in entries}
    return ConceptMap(url, str(tree.get("version", "")), _title(tree), tuple(unique.values()))


_READERS: Final[Mapping[str, Callable[[Tree], Loadable]]] = {
    "CodeSystem": _code_system,
    "ValueSet": _value_set,
    "ConceptMap": _concept_map,
}
