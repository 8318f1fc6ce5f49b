"""$expand of a ValueSet: its codes, with displays, filtered and in parts.

In:      which value set: the id of one here, a canonical url, or the resource itself; filter, offset, count, language
Out:     tree of a ValueSet with an expansion; codes in the order of system and code
Errors:  NotFound   no such value set here
         Malformed  none is named, or several ways at once
         Invalid    one that cannot be expanded: it needs a code system that is not here, or an unknown filter
         TooMuch    more codes than limits.expansion_codes_max, and no count
Source:  FHIR R4 valueset-operation-expand.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from ehr import limits
from ehr.access.policy import Caller
from ehr.clock import instant
from ehr.errors import Invalid, Malformed, NotFound, TooMuch
from ehr.fhir import codec
from ehr.fhir.structure import codes as bound_codes
from ehr.ids import new_id
from ehr.index.normalize import fold
from ehr.operations.definition import Named, definition
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Asking, Codes
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from terminology import codesystem, valueset
from terminology import expand as compose
from terminology.codesystem import Language
from terminology.errors import Unreadable
from terminology.expand import Codes as Expansion
from terminology.read_fhir import read
from terminology.resources import ValueSet

LANGUAGES: Final = frozenset({"vi", "en"})
_TOLD: Final = ("url", "version", "name", "title")


@dataclass(frozen=True, slots=True)
class Part:
    filter: str | None = None
    offset: int = 0
    count: int | None = None
    language: str | None = None


async def expand(record: Record, caller: Caller, named: Named, part: Part) -> dict[str, Any]:
    if part.offset < 0 or (part.count is not None and part.count < 0):
        raise Malformed("offset and count are whole numbers, 0 or more", at="offset" if part.offset < 0 else "count")
    async with record.reading(caller) as uow:
        tree, codes = await codes_of(uow, named)
        found = _filtered(codes, part.filter)
        shown = found[part.offset :][: part.count]
        if part.count is None and len(shown) > limits.expansion_codes_max:
            most = limits.expansion_codes_max
            raise TooMuch(f"{len(shown)} codes, and {most} come at once: give a count, or a filter", at="count")
        shown = shown[: limits.expansion_codes_max]
        known = await displays(uow, [key for key, _ in shown], part.language)
        bare = [key for key, display in shown if not (known.get(key) or display)]
        known = {**known, **await displays(uow, bare, codesystem.DEFAULT)}
    contains = [_entry(key, known.get(key) or display) for key, display in shown]
    expansion = {
        "identifier": f"urn:uuid:{new_id()}",
        "timestamp": instant(record.clock.now()),
        "total": len(found),
        "offset": part.offset,
        **({"contains": contains} if contains else {}),
    }
    told = {name: tree[name] for name in _TOLD if name in tree}
    return {"resourceType": "ValueSet", **told, "status": tree.get("status", "active"), "expansion": expansion}


async def codes_of(uow: UnitOfWork, named: Named) -> tuple[Mapping[str, Any], Expansion]:
    """What is known of the value set, and its codes."""
    named.require("valueSet")
    if named.url is not None:
        codes = await valueset.expansion(uow.connection, named.url)
        if codes is not None:
            return _named(named.url), codes
    tree = await definition(uow, "ValueSet", named)
    if tree is None:
        assert named.url is not None, "an id that is not here is refused"
        listed = valueset.listed(named.url, bound_codes)
        if listed is None:
            raise NotFound(f"the value set {named.url[:200]} is not known here; load it or create it", at="url")
        return _named(named.url), listed
    try:
        made = read(codec.dumps({"url": "urn:uuid:" + new_id(), **tree}))[0]
        return tree, await compose.expand(Asking(Codes(), Canonicals.within(uow)), cast("ValueSet", made))
    except Unreadable as error:
        raise Invalid(f"the value set cannot be expanded here: {error}", at=error.at or "ValueSet") from error


def _named(canonical: str) -> Mapping[str, Any]:
    url, _, version = canonical.partition("|")
    return {"url": url, **({"version": version} if version else {})}


async def displays(uow: UnitOfWork, keys: list[tuple[str, str]], language: str | None) -> Expansion:
    """Those of the code systems, in a language; none where none is asked for."""
    if language is None:
        return {}
    short = language.partition("-")[0].lower()
    if short not in LANGUAGES:
        raise Malformed("displays are in vi or en", at="displayLanguage")
    found = await codesystem.displays(uow.connection, keys, language=cast("Language", short))
    return found | await _stored_displays(uow, [key for key in keys if key not in found], short)


async def _stored_displays(uow: UnitOfWork, keys: list[tuple[str, str]], language: str) -> dict[tuple[str, str], str]:
    """Of the CodeSystems of this record, each gone through once."""
    wanted, codes, canonicals = set(keys), Codes(), Canonicals.within(uow)
    found = {}
    for system in sorted({system for system, _ in wanted}):
        stored = await codes.code_system(canonicals, system)
        for one in () if stored is None else stored.concepts:
            if (system, one.code) in wanted:
                found[system, one.code] = one.designations.get(language, one.display)
    return found


def _filtered(codes: Expansion, text: str | None) -> list[tuple[tuple[str, str], str]]:
    listed = sorted(codes.items())
    words = fold(text or "").split()
    if not words:
        return listed
    return [(key, display) for key, display in listed if _meets(words, key[1], display)]


def _meets(words: list[str], code: str, display: str) -> bool:
    if len(words) == 1 and fold(code).startswith(words[0]):
        return True
    there = fold(display).split()
    return all(any(one.startswith(word) for one in there) for word in words)


def _entry(key: tuple[str, str], display: str) -> dict[str, str]:
    system, code = key
    return {**({"system": system} if system else {}), "code": code, **({"display": display} if display else {})}
