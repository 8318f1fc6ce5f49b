"""A CodeSystem as FHIR JSON has it → its concepts, flat, each with the codes above it.

Keeps:   every code above one, by nesting and by the properties parent, subsumedBy and child; properties with their
         types and as often as they occur; designations of every language and use
Errors:  Unreadable  no url, no concepts, a supplement, a code that occurs twice, or a part of another shape
Source:  FHIR R4 4.8 CodeSystem, 4.8.8 status, 4.8.10 defined properties (parent, child, inactive, notSelectable, …)
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from terminology.errors import Unreadable
from terminology.resources import CodeSystem, Concept, Designation, Value
from terminology.tree import Tree, each, text, title

_ABOVE: Final = ("parent", "subsumedBy")
_INACTIVE: Final = frozenset({"retired", "inactive"})
"""Values of the property status that say that a code is no longer to be used."""


def code_system(tree: Tree) -> CodeSystem:
    url = text(tree, "url", "CodeSystem")
    listed = list(_concepts(tree, None, "CodeSystem"))
    content = str(tree.get("content", "complete"))
    if content == "supplement":
        raise Unreadable(
            "a supplement is not served: give its designations to the code system", at="CodeSystem.content"
        )
    if content == "not-present" or not listed:
        raise Unreadable("holds no concepts that can be loaded", at="CodeSystem.content")
    concepts = {one.code: one for one in listed}
    if len(concepts) != len(listed):
        raise Unreadable("a code occurs twice", at="CodeSystem.concept")
    return CodeSystem(
        url=url,
        version=str(tree.get("version", "")),
        title=title(tree),
        language=str(tree.get("language", "en")),
        concepts=_below_their_parents(concepts),
        content=content,
        case_sensitive=tree.get("caseSensitive") is not False,
        value_set=str(tree.get("valueSet", "")),
        meaning=str(tree.get("hierarchyMeaning", "")),
    )


def _concepts(within: Tree, parent: str | None, at: str) -> Iterator[Concept]:
    for here, tree in each(within, "concept", at):
        code = text(tree, "code", here)
        properties = _properties(tree, here)
        above = [parent] if parent is not None else []
        above += [str(_plain(value)) for name in _ABOVE for value in properties.get(name, ())]
        yield Concept(
            code=code,
            display=str(tree.get("display", code)),
            definition=str(tree.get("definition", "")),
            parents=tuple(dict.fromkeys(above)),
            selectable=not _is(properties, "notSelectable"),
            active=not (_is(properties, "inactive") or _retired(properties)),
            properties=properties,
            designations=tuple(designations(tree, here)),
        )
        yield from _concepts(tree, code, here)


def _properties(tree: Tree, at: str) -> dict[str, tuple[Value, ...]]:
    found: dict[str, tuple[Value, ...]] = {}
    for _, entry in each(tree, "property", at):
        value = {name: value for name, value in entry.items() if name.startswith("value")}
        if "code" in entry and value:
            found[entry["code"]] = (*found.get(entry["code"], ()), value)
    return found


def designations(tree: Tree, at: str) -> Iterator[Designation]:
    """Of a concept of a code system, or of one that a value set lists."""
    for _, entry in each(tree, "designation", at):
        if "value" in entry:
            yield Designation(str(entry["value"]), str(entry.get("language", "")), entry.get("use"))


def _plain(value: Value) -> Any:
    """The code of a Coding, else the value itself."""
    plain = next(iter(value.values()))
    return plain.get("code") if isinstance(plain, dict) else plain


def _is(properties: Mapping[str, tuple[Value, ...]], name: str) -> bool:
    return any(_plain(value) is True for value in properties.get(name, ()))


def _retired(properties: Mapping[str, tuple[Value, ...]]) -> bool:
    return any(str(_plain(value)).lower() in _INACTIVE for value in properties.get("status", ()))


def _below_their_parents(concepts: dict[str, Concept]) -> dict[str, Concept]:
    """With what the property child says."""
    for one in list(concepts.values()):
        for value in one.properties.get("child", ()):
            below = concepts.get(str(_plain(value)))
            if below is not None and one.code not in below.parents:
                concepts[below.code] = replace(below, parents=(*below.parents, one.code))
    return concepts
