"""Resources against profiles, with the StructureDefinitions, value sets and code systems that are stored.

In:      a unit of work, a resource the gate finds valid, canonical URLs
Out:     issues, as ehr.fhir.profiles.check finds them
Keeps:   what was fetched and compiled, for the process; a check that used any of it asks, in one statement, whether
         something changed, here or in another process, and then all is fetched anew
Why:     read as the city, not as the caller: a profile binds everyone, and holds nothing of a patient
Source:  FHIR R4 references.html#canonical, resource.html#profile
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr import limits
from ehr.access.policy import Caller, predicate
from ehr.errors import Issue, NotSupported, TooMuch
from ehr.fhir import codec
from ehr.fhir.profiles.check import check
from ehr.fhir.profiles.core import core_type
from ehr.fhir.profiles.library import CodeQuestion, Library, Wanted
from ehr.fhir.profiles.rule import Profile
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import codes
from terminology import read_fhir
from terminology.errors import Unreadable
from terminology.expand import concepts_of
from terminology.membership import Concepts, is_member
from terminology.resources import CodeSystem, ValueSet
from terminology.valueset import validate_code

if TYPE_CHECKING:
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

Tree = Mapping[str, Any]

_TYPES: Final = [TYPE_IDS[name] for name in ("StructureDefinition", "ValueSet", "CodeSystem")]
_STATE: Final = """
SELECT count(*), sum(version), max(rid), max(updated),
  (SELECT max(loaded) FROM code_system), (SELECT max(loaded) FROM value_set)
FROM resource WHERE type_id = ANY($1)
"""
"""Changes with every write of these types: a create raises the count, an update the sum of versions."""
_BODIES: Final = "SELECT body FROM resource WHERE type_id = $1 AND id = ANY($2) ORDER BY updated DESC, rid DESC"
_VERSIONS_MAX: Final = 100
"""Resources of one canonical URL that are looked at."""


class Profiles:
    """Held by the record of a process."""

    def __init__(self, record: "Record") -> None:
        self._record = record
        self._library = Library()
        self._state: object = None
        self._value_sets: dict[str, ValueSet | None] = {}
        self._concepts: dict[tuple[str, str | None], Concepts | None] = {}

    async def problems(self, uow: "UnitOfWork", tree: Tree, canonicals: Sequence[str] = ()) -> list[Issue]:
        """Everything the profiles, those the resource claims and the definitions of its extensions say against it."""
        is_fresh = False
        for _ in range(limits.profile_rounds_max):
            state = self._state
            found = check(tree, canonicals, self._library)
            wanted = self._library.wanted()
            if not is_fresh and wanted.is_asked:
                await self._refresh(uow)
                is_fresh = True
                if self._state is not state:
                    continue
            if not wanted:
                return found
            await self._fetch(uow, wanted)
        raise _too_deep()

    async def require(self, uow: "UnitOfWork", canonical: str) -> None:
        """Raise NotSupported where nothing can be checked against a profile."""
        await self._refresh(uow)
        for _ in range(limits.profile_rounds_max):
            found = self._library.profile(canonical)
            wanted = self._library.wanted()
            if isinstance(found, Profile) or core_type(canonical):
                return
            if not wanted:
                why = found.text if found is not None else "store its StructureDefinition, or load its package"
                raise NotSupported(f"this profile cannot be checked: {why}", at="profile")
            await self._fetch(uow, wanted)
        raise _too_deep()

    # ---- what is known

    async def _refresh(self, uow: "UnitOfWork") -> None:
        state = tuple(await uow.connection.fetchrow(_STATE, _TYPES) or ())
        if state != self._state:  # else the same object stays: it says that nothing was forgotten meanwhile
            self._state = state
            self._library.forget()
            self._value_sets.clear()
            self._concepts.clear()

    async def _fetch(self, uow: "UnitOfWork", wanted: Wanted) -> None:
        for canonical in wanted.profiles:
            body = await self._by_canonical(uow, "StructureDefinition", canonical)
            self._library.tell_profile(canonical, None if body is None else codec.loads(body))
        known = _Known(self, uow)
        for question in wanted.codes:
            self._library.tell_code(question, await known.member(question.value_set, question.system, question.code))

    async def _by_canonical(self, uow: "UnitOfWork", type_name: str, canonical: str) -> bytes | None:
        """The resource of this url and version; without a version the newest that is not retired."""
        assert self._record.matcher is not None, "a record that checks profiles can search"
        url, _, version = canonical.partition("|")
        await uow.plan("values")
        ids = await self._record.matcher(
            uow.connection,
            type_name,
            [("url", _escaped(url)), *([("version", _escaped(version))] if version else [])],
            predicate(Caller.system("profiles")),
            source=None,
            limit=_VERSIONS_MAX,
        )
        if not ids:
            return None
        rows = await uow.connection.fetch(_BODIES, TYPE_IDS[type_name], ids)
        bodies = [self._record.bodies.decompress(row["body"]) for row in rows]
        return max(bodies, key=lambda body: _rank(orjson.loads(body)))

    async def value_set(self, uow: "UnitOfWork", canonical: str) -> ValueSet | None:
        if canonical not in self._value_sets:
            found = await self._readable(uow, "ValueSet", canonical)
            self._value_sets[canonical] = found if isinstance(found, ValueSet) else None
        return self._value_sets[canonical]

    async def concepts(self, uow: "UnitOfWork", system: str, version: str | None) -> Concepts | None:
        """Loaded by an operator, else stored."""
        key = (system, version)
        if key not in self._concepts:
            found: Concepts | None = await concepts_of(uow.connection, system, version) or None
            if found is None:
                stored = await self._readable(uow, "CodeSystem", f"{system}|{version}" if version else system)
                found = _concepts(stored) if isinstance(stored, CodeSystem) else None
            self._concepts[key] = found
        return self._concepts[key]

    async def _readable(self, uow: "UnitOfWork", type_name: str, canonical: str) -> object:
        body = await self._by_canonical(uow, type_name, canonical)
        try:
            return None if body is None else read_fhir.read(body)[0]
        except Unreadable:  # stored, but without what says its codes: not known, and the check says so
            return None


class _Known:
    """What terminology asks while it looks for a code, in one unit of work."""

    def __init__(self, profiles: Profiles, uow: "UnitOfWork") -> None:
        self._profiles = profiles
        self._uow = uow
        self._asking: set[str] = set()

    async def concepts(self, system: str, version: str | None) -> Concepts | None:
        return await self._profiles.concepts(self._uow, system, version)

    async def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Loaded by an operator, else stored, else compiled from R4."""
        found = (await validate_code(self._uow.connection, value_set, code, system=system)).result
        if found is not None or value_set in self._asking:
            return found
        stored = await self._profiles.value_set(self._uow, value_set)
        if stored is None:
            return _compiled(CodeQuestion(value_set, system, code))
        self._asking.add(value_set)
        try:
            return await is_member(self, stored, system, code)
        finally:
            self._asking.discard(value_set)


def _too_deep() -> TooMuch:
    return TooMuch(f"its profiles name one another over more than {limits.profile_rounds_max} steps")


def _compiled(question: CodeQuestion) -> bool | None:
    listed = codes(question.value_set.partition("|")[0])
    if listed is None:
        return None
    systems = listed if question.system is None else [question.system]
    return any(question.code in listed.get(system, ()) for system in systems)


def _concepts(stored: CodeSystem) -> Concepts:
    return {
        one.code: {"parent": one.parent, "selectable": one.selectable, "properties": one.properties}
        for one in stored.concepts
    }


def _rank(tree: Tree) -> tuple[bool, list[tuple[int, str]]]:
    """By which the newest of a canonical URL is the greatest: 1.10.0 is after 1.9.0, and a release after its draft."""
    release, _, draft = str(tree.get("version", "")).partition("-")
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in release.split(".")]
    return tree.get("status") != "retired", [*parts, (0, "") if not draft else (-1, draft)]


def _escaped(value: str) -> str:
    """A value of a search parameter, whose separators are escaped with a backslash (search.html#escaping)."""
    return "".join("\\" + char if char in "\\,|$" else char for char in value)
