"""The filters of a value set's include → whether a code passes.

In:      Filter; a concept and the code system it is of
Errors:  Unreadable  a filter that is not served, a pattern that is none, a code that the system does not have, is-a
                     where what is below a code is not of its kind (hierarchyMeaning)
Keeps:   every operator of R4. Properties are the concept's own, and code, display, definition, parent, child,
         inactive, notSelectable; `concept` is the code. A cycle in a published hierarchy ends where it began
Source:  FHIR R4 valueset.html (compose.include.filter), valueset-filter-operator.html, 4.8.9 filters
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import re2

from terminology.errors import Unreadable
from terminology.resources import CodeSystem, Concept, Filter, Value

AT: Final = "ValueSet.compose.include.filter"
_CODE: Final = frozenset({"concept", "code"})
_DEFINED: Final = _CODE | {
    *("display", "definition", "parent", "child", "inactive", "notSelectable"),
    *("status", "deprecated", "deprecationDate", "retirementDate"),
}
"""What every code system may say of a code (4.8.10), whether a code here has it or not."""
_HIERARCHIC: Final = frozenset({"is-a", "descendent-of", "is-not-a", "generalizes"})

Concepts = Mapping[str, Concept]
Passes = Callable[[Concept], bool]


def passes(one: Filter, system: CodeSystem) -> Passes:
    """The question a filter asks of each concept."""
    if one.op in _HIERARCHIC:
        return _hierarchic(one, system)
    _require_property(one, system.concepts)
    texts = _texts(one.property, system.concepts)
    if one.op == "exists":
        if one.value not in {"true", "false"}:
            raise Unreadable(f"the filter {one.property} exists is true or false", at=AT)
        return lambda concept: any(texts(concept)) is (one.value == "true")
    if one.op == "regex":
        pattern = _pattern(one.value)
        return lambda concept: any(pattern.fullmatch(text) for text in texts(concept))
    if one.op in {"=", "in", "not-in"}:
        wanted = frozenset([one.value] if one.op == "=" else (text.strip() for text in one.value.split(",")))
        is_in = one.op != "not-in"
        return lambda concept: wanted.isdisjoint(texts(concept)) != is_in
    raise Unreadable(f"the filter {one.property} {one.op} is not served", at=AT)


def _hierarchic(one: Filter, system: CodeSystem) -> Passes:
    concepts = system.concepts
    if one.property not in _CODE:
        raise Unreadable(f"the filter {one.property} {one.op} is not served: {one.op} is one of concept", at=AT)
    if not system.subsumes:
        text = f"the filter {one.op} is not served: the hierarchy of {system.url} is {system.meaning}, not is-a"
        raise Unreadable(text, at=AT)
    if one.value not in concepts:
        raise Unreadable(f"the code system has no code {one.value[:64]}", at=AT)
    if one.op == "generalizes":
        above = ancestors(one.value, concepts) | {one.value}
        return lambda concept: concept.code in above
    below = descendants(one.value, concepts)
    if one.op == "descendent-of":
        return lambda concept: concept.code in below and concept.code != one.value
    is_a = one.op == "is-a"
    return lambda concept: (concept.code == one.value or concept.code in below) is is_a


def _require_property(one: Filter, concepts: Concepts) -> None:
    """What nobody has would let nothing through, or everything: an expression (SNOMED CT's constraint), a slip."""
    if one.property not in _DEFINED and not any(one.property in concept.properties for concept in concepts.values()):
        raise Unreadable(f"the filter {one.property} {one.op} is not served: no code has the property", at=AT)


@lru_cache(256)
def _pattern(text: str) -> Any:
    try:
        return re2.compile(text, _OPTIONS)
    except re2.error as error:
        raise Unreadable(f"the pattern {text[:100]} cannot be served", at=AT) from error


def _quiet() -> Any:
    """A pattern of a stranger's is no line of our log."""
    options = re2.Options()
    options.log_errors = False
    return options


_OPTIONS: Final = _quiet()


def _texts(name: str, concepts: Concepts) -> Callable[[Concept], list[str]]:
    """What a property of a concept is, as a filter writes it."""
    below = _children(concepts) if name == "child" else {}

    def texts(concept: Concept) -> list[str]:
        match name:
            case "concept" | "code":
                return [concept.code]
            case "parent":
                return list(concept.parents)
            case "child":
                return below.get(concept.code, [])
            case "display" | "definition":
                return [text for text in (getattr(concept, name),) if text]
        listed = concept.properties.get(name)
        if listed is None and name in {"inactive", "notSelectable"}:
            return [str(not (concept.active if name == "inactive" else concept.selectable)).lower()]
        return [text_of(value) for value in listed or ()]

    return texts


def text_of(value: Value) -> str:
    plain = next(iter(value.values()))
    if isinstance(plain, Mapping):
        plain = plain.get("code", "")
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def ancestors(code: str, concepts: Concepts) -> set[str]:
    """Every code above one."""
    found: set[str] = set()
    waiting = list(concepts[code].parents)
    while waiting:
        above = waiting.pop()
        if above not in found:
            found.add(above)
            waiting += concepts[above].parents if above in concepts else ()
    return found


def descendants(code: str, concepts: Concepts) -> set[str]:
    """Every code below one: each concept is looked at once, however deep they lie."""
    below = _children(concepts)
    found: set[str] = set()
    waiting = [code]
    while waiting:
        new = [one for one in below.get(waiting.pop(), ()) if one not in found]
        found.update(new)
        waiting += new
    return found


def _children(concepts: Concepts) -> dict[str, list[str]]:
    below: dict[str, list[str]] = {}
    for one in concepts.values():
        for parent in one.parents:
            below.setdefault(parent, []).append(one.code)
    return below
