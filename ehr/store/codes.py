"""Codes and value sets: by what an operator loaded, by stored resources, by R4's own, the first that knows.

Out:     whether a code is in a value set; the codes of a value set; the concepts of a code system
Keeps:   value sets and code systems that were read, for as long as their reader keeps this
Source:  FHIR R4 4.9.18.1 $expand, 4.9.18.2 $validate-code; value sets of R4's required bindings, as compiled
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ehr import limits
from ehr.fhir.profiles.grammars import GRAMMARS
from ehr.fhir.structure import codes
from ehr.store.canonicals import Canonicals
from terminology import read_fhir, valueset
from terminology.errors import Unreadable
from terminology.expand import Codes as Expansion
from terminology.expand import Concepts, concepts_of, expand
from terminology.membership import is_member
from terminology.resources import CodeSystem, ValueSet
from terminology.valueset import validate_code

_R4_SYSTEMS: Final = "http://hl7.org/fhir/"
_R4_VALUE_SETS: Final = "http://hl7.org/fhir/ValueSet/"


class Codes:
    def __init__(self) -> None:
        self._value_sets: dict[str, ValueSet | None] = {}
        self._systems: dict[str, CodeSystem | None] = {}
        self._concepts: dict[tuple[str, str | None], Concepts | None] = {}

    async def member(self, stored: Canonicals, value_set: str, system: str | None, code: str) -> bool | None:
        """system None: of a code element. None: nobody here knows."""
        return await Asking(self, stored).member(value_set, system, code)

    async def value_set(self, stored: Canonicals, canonical: str) -> ValueSet | None:
        """As it is stored."""
        if canonical not in self._value_sets:
            found = await _readable(stored, "ValueSet", canonical)
            self._value_sets[canonical] = found if isinstance(found, ValueSet) else None
        return self._value_sets[canonical]

    async def code_system(self, stored: Canonicals, canonical: str) -> CodeSystem | None:
        """As it is stored."""
        if canonical not in self._systems:
            found = await _readable(stored, "CodeSystem", canonical)
            self._systems[canonical] = found if isinstance(found, CodeSystem) else None
        return self._systems[canonical]

    async def concepts(self, stored: Canonicals, system: str, version: str | None) -> Concepts | None:
        """Loaded by an operator, else stored, else of R4's own."""
        key = (system, version)
        if key not in self._concepts:
            found: Concepts | None = await concepts_of(stored.connection, system, version) or None
            if found is None:
                resource = await self.code_system(stored, f"{system}|{version}" if version else system)
                found = _concepts(resource) if resource is not None else _of_r4(system)
            self._concepts[key] = found
        return self._concepts[key]


class Asking:
    """One question, and the value sets it is asked of on the way: one that names itself has no more to say.

    What was answered on the way is kept: sets that share others would double the work with each step.
    """

    def __init__(self, codes: Codes, stored: Canonicals) -> None:
        self._codes = codes
        self._stored = stored
        self._asked: set[str] = set()
        self._expanded: dict[str, Expansion | None] = {}
        self._answers: dict[tuple[str, str | None, str], bool | None] = {}

    async def concepts(self, system: str, version: str | None) -> Concepts | None:
        return await self._codes.concepts(self._stored, system, version)

    async def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        key = (value_set, system, code)
        if key not in self._answers:
            self._answers[key] = await self._member(value_set, system, code)
        return self._answers[key]

    async def _member(self, value_set: str, system: str | None, code: str) -> bool | None:
        found = (await validate_code(self._stored.connection, value_set, code, system=system)).result
        if found is not None or value_set in self._asked or len(self._asked) >= limits.value_sets_deep_max:
            return found
        stored = await self._codes.value_set(self._stored, value_set)
        if stored is None:
            return _compiled(value_set, system, code)
        with self._on_the_way(value_set):
            return await is_member(self, stored, system, code)

    async def codes(self, value_set: str) -> Expansion | None:
        """Unreadable: it is here, but needs what is not."""
        if value_set in self._asked:
            raise Unreadable(f"the value set {value_set} is made of itself", at="ValueSet.compose")
        if len(self._asked) >= limits.value_sets_deep_max:
            text = f"value sets name one another over more than {limits.value_sets_deep_max} steps"
            raise Unreadable(text, at="ValueSet.compose")
        if value_set not in self._expanded:
            with self._on_the_way(value_set):
                self._expanded[value_set] = await self._expansion(value_set)
        return self._expanded[value_set]

    async def _expansion(self, value_set: str) -> Expansion | None:
        found = await valueset.expansion(self._stored.connection, value_set)
        if found is not None:
            return found
        stored = await self._codes.value_set(self._stored, value_set)
        return valueset.listed(value_set, codes) if stored is None else await expand(self, stored)

    @contextmanager
    def _on_the_way(self, value_set: str) -> Iterator[None]:
        self._asked.add(value_set)
        try:
            yield
        finally:
            self._asked.discard(value_set)


async def _readable(stored: Canonicals, type_name: str, canonical: str) -> object:
    body = await stored.follow(type_name, canonical)
    try:
        return None if body is None else read_fhir.read(body)[0]
    except Unreadable:  # stored, but without what says its codes: not known, and the check says so
        return None


def _compiled(value_set: str, system: str | None, code: str) -> bool | None:
    """By R4's own value sets, and by the grammars of those that cannot be listed."""
    name = value_set.partition("|")[0]
    if name in GRAMMARS:
        grammar = GRAMMARS[name]
        return system in (None, grammar.system) and grammar.form.fullmatch(code) is not None
    listed: Mapping[str, frozenset[str]] | None = codes(name)
    if listed is None:
        return None
    return any(code in listed.get(one, ()) for one in (listed if system is None else [system]))


def _concepts(stored: CodeSystem) -> Concepts:
    return {
        one.code: {
            "display": one.display,
            "parent": one.parent,
            "selectable": one.selectable,
            "properties": one.properties,
        }
        for one in stored.concepts
    }


def _of_r4(system: str) -> Concepts | None:
    """A code system that R4 defines with a value set of the same name for all of it."""
    listed = codes(_R4_VALUE_SETS + system.removeprefix(_R4_SYSTEMS)) if system.startswith(_R4_SYSTEMS) else None
    if listed is None or listed.keys() != {system}:
        return None
    return {code: {"display": "", "parent": None, "selectable": True, "properties": {}} for code in listed[system]}
