"""Codes and value sets: by what an operator loaded, by stored resources, by R4's own, the first that knows.

Out:     whether a code is in a value set; the codes of a value set; a code system, or what is known of some codes
Keeps:   value sets and code systems that were read, for as long as their reader keeps this
Source:  FHIR R4 4.9.18.1 $expand, 4.9.18.2 $validate-code; value sets of R4's required bindings, as compiled
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ehr import limits
from ehr.fhir.profiles.grammars import GRAMMARS
from ehr.fhir.structure import codes, displays
from ehr.store.canonicals import Canonicals
from terminology import codesystem, read_fhir, valueset
from terminology.codesystem import Found
from terminology.errors import Unreadable
from terminology.expand import Codes as Expansion
from terminology.expand import expand
from terminology.membership import is_member
from terminology.resources import CodeSystem, Concept, ValueSet
from terminology.ucum import unit_of
from terminology.valueset import validate_code

_R4_VALUE_SETS: Final = "http://hl7.org/fhir/ValueSet/"
_R4_VERSION: Final = "4.0.1"
_UCUM: Final = "http://unitsofmeasure.org"
_UCUM_VALUE_SETS: Final = frozenset({"http://hl7.org/fhir/ValueSet/ucum-units", "http://unitsofmeasure.org/vs"})
_FORMS: Final = {grammar.system: grammar.form for grammar in GRAMMARS.values()}

BY_FORM: Final = frozenset({_UCUM, *_FORMS})
"""Code systems that are grammars."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Code system → version: where nothing else names one (defaults), whatever else does (forced), or as a check."""

    defaults: Mapping[str, str] = field(default_factory=dict)
    forced: Mapping[str, str] = field(default_factory=dict)
    checked: Mapping[str, str] = field(default_factory=dict)

    @property
    def systems(self) -> frozenset[str]:
        return frozenset(self.defaults) | frozenset(self.forced) | frozenset(self.checked)

    def of(self, url: str, version: str | None) -> str | None:
        """The one that is meant, of what a value set says."""
        checked = self.checked.get(url)
        if version and checked and version != checked:
            raise Unreadable(f"names {url}|{version}, and {checked} was to be found", at="ValueSet.compose")
        return self.forced.get(url) or version or checked or self.defaults.get(url)


AS_NAMED: Final = Versions()
NO_VERSIONS: Final[Mapping[str, str]] = MappingProxyType({})


class Codes:
    def __init__(self) -> None:
        self._value_sets: dict[str, ValueSet | None] = {}
        self._stored: dict[str, CodeSystem | None] = {}
        self._systems: dict[tuple[str, str | None], CodeSystem | None] = {}

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
        if canonical not in self._stored:
            found = await _readable(stored, "CodeSystem", canonical)
            self._stored[canonical] = found if isinstance(found, CodeSystem) else None
        return self._stored[canonical]

    async def system(self, stored: Canonicals, url: str, version: str | None) -> CodeSystem | None:
        """Loaded by an operator, else stored, else of R4's own; with all its concepts."""
        key = (url, version)
        if key not in self._systems:
            loaded = await codesystem.code_system(stored.connection, url, version)
            self._systems[key] = loaded if loaded is not None else await self._unloaded(stored, url, version)
        return self._systems[key]

    async def _unloaded(self, stored: Canonicals, url: str, version: str | None) -> CodeSystem | None:
        return await self.code_system(stored, f"{url}|{version}" if version else url) or _of_r4(url, version)

    async def find(self, stored: Canonicals, url: str, code: str, version: str | None = None) -> Found | None:
        """One code of a system; None where the system is not known, or only this code of it is not."""
        found = await codesystem.find(stored.connection, url, code, version)
        return found if found is not None else await self._beside_loaded(stored, url, code, version)

    async def find_each(
        self, stored: Canonicals, keys: Iterable[tuple[str, str]], versions: Mapping[str, str] = NO_VERSIONS
    ) -> dict[tuple[str, str], Found]:
        """What is known of each; a code system that is stored is read once."""
        asked = list(keys)
        found = {key: known for key in asked if (known := self._of_read(key, versions)) is not None}
        found |= await codesystem.find_each(stored.connection, [key for key in asked if key not in found], versions)
        for url, code in asked:
            if (url, code) not in found:
                known = await self._beside_loaded(stored, url, code, versions.get(url) or None)
                if known is not None and known.concept is not None:
                    found[url, code] = known
        return found

    def _of_read(self, key: tuple[str, str], versions: Mapping[str, str]) -> Found | None:
        """Where all of the system was read already."""
        url, code = key
        system = self._systems.get((url, versions.get(url) or None))
        concept = None if system is None else system.concepts.get(code)
        return None if system is None or concept is None else Found(system, concept)

    async def _beside_loaded(self, stored: Canonicals, url: str, code: str, version: str | None) -> Found | None:
        """By a stored code system or one of R4, else by a grammar or the project's own tables."""
        system = await self._unloaded(stored, url, version)
        if system is not None:
            return Found(system, system.find(code))
        return None if version is not None else _by_form(url, code) or codesystem.own(url, code)


class Asking:
    """One question, and the value sets it is asked of on the way: one that names itself has no more to say.

    What was answered on the way is kept: sets that share others would double the work with each step.
    """

    def __init__(self, codes: Codes, stored: Canonicals, versions: Versions = AS_NAMED) -> None:
        self._codes = codes
        self._stored = stored
        self._versions = versions
        self._asked: set[str] = set()
        self._expanded: dict[str, Expansion | None] = {}
        self._answers: dict[tuple[str, str | None, str], bool | None] = {}

    async def system(self, url: str, version: str | None) -> CodeSystem | None:
        return await self._codes.system(self._stored, url, self._versions.of(url, version))

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
            return await self._unstored_member(value_set, system, code)
        with self._on_the_way(value_set):
            return await is_member(self, stored, system, code)

    async def _unstored_member(self, value_set: str, system: str | None, code: str) -> bool | None:
        compiled = _compiled(value_set, system, code)
        implicit = valueset.implicit(value_set) if compiled is None else None
        return compiled if implicit is None else await is_member(self, implicit, system, code)

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
        return await expand(self, stored) if stored is not None else await self.unstored(value_set)

    async def unstored(self, value_set: str) -> Expansion | None:
        """Of R4, said by its url, or that of a code system which says that all its codes are in it."""
        listed = valueset.listed(value_set, codes)
        if listed is not None:
            return listed
        implicit = valueset.implicit(value_set)
        if implicit is not None:
            return await expand(self, implicit)
        system = await codesystem.code_system_of(self._stored.connection, value_set)
        return None if system is None else {(system.url, one.code): one.display for one in system.concepts.values()}

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


def by_form(value_set: str) -> str | None:
    """The system whose grammar says what is in a value set that cannot be listed; None for every other value set."""
    name = value_set.partition("|")[0]
    if name in _UCUM_VALUE_SETS:
        return _UCUM
    return GRAMMARS[name].system if name in GRAMMARS else None


def has_form(system: str, code: str) -> bool | None:
    """By the grammar of a system that cannot be listed; None for every other system."""
    if system == _UCUM:
        return unit_of(code) is not None
    return None if system not in _FORMS else _FORMS[system].fullmatch(code) is not None


def _by_form(system: str, code: str) -> Found | None:
    """None for a system that is no grammar."""
    formed = has_form(system, code)
    if formed is None:
        return None
    concept = Concept(code, displays(system).get(code) or code) if formed else None
    return Found(CodeSystem(system, "", "", "en"), concept)


def _of_r4(system: str, version: str | None) -> CodeSystem | None:
    """The codes of R4's required bindings; whole where a value set of the same name holds all of the system."""
    named = displays(system)
    if not named or system in BY_FORM or version not in {None, _R4_VERSION}:
        return None
    listed = codes(_R4_VALUE_SETS + system.rpartition("/")[2])
    content = "complete" if listed is not None and listed.keys() == {system} else "fragment"
    concepts = {code: Concept(code, display) for code, display in named.items()}
    return CodeSystem(system, _R4_VERSION, "", "en", concepts, content)
