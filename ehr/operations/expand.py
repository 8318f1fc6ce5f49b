"""$expand of a ValueSet: its codes, with displays, filtered, in parts or as a tree.

In:      which value set, as ehr.operations.value_set takes it; Part: which of its codes, and what is told of them
Out:     tree of a ValueSet with an expansion; codes in the order of its definition
Errors:  Malformed  offset or count below 0
         TooMuch    more codes than limits.expansion_codes_max, and no count
         those of ehr.operations.value_set
Source:  FHIR R4 valueset-operation-expand.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.aside import aside
from ehr.clock import instant
from ehr.errors import Malformed, TooMuch
from ehr.ids import new_id
from ehr.index.normalize import fold
from ehr.operations.definition import Named
from ehr.operations.value_set import Contents, contents
from ehr.store.canonicals import Canonicals
from ehr.store.codes import AS_NAMED, Codes, Versions
from ehr.store.record import Record
from terminology import codesystem
from terminology.codesystem import Found, Known, told
from terminology.resources import Designation, in_language

_TOLD: Final = ("url", "version", "name", "title")
_DEFINED: Final = ("description", "useContext", "jurisdiction", "purpose", "copyright", "compose")
_LANGUAGES: Final = "urn:ietf:bcp:47"

_DEPTH_MAX: Final = (limits.json_depth_max - 4) // 2
"""Of a code in codes: ValueSet, expansion and the first list are around them, and each is in a list of an object."""

Key = tuple[str, str]
Listed = Sequence[tuple[Key, str]]


@dataclass(frozen=True, slots=True)
class Part:
    """designations: uses or languages, as tokens; None: none are told. without: systems, each as url or url|version."""

    filter: str | None = None
    offset: int = 0
    count: int | None = None
    language: str | None = None
    designations: Sequence[str] | None = None
    active_only: bool = False
    for_ui: bool = True
    nested: bool = False
    with_definition: bool = False
    without: Sequence[str] = ()
    versions: Versions = AS_NAMED
    told: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def asks_each(self) -> bool:
        """Every code must be looked at before a part of them can be told."""
        names_version = any("|" in one for one in self.without)
        return self.active_only or not self.for_ui or self.nested or names_version or bool(fold(self.filter or ""))


async def expand(record: Record, caller: Caller, named: Named, part: Part) -> dict[str, Any]:
    if part.offset < 0 or (part.count is not None and part.count < 0):
        raise Malformed("offset and count are whole numbers, 0 or more", at="offset" if part.offset < 0 else "count")
    async with record.reading(caller) as uow:
        codes = Codes()
        made = await contents(uow, codes, named, part.versions)
        keys = [key for key in made.codes if key[0] not in part.without]
        known = await codes.find_each(Canonicals.within(uow), keys, made.versions) if part.asks_each else {}
        listed = await aside(len(keys) > limits.page_count_max, _wanted, keys, made, known, part)
        shown = _page(listed, part)
        known = known or await codes.find_each(Canonicals.within(uow), [key for key, _ in shown], made.versions)
    entries = {
        key: _entry(key, display, known.get(key), made.designations.get(key, ()), part) for key, display in shown
    }
    contains = _tree(entries, known) if part.nested else list(entries.values())
    versions = sorted({f"{one.system.url}|{one.system.version}" for one in known.values() if one.system.version})
    parameters = [*part.told, *({"name": "version", "valueUri": one} for one in versions)]
    expansion = {
        "identifier": f"urn:uuid:{new_id()}",
        "timestamp": instant(record.clock.now()),
        "total": len(listed),
        **({} if part.nested else {"offset": part.offset}),
        **({"parameter": parameters} if parameters else {}),
        **({"contains": contains} if contains else {}),
    }
    names = (*_TOLD, *_DEFINED) if part.with_definition else _TOLD
    head = {name: made.tree[name] for name in names if name in made.tree}
    return {"resourceType": "ValueSet", **head, "status": made.tree.get("status", "active"), "expansion": expansion}


def _wanted(keys: Sequence[Key], made: Contents, known: Known, part: Part) -> Listed:
    words = fold(part.filter or "").split()
    return [(key, made.codes[key]) for key in keys if _is_wanted(key, made, known.get(key), part, words)]


def _page(listed: Listed, part: Part) -> Listed:
    """A tree has no pages: all of it, or with a count of 0 how many there are."""
    most = limits.expansion_codes_max
    end = None if part.count is None or (part.nested and part.count) else part.count
    shown = listed[0 if part.nested else part.offset :][:end]
    if (part.nested or part.count is None) and len(shown) > most:
        raise TooMuch(f"{len(shown)} codes, and {most} come at once: give a count, or a filter", at="count")
    return shown[:most]


def _is_wanted(key: Key, made: Contents, found: Found | None, part: Part, words: Sequence[str]) -> bool:
    if found is not None and found.concept is not None:
        if part.active_only and not found.concept.active:
            return False
        if not part.for_ui and not found.concept.selectable:
            return False
        if f"{key[0]}|{found.system.version}" in part.without:
            return False
    return not words or _meets(words, key[1], _names(key, made, found))


def _names(key: Key, made: Contents, found: Found | None) -> set[str]:
    concept = None if found is None else found.concept
    names = {made.codes[key], *(one.value for one in made.designations.get(key, ()))}
    return names if concept is None else names | {concept.display, *(one.value for one in concept.designations)}


def _meets(words: Sequence[str], code: str, names: set[str]) -> bool:
    """The code begins so, or in one of its names each word begins a word."""
    if len(words) == 1 and " ".join(_folded(code)).startswith(words[0]):
        return True
    return any(all(any(one.startswith(word) for one in there) for word in words) for there in map(_folded, names))


@lru_cache(limits.names_folded_max)
def _folded(name: str) -> tuple[str, ...]:
    """Who picks a code asks at each key pressed, of the same names."""
    return tuple(fold(name).split())


def _entry(key: Key, display: str, found: Found | None, own: Sequence[Designation], part: Part) -> dict[str, Any]:
    """own: what the value set itself calls the code, which goes before what its system calls it."""
    system, code = key
    entry: dict[str, Any] = {"system": system} if system else {}
    concept = None if found is None else found.concept
    if concept is not None and not concept.selectable:
        entry["abstract"] = True
    if concept is not None and not concept.active:
        entry["inactive"] = True
    entry["code"] = code
    said = in_language(own, part.language) if part.language else None
    if found is not None and concept is not None:
        said = said or (found.system.name_in(concept, part.language) if part.language else None)
        display = display or found.system.name(concept, codesystem.DEFAULT)
    if said or display:
        entry["display"] = said or display
    if part.designations is not None:
        each = [*map(told, own), *(() if found is None else found.told())]
        asked = [one for one in each if _is_asked(one, part.designations)]
        entry |= {"designation": asked} if asked else {}
    return entry


def _is_asked(designation: Mapping[str, Any], tokens: Sequence[str]) -> bool:
    """By its use or its language; a token without a system may be either."""
    use = designation.get("use", {})
    said = {f"{_LANGUAGES}|{designation.get('language')}", f"{use.get('system', '')}|{use.get('code')}"}
    plain = {designation.get("language"), use.get("code")}
    return not tokens or any(one in (said if "|" in one else plain) for one in tokens)


def _tree(entries: Mapping[Key, dict[str, Any]], known: Known) -> list[dict[str, Any]]:
    """Each code once, below the first of its parents that is there."""
    above = {key: _parent(key, entries, known) for key in entries}
    deepest = max(_depths(above).values(), default=0)
    if deepest > _DEPTH_MAX:
        raise TooMuch(f"the codes lie {deepest} deep, and JSON holds {_DEPTH_MAX}: ask flat", at="excludeNested")
    roots = []
    for key, entry in entries.items():
        parent = above[key]
        if parent is None:
            roots.append(entry)
        else:
            entries[parent].setdefault("contains", []).append(entry)
    return roots


def _depths(above: dict[Key, Key | None]) -> dict[Key, int]:
    """How deep each lies; a cycle is cut where it is met."""
    depths: dict[Key, int] = {}
    for key in above:
        way: dict[Key, None] = {}
        at: Key | None = key
        while at is not None and at not in depths and at not in way:
            way[at] = None
            at = above[at]
        if at in way:
            above[at], depths[at] = None, 1
        for one in reversed(way):
            parent = above[one]
            depths[one] = 1 if parent is None else depths[parent] + 1
    return depths


def _parent(key: Key, entries: Mapping[Key, Any], known: Known) -> Key | None:
    found = known.get(key)
    parents = () if found is None or found.concept is None else found.concept.parents
    return next(((key[0], code) for code in parents if (key[0], code) in entries), None)
