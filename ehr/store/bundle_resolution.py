"""Which resource every entry and every reference of a transaction means.

In:      the entries; the database, inside the transaction
Out:     Resolution: the id of each write, its current row locked, what conditional creates found, the rewriting of
         references
Order:   claims of all conditions, sorted; then everything that must be known, together (ehr.store.conditions): a
         condition is looked up only while its claim is held, so no other transaction can make its resource meanwhile
Cost:    two statements where there are conditions, one where there are only ids, none where everything is new
Errors:  Invalid             two entries for one resource or one condition, a reference that cannot be resolved
         PreconditionFailed  a condition with many matches
         NotFound            a patch whose criteria match nothing
Source:  FHIR R4 3.1.0.11.2
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ehr.aside import Turns
from ehr.errors import Duplicate, EhrError, Invalid, Malformed, NotFound, PreconditionFailed, Refused
from ehr.fhir import references
from ehr.ids import new_id
from ehr.store import criteria
from ehr.store.access_sql import require
from ehr.store.bundle_entries import Entry, placed
from ehr.store.bundle_references import (
    Brought,
    Loose,
    base_of,
    loose_of,
    map_references,
    map_versions,
    refuse_shared,
    spelled,
)
from ehr.store.claims import Claimed
from ehr.store.conditions import Condition, Found, find, is_exact
from ehr.store.criteria import Criteria
from ehr.store.faults import Raced
from ehr.store.locks import Holding, Key
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork


class Target(msgspec.Struct, frozen=True):
    """The id a write goes to; made_id: chosen by us just now, so nothing can be there."""

    id: str
    made_id: bool


@dataclass(slots=True)
class Resolution:
    """What a transaction means.

    writes    entry → its target
    existing  conditional creates that found their resource, without its body
    mapping   for references
    bases     for relative references, by the base of the fullUrl of the entry they are in
    holding   the rows of writes, locked
    """

    writes: dict[str, Target] = field(default_factory=dict)
    existing: dict[str, Version] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)
    bases: dict[str, dict[str, str]] = field(default_factory=dict)
    holding: Holding = field(default_factory=Holding)

    def rewritten(self, entry: Entry, resource: Mapping[str, Any]) -> dict[str, Any]:
        mapping = self.mapping_of(entry)
        return references.rewrite(resource, mapping) if mapping else dict(resource)

    def mapping_of(self, entry: Entry) -> dict[str, str]:
        """What the references of one entry mean."""
        return self.bases.get(base_of(entry) or "", self.mapping) if self.bases else self.mapping

    def literal_of(self, entry: Entry) -> str:
        """What an entry writes, or what a conditional create found."""
        target = self.writes.get(entry.at)
        return f"{entry.type_name}/{target.id if target else self.existing[entry.at].id}"


@dataclass(slots=True)
class _Asked:
    """Everything that is looked up together."""

    found: Found
    searched: dict[tuple[Criteria, bool], list[Version]] = field(default_factory=dict)

    def matches(self, asked: Criteria, *, own: bool, writes: bool) -> list[Version]:
        if is_exact(asked):
            condition = Condition(asked, "own" if own else "refer", writes)
            return [match.as_version() for match in self.found.matches[condition]]
        return self.searched[asked, own]

    def referents(self, asked: Criteria) -> list[Version]:
        """What a conditional reference matches of what is stored."""
        return self.matches(asked, own=False, writes=False)


async def resolve(uow: "UnitOfWork", entries: list[Entry]) -> Resolution:
    resolution = Resolution()
    _refuse_equal_conditions(entries)
    conditional = [entry for entry in entries if entry.criteria is not None]
    wanted = {_claimed(entry): _wanted_id(entry) for entry in conditional if entry.method in ("POST", "PUT")}
    loose = [one for found in await Turns().each(loose_of, entries) for one in found]
    asked = await _look(uow, entries, wanted, loose)
    resolution.holding = asked.found.holding
    await _decide(uow, conditional, wanted, asked, resolution)
    for entry in entries:
        if entry.method == "POST" and entry.criteria is None:
            resolution.writes[entry.at] = Target(new_id(), made_id=True)
        elif entry.method in ("PUT", "PATCH", "DELETE") and entry.id:
            resolution.writes[entry.at] = Target(entry.id, made_id=False)
    _refuse_equal_targets(entries, resolution)
    brought = Brought(entries if conditional or loose else (), resolution)
    refuse_shared(conditional, brought)
    map_references(entries, loose, resolution, lambda named: brought.referents(named, asked.referents(named)))
    map_versions(entries, loose, resolution, uow.record.bodies)
    return resolution


async def _look(
    uow: "UnitOfWork", entries: Sequence[Entry], wanted: Mapping[Claimed, str], loose: Iterable[Loose]
) -> _Asked:
    """Claim every condition, then look everything up."""
    asked = _Asked(Found())
    conditions: dict[tuple[Criteria, bool], bool] = {}
    places: dict[Criteria, str] = {}
    for entry in entries:
        if entry.criteria is not None:
            require(uow.access, entry.type_name, "s")
            own = entry.method != "POST"
            conditions[entry.criteria, own] = own
            places.setdefault(entry.criteria, f"{entry.at}.request")
    here = {spelled(entry.criteria) for entry in entries if entry.criteria and entry.method in ("POST", "PUT")}
    for one in loose:
        if one.named is not None and spelled(one.named) not in here:
            require(uow.access, one.named.type_name, "s")
            conditions.setdefault((one.named, False), False)
            places.setdefault(one.named, one.at)
    taken = await uow.claims.claim_new(uow.caller.facility_id, wanted)
    exact = []
    for (named, own), writes in conditions.items():
        if is_exact(named):
            exact.append(Condition(named, "own" if own else "refer", writes))
        else:
            try:
                asked.searched[named, own] = await _searched(uow, named, own=own)
            except (Refused, PreconditionFailed) as error:
                raise placed(error, places[named]) from error
    asked.found = await find(uow, exact, _direct(entries, asked), taken)
    uow.claims.told(uow.caller.facility_id, asked.found.owners)
    for (named, own), versions_found in asked.searched.items():
        if own and versions_found and await _searched(uow, named, own=True) != versions_found:
            raise Raced("what a condition matches changed before it was locked")
    return asked


def _direct(entries: Iterable[Entry], asked: _Asked) -> Iterable[Key]:
    """What is written under an id that is known already."""
    for entry in entries:
        if entry.method not in ("PUT", "PATCH", "DELETE"):
            continue
        if entry.id:
            yield entry.type_name, entry.id
            continue
        sent = _body_id(entry)
        if sent:
            yield entry.type_name, sent
        if entry.criteria is not None and not is_exact(entry.criteria):
            for match in asked.searched[entry.criteria, True]:
                yield entry.type_name, match.id


async def _searched(uow: "UnitOfWork", named: Criteria, *, own: bool) -> list[Version]:
    """Matches of a condition that is a search, as far as references and targets need them: their ids."""
    look = criteria.matches if own else criteria.referents
    ids = await look(uow, uow.caller, uow.access, named)
    return [Version(named.type_name, id, 0, uow.now, "C", None, 0, 0, 0) for id in ids]


async def _decide(
    uow: "UnitOfWork",
    conditional: Sequence[Entry],
    wanted: Mapping[Claimed, str],
    asked: _Asked,
    resolution: Resolution,
) -> None:
    """What each conditional entry writes; claims that name something else are handed on."""
    settled: dict[Claimed, str] = {}
    for entry in conditional:
        matched = _one_match(entry, asked)
        if entry.method in ("PATCH", "DELETE"):
            if matched is None and (entry.method == "PATCH" or entry.if_match is not None):
                raise _nothing(entry)
            if matched:
                resolution.writes[entry.at] = Target(matched.id, made_id=False)
            continue
        claimed = _claimed(entry)
        owner = asked.found.owners.get(claimed, wanted[claimed])
        stands = matched.id if matched else wanted[claimed]
        if owner != stands:
            settled[claimed] = stands
        if matched and entry.method == "POST":
            resolution.existing[entry.at] = matched if matched.version else await _current(uow, matched)
        elif matched:
            _refuse_other_id(entry, matched.id)
            resolution.writes[entry.at] = Target(matched.id, made_id=False)
        else:
            assert entry.criteria is not None, "only these were chosen"
            criteria.refuse_unlike(entry.criteria, entry.resource or {}, f"{entry.at}.resource.identifier")
            _refuse_taken_id(entry, asked.found.holding)
            resolution.writes[entry.at] = Target(wanted[claimed], made_id=not _body_id(entry))
    await uow.claims.pass_on_many(uow.caller.facility_id, settled)


def _nothing(entry: Entry) -> EhrError:
    """A patch of nothing; or a deletion of a version of nothing."""
    at = f"{entry.at}.request"
    if entry.method == "PATCH":
        return NotFound(f"no {entry.type_name} matches the criteria", at=at)
    return PreconditionFailed("nothing matches, so nothing is at the version of ifMatch", at=at)


def _one_match(entry: Entry, asked: _Asked) -> Version | None:
    assert entry.criteria is not None, "only these were chosen"
    own = entry.method != "POST"
    matched = asked.matches(entry.criteria, own=own, writes=own)
    if len(matched) > 1:
        raise PreconditionFailed("the criteria match more than one resource", at=f"{entry.at}.request")
    return matched[0] if matched else None


async def _current(uow: "UnitOfWork", matched: Version) -> Version:
    return await uow.resources.read(matched.type_name, matched.id)


def _claimed(entry: Entry) -> Claimed:
    assert entry.criteria is not None, "an entry with a condition"
    return entry.type_name, entry.criteria.key


def _wanted_id(entry: Entry) -> str:
    return _body_id(entry) or new_id()


def _body_id(entry: Entry) -> str | None:
    """PUT by criteria without a match creates under the id of the body, where it has one."""
    sent = entry.resource.get("id") if entry.resource and entry.method == "PUT" else None
    return sent if isinstance(sent, str) else None


def _refuse_other_id(entry: Entry, matched: str) -> None:
    if (_body_id(entry) or matched) != matched:
        raise Malformed("the resource's id is not the id of the resource that matches", at=f"{entry.at}.resource.id")


def _refuse_taken_id(entry: Entry, holding: Holding) -> None:
    sent = _body_id(entry)
    if sent and (entry.type_name, sent) in holding.current:
        why = "the resource's id is that of another one, which does not match"
        raise Duplicate(why, at=f"{entry.at}.resource.id")


def _refuse_equal_conditions(entries: Iterable[Entry]) -> None:
    """Two entries with one condition would be one resource written twice; one of them must not vanish silently."""
    seen: dict[tuple[str, str], str] = {}
    for entry in entries:
        if entry.criteria is None:
            continue
        first = seen.setdefault((entry.type_name, entry.criteria.key), entry.at)
        if first != entry.at:
            raise Invalid(f"the same criteria as in {first}: one resource is written once", at=entry.at)


def _refuse_equal_targets(entries: Iterable[Entry], resolution: Resolution) -> None:
    """Nor may a conditional create answer with what another entry deletes: deletions come first (http.html#trules)."""
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        target = resolution.writes.get(entry.at)
        if target is None:
            continue
        first = seen.setdefault((entry.type_name, target.id), entry)
        if first is not entry:
            raise Invalid(f"the same resource as in {first.at}: one resource is written once", at=entry.at)
    for at, found in resolution.existing.items():
        other = seen.get((found.type_name, found.id))
        if other is not None and other.method == "DELETE":
            raise Invalid(f"its criteria find what {other.at} deletes; send the two in two transactions", at=at)
