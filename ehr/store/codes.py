"""A code → whether it is in a value set, by what an operator loaded, by stored resources, by R4's own.

Keeps:   value sets and code systems that were read, for as long as their reader keeps this
Source:  FHIR R4 4.9.18.2 $validate-code; value sets of R4's required bindings, as compiled
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ehr.fhir.profiles.grammars import GRAMMARS
from ehr.fhir.structure import codes
from ehr.store.canonicals import by_canonical
from terminology import read_fhir
from terminology.errors import Unreadable
from terminology.expand import concepts_of
from terminology.membership import Concepts, is_member
from terminology.resources import CodeSystem, ValueSet
from terminology.valueset import validate_code

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

_R4_SYSTEMS: Final = "http://hl7.org/fhir/"
_R4_VALUE_SETS: Final = "http://hl7.org/fhir/ValueSet/"


class Codes:
    def __init__(self) -> None:
        self._value_sets: dict[str, ValueSet | None] = {}
        self._concepts: dict[tuple[str, str | None], Concepts | None] = {}

    async def member(self, uow: "UnitOfWork", value_set: str, system: str | None, code: str) -> bool | None:
        """system None: of a code element. None: nobody here knows."""
        return await _Asking(self, uow).member(value_set, system, code)

    async def value_set(self, uow: "UnitOfWork", canonical: str) -> ValueSet | None:
        """As it is stored."""
        if canonical not in self._value_sets:
            found = await _readable(uow, "ValueSet", canonical)
            self._value_sets[canonical] = found if isinstance(found, ValueSet) else None
        return self._value_sets[canonical]

    async def concepts(self, uow: "UnitOfWork", system: str, version: str | None) -> Concepts | None:
        """Loaded by an operator, else stored, else of R4's own."""
        key = (system, version)
        if key not in self._concepts:
            found: Concepts | None = await concepts_of(uow.connection, system, version) or None
            if found is None:
                stored = await _readable(uow, "CodeSystem", f"{system}|{version}" if version else system)
                found = _concepts(stored) if isinstance(stored, CodeSystem) else _of_r4(system)
            self._concepts[key] = found
        return self._concepts[key]


class _Asking:
    """One question, and the value sets it is asked of on the way: one that names itself has no more to say."""

    def __init__(self, codes: Codes, uow: "UnitOfWork") -> None:
        self._codes = codes
        self._uow = uow
        self._asked: set[str] = set()

    async def concepts(self, system: str, version: str | None) -> Concepts | None:
        return await self._codes.concepts(self._uow, system, version)

    async def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        found = (await validate_code(self._uow.connection, value_set, code, system=system)).result
        if found is not None or value_set in self._asked:
            return found
        stored = await self._codes.value_set(self._uow, value_set)
        if stored is None:
            return _compiled(value_set, system, code)
        self._asked.add(value_set)
        try:
            return await is_member(self, stored, system, code)
        finally:
            self._asked.discard(value_set)


async def _readable(uow: "UnitOfWork", type_name: str, canonical: str) -> object:
    body = await by_canonical(uow, type_name, canonical)
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
        one.code: {"parent": one.parent, "selectable": one.selectable, "properties": one.properties}
        for one in stored.concepts
    }


def _of_r4(system: str) -> Concepts | None:
    """A code system that R4 defines with a value set of the same name for all of it."""
    listed = codes(_R4_VALUE_SETS + system.removeprefix(_R4_SYSTEMS)) if system.startswith(_R4_SYSTEMS) else None
    if listed is None or listed.keys() != {system}:
        return None
    return {code: {"parent": None, "selectable": True, "properties": {}} for code in listed[system]}
