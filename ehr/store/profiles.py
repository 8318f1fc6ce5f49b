"""Resources against profiles, with the StructureDefinitions, value sets and code systems that are stored.

In:      a unit of work, a resource the gate finds valid, canonical URLs
Out:     issues, as ehr.fhir.profiles.check finds them
Keeps:   what was fetched and compiled, for the process; a check that used any of it asks, in one statement, whether
         something changed, here or in another process, and then begins anew with nothing known
Source:  FHIR R4 resource.html#profile, resource-operation-validate.html
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ehr import limits
from ehr.errors import Issue, NotSupported, TooMuch
from ehr.fhir import codec
from ehr.fhir.profiles.check import check, check_claims
from ehr.fhir.profiles.core import core_type
from ehr.fhir.profiles.library import Library, Wanted
from ehr.fhir.profiles.rule import Profile
from ehr.fhir.r4 import TYPE_IDS
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Codes

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Tree = Mapping[str, Any]
T = TypeVar("T")

_TYPES: Final = [TYPE_IDS[name] for name in ("StructureDefinition", "ValueSet", "CodeSystem")]
_STATE: Final = """
SELECT count(*), sum(version), max(rid), max(updated),
  (SELECT max(loaded) FROM code_system), (SELECT max(loaded) FROM value_set)
FROM resource WHERE type_id = ANY($1)
"""
"""Changes with every write of these types: a create raises the count, an update the sum of versions."""


class _Known:
    """What was learned of one state of the definitions. A check that began with it ends with it."""

    def __init__(self, state: object) -> None:
        self.state = state
        self.library = Library()
        self.codes = Codes()

    async def fetch(self, uow: "UnitOfWork", wanted: Wanted) -> None:
        canonicals = Canonicals.within(uow)
        for canonical in wanted.profiles:
            body = await canonicals.follow("StructureDefinition", canonical)
            self.library.tell_profile(canonical, None if body is None else codec.loads(body))
        for question in wanted.codes:
            answer = await self.codes.member(canonicals, question.value_set, question.system, question.code)
            self.library.tell_code(question, answer)


class Profiles:
    """Held by the record of a process."""

    def __init__(self) -> None:
        self._known = _Known(None)

    async def problems(self, uow: "UnitOfWork", tree: Tree, canonicals: Sequence[str] = ()) -> list[Issue]:
        """Everything the profiles, those the resource claims and the definitions of its extensions say against it."""
        return await self._run(uow, lambda library: check(tree, canonicals, library))

    async def broken_claims(self, uow: "UnitOfWork", tree: Tree) -> list[Issue]:
        """The errors of a resource by the profiles it claims and that are known."""
        found = await self._run(uow, lambda library: check_claims(tree, library))
        return [issue for issue in found if issue.severity == "error"]

    async def require(self, uow: "UnitOfWork", canonical: str) -> None:
        """Raise NotSupported where nothing can be checked against a profile."""
        if core_type(canonical) is not None:
            return
        found = await self._run(uow, lambda library: library.profile(canonical))
        if not isinstance(found, Profile):
            why = found.text if found is not None else "store its StructureDefinition, or load its package"
            raise NotSupported(f"this profile cannot be checked: {why}", at="profile")

    async def _run(self, uow: "UnitOfWork", run: Callable[[Library], T]) -> T:
        """Run, fetch what was wanted, and run again, until nothing is."""
        known, is_fresh = self._known, False
        for _ in range(limits.profile_rounds_max):
            found = run(known.library)
            wanted = known.library.wanted()
            if wanted.is_asked and not is_fresh:
                is_fresh, before = True, known
                known = await self._current(uow)
                if known is not before:
                    continue
            if not wanted:
                return found
            await known.fetch(uow, wanted)
        raise TooMuch(f"its profiles name one another over more than {limits.profile_rounds_max} steps")

    async def _current(self, uow: "UnitOfWork") -> _Known:
        """What is known of the state as it is now."""
        state = tuple(await uow.connection.fetchrow(_STATE, _TYPES) or ())
        if state != self._known.state:
            self._known = _Known(state)
        return self._known
