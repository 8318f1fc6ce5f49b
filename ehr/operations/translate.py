"""$translate of a ConceptMap: what a code is in another code system.

In:      which map, as ehr.operations.definition takes it, or every one from the code's system; codes with systems;
         the value sets or the system they are translated between; what they depend on; forwards or backwards
Out:     tree of Parameters: result, message, each match with its equivalence and the map it comes from
Errors:  Malformed  no code, or none with a system; those of ehr.operations.definition
         NotFound   no such map, or no ValueSet of the id that source or target gives
         TooMuch    more maps of this system than limits.concept_maps_max
Source:  FHIR R4 conceptmap-operation-translate.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ehr import limits
from ehr.access.policy import Caller
from ehr.errors import Malformed, NotFound, TooMuch
from ehr.fhir import codec
from ehr.operations.definition import UNNAMED, Named, definition, read
from ehr.search.parse import parse
from ehr.search.run import run
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from terminology import conceptmap
from terminology.conceptmap import Looking
from terminology.resources import Attribute, ConceptMap
from terminology.translate import NO_MATCH, Coded, Match, Wanted, applies, translation


@dataclass(frozen=True, slots=True)
class Asked:
    """codings: one of them, where there are several, is enough. source, target: canonical urls, or ids of ValueSets."""

    named: Named
    codings: Sequence[Mapping[str, Any]]
    wanted: Wanted
    source: str | None = None
    target: str | None = None


async def translate(record: Record, caller: Caller, asked: Asked) -> dict[str, Any]:
    coded = _coded(asked.codings)
    async with record.reading(caller) as uow:
        asking = _Asking(uow, asked, coded)
        await asking.every(await asking.first())
    return _told(asking, coded)


def _coded(codings: Sequence[Mapping[str, Any]]) -> list[Coded]:
    found = [
        Coded(one["system"], one["code"], str(one.get("version", "")))
        for one in codings
        if one.get("system") and one.get("code")
    ]
    if not found:
        at = "system" if any(one.get("code") for one in codings) else "code"
        raise Malformed("a code is translated by its code and its system, coding, or codeableConcept", at=at)
    return found


class _Asking:
    """One question, and what the maps said so far."""

    def __init__(self, uow: UnitOfWork, asked: Asked, coded: Sequence[Coded]) -> None:
        self._uow = uow
        self._asked = asked
        self._coded = coded
        self._looking = Looking([one.code for one in coded], reverse=asked.wanted.reverse)
        self.matches: dict[tuple[Match, str], None] = {}
        self.lacking: set[str] = set()

    async def first(self) -> list[ConceptMap]:
        """The maps that are named, or all that may know, and lie between the value sets asked for."""
        found = await self._named() if self._asked.named.ways else await self._candidates()
        source, target = await self._scope("source"), await self._scope("target")
        return [one for one in found if applies(one, source, target, reverse=self._looking.reverse)]

    async def every(self, maps: list[ConceptMap]) -> None:
        """Each map once, and those that one of them leaves its unmapped codes to."""
        followed = set[str]()
        for one in maps:
            for coded in self._coded:
                made = translation(one, coded, self._asked.wanted)
                self.matches |= dict.fromkeys((match, _canonical(one)) for match in made.matches)
                self.lacking |= made.lacking
                further = dict.fromkeys(url for url in made.further if url not in followed)
                followed |= further.keys()
                if len(followed) > limits.concept_maps_max:
                    raise TooMuch(f"this leads to more than {limits.concept_maps_max} concept maps", at="url")
                maps += [await self._of_url(url) for url in further]

    async def _named(self) -> list[ConceptMap]:
        named = self._asked.named
        named.require("conceptMap")
        if named.url is not None:
            return [await self._of_url(named.url)]
        tree = await definition(self._uow, "ConceptMap", named)
        assert tree is not None, "an id that is not here is refused"
        return [cast("ConceptMap", read(tree))]

    async def _of_url(self, canonical: str) -> ConceptMap:
        found = await conceptmap.loaded(self._uow.connection, canonical, self._looking)
        if found is None:
            tree = await definition(self._uow, "ConceptMap", Named(url=canonical))
            if tree is None:
                text = f"the concept map {canonical[:200]} is not known here; load it or create it"
                raise NotFound(text, at="url")
            found = cast("ConceptMap", read(tree))
        return found

    async def _candidates(self) -> list[ConceptMap]:
        """Loaded and stored ones from the systems of the codes, of each url the one that its url alone names."""
        systems = frozenset(one.system for one in self._coded)
        loaded = await conceptmap.loaded_of(self._uow.connection, systems, self._looking)
        known = {one.url for one in loaded}
        name = "target-system" if self._looking.reverse else "source-system"
        values = ",".join(one.replace("\\", "\\\\").replace(",", "\\,") for one in sorted(systems))
        query = [(name, values), ("status:not", "retired"), ("_count", str(limits.concept_maps_max))]
        page = await run(self._uow, parse("ConceptMap", query))
        if page.next_cursor is not None:
            text = f"more than {limits.concept_maps_max} concept maps are from this system: name one by url"
            raise TooMuch(text, at="url")
        stored: list[ConceptMap] = []
        for match in page.matches:
            tree = codec.loads(match.body)
            url = tree.get("url")
            if url is None:
                stored.append(cast("ConceptMap", read(tree)))
            elif url not in known:
                stored.append(await self._of_url(url))
                known.add(url)
        return [*loaded, *stored]

    async def _scope(self, name: str) -> str | None:
        """A value set by its canonical url; one that is named by an id has its own."""
        given: str | None = getattr(self._asked, name)
        if given is None or (":" in given and not given.startswith("ValueSet/")):
            return given
        tree = await definition(self._uow, "ValueSet", Named(id=given.removeprefix("ValueSet/")))
        url = (tree or {}).get("url")
        if url is None:
            raise NotFound(f"the ValueSet {given[:64]} has no url that a concept map could name", at=name)
        return str(url)


def _canonical(one: ConceptMap) -> str:
    return f"{one.url}|{one.version}" if one.version else one.url


def _told(asking: _Asking, coded: Sequence[Coded]) -> dict[str, Any]:
    translated = any(match.equivalence not in NO_MATCH for match, _ in asking.matches)
    messages = []
    if not translated:
        messages.append(f"no translation of {coded[0].system[:200]}|{coded[0].code[:64]} is known here")
    if asking.lacking:
        messages.append(f"there is more where these are given as dependency: {', '.join(sorted(asking.lacking))}")
    parts: list[dict[str, Any]] = [{"name": "result", "valueBoolean": translated}]
    parts += [{"name": "message", "valueString": "; ".join(messages)}] if messages else []
    parts += [_match(match, source) for match, source in asking.matches]
    return {"resourceType": "Parameters", "parameter": parts}


def _match(match: Match, source: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "equivalence", "valueCode": match.equivalence}]
    if match.code:
        coding = _coding(match.system, match.version, match.code, match.display)
        parts.append({"name": "concept", "valueCoding": coding})
    parts += [{"name": "product", "part": _product(one)} for one in match.product]
    if not source.startswith(UNNAMED):
        parts.append({"name": "source", "valueUri": source})
    return {"name": "match", "part": parts}


def _product(one: Attribute) -> list[dict[str, Any]]:
    coding = _coding(one.system or "", "", one.value, one.display)
    return [{"name": "element", "valueUri": one.property}, {"name": "concept", "valueCoding": coding}]


def _coding(system: str, version: str, code: str, display: str) -> dict[str, str]:
    said = {"system": system, "version": version, "code": code, "display": display}
    return {name: text for name, text in said.items() if text}
