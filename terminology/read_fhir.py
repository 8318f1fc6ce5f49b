"""FHIR JSON of CodeSystem, ValueSet and ConceptMap, alone or in a Bundle → rows.

In:      bytes of a file
Out:     list of CodeSystem, ValueSet, ConceptMap; other resources of a Bundle are passed over
Errors:  Unreadable  not JSON, another resource, or an element that is missing, with its FHIRPath
Source:  FHIR R4 4.8 CodeSystem, 4.9 ValueSet, 4.10 ConceptMap
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import orjson

from terminology.errors import Unreadable
from terminology.read_concept_map import concept_map
from terminology.resources import CodeSystem, Concept, Filter, Include, Loadable, ValueSet
from terminology.tree import Tree, each, text, title


def read(body: bytes) -> list[Loadable]:
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error}") from error
    kind = tree.get("resourceType") if isinstance(tree, dict) else None
    if kind == "Bundle":
        inner = [entry.get("resource") for _, entry in each(tree, "entry", "Bundle")]
        found = [_READERS[one["resourceType"]](one) for one in inner if isinstance(one, dict) and _is_readable(one)]
        if not found:
            raise Unreadable("holds no CodeSystem, ValueSet or ConceptMap", at="Bundle.entry")
        return found
    if not isinstance(kind, str) or kind not in _READERS:
        raise Unreadable("must be a CodeSystem, ValueSet, ConceptMap, or a Bundle of them", at="resourceType")
    return [_READERS[kind](tree)]


def _is_readable(tree: Tree) -> bool:
    return tree.get("resourceType") in tuple(_READERS)


def _code_system(tree: Tree) -> CodeSystem:
    url = text(tree, "url", "CodeSystem")
    language = str(tree.get("language", "en"))
    concepts = tuple(_concepts(tree, None, language, "CodeSystem"))
    if tree.get("content") in ("not-present", "supplement") or not concepts:
        raise Unreadable("holds no concepts that can be loaded", at="CodeSystem.content")
    codes = {concept.code for concept in concepts}
    if len(codes) != len(concepts):
        raise Unreadable("a code occurs twice", at="CodeSystem.concept")
    return CodeSystem(url, str(tree.get("version", "")), title(tree), language, concepts)


def _concepts(within: Tree, parent: str | None, language: str, at: str) -> Iterator[Concept]:
    for here, tree in each(within, "concept", at):
        code = text(tree, "code", here)
        properties = {entry["code"]: _value(entry) for _, entry in each(tree, "property", here) if "code" in entry}
        designations = {
            entry["language"]: entry["value"]
            for _, entry in each(tree, "designation", here)
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
        yield from _concepts(tree, code, language, here)


def _value(entry: Tree) -> object:
    found = next((value for name, value in entry.items() if name.startswith("value")), None)
    return found.get("code") if isinstance(found, dict) else found


def _value_set(tree: Tree) -> ValueSet:
    url = text(tree, "url", "ValueSet")
    compose, expansion = _part(tree, "compose"), _part(tree, "expansion")
    if "contains" not in expansion and not compose.get("include"):
        raise Unreadable("has neither an expansion nor an include", at="ValueSet.compose")
    return ValueSet(
        url=url,
        version=str(tree.get("version", "")),
        title=title(tree),
        expansion=tuple(_expanded(expansion, "ValueSet.expansion")) if "contains" in expansion else None,
        include=_parts(compose, "include"),
        exclude=_parts(compose, "exclude"),
    )


def _part(tree: Tree, name: str) -> Tree:
    part: Tree = tree.get(name, {})
    if not isinstance(part, dict):
        raise Unreadable("must be an object", at=f"ValueSet.{name}")
    return part


def _expanded(within: Tree, at: str) -> Iterator[tuple[str, str, str]]:
    for here, entry in each(within, "contains", at):
        if "code" in entry and not entry.get("abstract"):
            yield str(entry.get("system", "")), entry["code"], str(entry.get("display", ""))
        yield from _expanded(entry, here)


def _parts(compose: Tree, name: str) -> tuple[Include, ...]:
    return tuple(_include(one, at) for at, one in each(compose, name, "ValueSet.compose"))


def _include(entry: Tree, at: str) -> Include:
    """What R4 demands may be there as an extension only, which names nothing."""
    codes = tuple((text(one, "code", here), str(one.get("display", ""))) for here, one in each(entry, "concept", at))
    return Include(
        system=entry.get("system"),
        version=entry.get("version"),
        codes=codes if "concept" in entry else None,
        filters=tuple(
            Filter(*(text(one, name, here) for name in ("property", "op", "value")))
            for here, one in each(entry, "filter", at)
        ),
        value_sets=tuple(entry.get("valueSet", [])),
    )


_READERS: Final[Mapping[str, Callable[[Tree], Loadable]]] = {
    "CodeSystem": _code_system,
    "ValueSet": _value_set,
    "ConceptMap": concept_map,
}
