"""Source Patients → persons: link by national number inside the transaction of the write; unlink exactly.

In:      every Patient written (a follower of the store)
Out:     claims on the numbers (scope 0), person_link, the Person resource; a Task where it must not decide alone
Rule:    a number has one owner. A source is linked to the owner of its surest number when name and birth date agree;
         numbers of two persons never merge them. Sources are never changed, so every link can be taken back
Race:    the claim makes parallel registrations of one number wait for the first: one Person, whatever their number
Level:   level3 by CCCD, level2 by passport or insurance number, level4 by an operator
Source:  FHIR R4 8.3 Person, identity-assuranceLevel
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ehr.errors import Duplicate, NotFound
from ehr.fhir.vietnam import PATIENT_NUMBER
from ehr.identity import conflicts, persons
from ehr.identity.lookup import person_of
from ehr.identity.newcomers import begin_persons
from ehr.identity.normalize import ASSURANCE, Number, Numbers, agree, systems_of
from ehr.identity.persons import CITY_SCOPE, LinkedPatient
from ehr.ids import new_id
from ehr.settings import Settings
from ehr.store import criteria
from ehr.store.criteria import Criteria, identifier_key
from ehr.store.version import Before, Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

OPERATOR_ASSURANCE: Final = "level4"

_LINKED: Final = "SELECT person_id, assurance FROM person_link WHERE shard = $1"


@dataclass(frozen=True, slots=True)
class _Choice:
    """person_id: the owner of the surest number. others: owners of further numbers, who stay apart."""

    person_id: str
    others: tuple[str, ...]
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Linked:
    """The person a source is linked to now, and how surely."""

    person_id: str | None
    assurance: str | None


_NOBODY: Final = _Linked(None, None)


class PersonLinker:
    """The follower that keeps persons."""

    types: Final = frozenset({"Patient"})

    def __init__(self, settings: Settings) -> None:
        self.numbers = Numbers(systems_of(settings))

    async def written(
        self,
        uow: "UnitOfWork",
        version: Version,
        tree: Mapping[str, Any] | None,
        before: Before | None = None,
    ) -> None:
        if tree is not None and before is not None and self._says_the_same(before, tree):
            return
        linked = _NOBODY
        if version.version > 1:
            row = await uow.connection.fetchrow(_LINKED, version.shard)
            linked = _Linked(row["person_id"], row["assurance"]) if row else _NOBODY
        current = linked.person_id
        if tree is None:
            await self._deleted(uow, version.id, current)
            return
        if before is None or before.tree.get("identifier") != tree.get("identifier"):
            await self._claim_own_number(uow, version, tree)
        stated = self.numbers.of(tree)
        if current is not None and before is not None and self._is_the_same(before, tree, stated):
            await persons.rewrite(uow, self.numbers, current, await persons.lock(uow, [current]))
        elif stated:
            await self._relate(uow, version, tree, stated, linked)
        elif current is not None:
            await persons.rewrite(uow, self.numbers, current, await persons.lock(uow, [current]))

    async def written_first(self, uow: "UnitOfWork", many: Sequence[tuple[Version, Mapping[str, Any]]]) -> None:
        """Many first versions at once: a chunk of an import."""
        others = await begin_persons(uow, self.numbers, many)
        later = {version.id for version, _ in others}
        for version, tree in many:
            if version.id in later:
                await self.written(uow, version, tree)
            else:
                await self._claim_own_number(uow, version, tree)

    def _says_the_same(self, before: Before, tree: Mapping[str, Any]) -> bool:
        """Nothing that makes a person has changed, and the source is linked, or states no number to be linked by."""
        if any(before.tree.get(name) != tree.get(name) for name in persons.SAID_BY_SOURCES):
            return False
        return before.person_id is not None or not self.numbers.of(tree)

    def _is_the_same(self, before: Before, tree: Mapping[str, Any], stated: list[Number]) -> bool:
        """Nothing that decides whose source it is has changed: only what the Person repeats of it."""
        return stated == self.numbers.of(before.tree) and all(
            before.tree.get(name) == tree.get(name) for name in ("name", "birthDate")
        )

    async def link(self, uow: "UnitOfWork", person_id: str, patient_id: str) -> None:
        """An operator says that the source is this person."""
        await uow.resources.read("Patient", patient_id)
        before = await person_of(uow.connection, patient_id)
        await persons.lock(uow, sorted({person_id, before or person_id}))
        if before is not None and before != person_id:
            await conflicts.report(uow, "unlinked", patient_id, before)
        await conflicts.settle(uow, "unlinked", patient_id, person_id)
        await conflicts.settle(uow, "differs", patient_id, person_id)
        await persons.set_link(uow, person_id, patient_id, OPERATOR_ASSURANCE)
        if before is not None and before != person_id:
            await persons.rewrite(uow, self.numbers, before)
        await persons.rewrite(uow, self.numbers, person_id)
        await uow.audit.execute("person-link", person_id=person_id, detail={"patient": patient_id})

    async def unlink(self, uow: "UnitOfWork", person_id: str, patient_id: str, *, reason: str) -> None:
        """An operator says that the source is not this person. Nothing else moves: clinical rows never did."""
        await persons.lock(uow, [person_id])
        if await person_of(uow.connection, patient_id) != person_id:
            raise NotFound("this Patient is not linked to this Person")
        await persons.drop_link(uow, patient_id)
        await conflicts.report(uow, "unlinked", patient_id, person_id, reason=reason)
        await persons.rewrite(uow, self.numbers, person_id)
        await uow.audit.execute("person-unlink", person_id=person_id, detail={"patient": patient_id})

    # ---- inside a Patient's write

    async def _deleted(self, uow: "UnitOfWork", patient_id: str, current: str | None) -> None:
        if current is not None:
            await persons.lock(uow, [current])
            await persons.drop_link(uow, patient_id)
            await persons.rewrite(uow, self.numbers, current)

    async def _relate(
        self,
        uow: "UnitOfWork",
        version: Version,
        patient: Mapping[str, Any],
        stated: list[Number],
        linked: "_Linked",
    ) -> None:
        """Claim the numbers, choose the person, and link or report."""
        current, assurance = linked.person_id, linked.assurance
        patient_id = str(patient["id"])
        alone = current is not None and [s.id for s in await persons.sources(uow, current)] == [patient_id]
        mine = current if current is not None and alone else new_id()
        owners = await uow.claims.claim_many(CITY_SCOPE, "Person", {number.key: mine for number in stated})
        if current is None and set(owners.values()) == {mine}:
            source = LinkedPatient(patient_id, ASSURANCE[stated[0].kind], version.rid, patient)
            await persons.begin(uow, self.numbers, {mine: source})
            return
        await persons.lock(uow, sorted({*owners.values(), *([current] if current else [])}))
        if current is not None and assurance == OPERATOR_ASSURANCE:
            choice = _Choice(current, tuple(sorted({*owners.values()} - {current, mine})), is_new=False)
        else:
            choice = await self._choose(uow, stated, owners, mine, is_new=not alone)
        for number in stated:
            if owners[number.key] == mine and choice.person_id != mine:
                await uow.claims.pass_on(CITY_SCOPE, "Person", number.key, choice.person_id)
        for other in choice.others:
            await conflicts.report(uow, "numbers", patient_id, other)
        level = assurance if assurance == OPERATOR_ASSURANCE else ASSURANCE[stated[0].kind]
        assert level is not None, "a link has a level"
        if await self._may_link(uow, choice, patient, level):
            await persons.set_link(uow, choice.person_id, patient_id, level)
            moved = current is not None and current != choice.person_id
        else:
            if current is not None:
                await persons.drop_link(uow, patient_id)
            moved = current is not None and current != choice.person_id
        if moved and current is not None:
            await persons.rewrite(uow, self.numbers, current)
        await persons.rewrite(uow, self.numbers, choice.person_id)

    async def _choose(
        self, uow: "UnitOfWork", stated: list[Number], owners: Mapping[str, str], mine: str, *, is_new: bool
    ) -> _Choice:
        """The person of the surest number. A number nobody owned joins a person known by a weaker one,
        unless that person has another number of the same kind."""
        fresh = [number for number in stated if owners[number.key] == mine]
        known = list(dict.fromkeys(owners[number.key] for number in stated if owners[number.key] != mine))
        if not known:
            return _Choice(mine, (), is_new)
        if owners[stated[0].key] != mine:
            return _Choice(known[0], tuple(known[1:]), is_new=False)
        held = await persons.held_keys(uow.connection, known[0])
        if any(key.startswith(f"{number.system}|") for key in held for number in fresh):
            return _Choice(mine, tuple(known), is_new)
        return _Choice(known[0], tuple(known[1:]), is_new=False)

    async def _may_link(self, uow: "UnitOfWork", choice: _Choice, patient: Mapping[str, Any], level: str) -> bool:
        """Whether this source can be that person; what speaks against it becomes a Task."""
        if choice.is_new or level == OPERATOR_ASSURANCE:
            return True
        patient_id = str(patient["id"])
        if await conflicts.is_unlinked(uow, patient_id, choice.person_id):
            return False
        anchors = [s for s in await persons.sources(uow, choice.person_id) if s.id != patient_id]
        if anchors and not agree(anchors[0].tree, patient):
            await conflicts.report(uow, "differs", patient_id, choice.person_id)
            return False
        await conflicts.settle(uow, "differs", patient_id, choice.person_id)
        return True

    async def _claim_own_number(self, uow: "UnitOfWork", version: Version, tree: Mapping[str, Any]) -> None:
        """A facility's own number is one source Patient of that facility."""
        if not version.source:
            return
        for identifier in tree.get("identifier", ()):
            value = identifier.get("value")
            if identifier.get("system") != PATIENT_NUMBER or not value or identifier.get("use") == "old":
                continue
            key = identifier_key(PATIENT_NUMBER, value)
            owner = await uow.claims.claim(version.source, "Patient", key, version.id)
            if owner == version.id:
                continue
            asked = Criteria("Patient", (("identifier", key),))
            others = set(await criteria.matches(uow, uow.caller, uow.access, asked)) - {version.id}
            if others:
                raise Duplicate(
                    "this patient number belongs to another Patient of the facility", at="Patient.identifier"
                )
            await uow.claims.pass_on(version.source, "Patient", key, version.id)
