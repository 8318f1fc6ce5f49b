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
from terminology.read_code_system import code_system, designations
from terminology.read_concept_map import concept_map
from terminology.resources import Filter, Include, Loadable, ValueSet
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
        inactive=compose.get("inactive") is not False,
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
    listed = list(each(entry, "concept", at))
    codes = tuple((text(one, "code", here), str(one.get("display", ""))) for here, one in listed)
    return Include(
        system=entry.get("system"),
        version=entry.get("version"),
        codes=codes if "concept" in entry else None,
        filters=tuple(
            Filter(*(text(one, name, here) for name in ("property", "op", "value")))
            for here, one in each(entry, "filter", at)
        ),
        value_sets=tuple(entry.get("valueSet", [])),
        designations={one["code"]: tuple(designations(one, here)) for here, one in listed if "designation" in one},
    )


_READERS: Final[Mapping[str, Callable[[Tree], Loadable]]] = {
    "CodeSystem": code_system,
    "ValueSet": _value_set,
    "ConceptMap": concept_map,
}
