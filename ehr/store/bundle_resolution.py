"""Which resource every entry and every reference of a transaction means.

In:      the entries; the database, inside the transaction
Out:     Resolution: the id of each write, its current row locked, what conditional creates found, the rewriting of
         references
Order:   claims of all conditions, sorted; then everything that must be known, together (ehr.store.conditions): a
         condition is looked up only while its claim is held, so no other transaction can make its resource meanwhile
Cost:    two statements where there are conditions, one where there are only ids, none where everything is new
Errors:  Invalid             two entries for one resource or one condition, a reference that cannot be resolved
         PreconditionFailed  a condition with many matches
Source:  FHIR R4 3.1.0.11.2
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ehr.errors import Invalid, Malformed, PreconditionFailed
from ehr.fhir import references
from ehr.ids import new_id
from ehr.store import criteria
from ehr.store.access_sql import require
from ehr.store.bundle_entries import Entry
from ehr.store.claims import Claimed
from ehr.store.conditions import Condition, Found, find, is_exact
from ehr.store.criteria import Criteria
from ehr.store.locks import Holding, Key
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Target:
    """The id a write goes to; made_id: chosen by us just now, so nothing can be there."""

    id: str
    made_id: bool


@dataclass(slots=True)
class Resolution:
    """What a transaction means.

    writes    entry → its target
    existing  conditional creates that found their resource, without its body
    mapping   for references
    holding   the rows of writes, locked
    """

    writes: dict[str, Target] = field(default_factory=dict)
    existing: dict[str, Version] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)
    holding: Holding = field(default_factory=Holding)

    def rewritten(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        return references.rewrite(resource, self.mapping) if self.mapping else dict(resource)


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


async def resolve(uow: "UnitOfWork", entries: list[Entry]) -> Resolution:
    resolution = Resolution()
    _refuse_equal_conditions(entries)
    conditional = [entry for entry in entries if entry.criteria is not None]
    wanted = {_claimed(entry): _wanted_id(entry) for entry in conditional if entry.method != "DELETE"}
    loose = [found for entry in entries for found in _loose(entry)]
    asked = await _look(uow, entries, wanted, loose)
    resolution.holding = asked.found.holding
    await _decide(uow, conditional, wanted, asked, resolution)
    for entry in entries:
        if entry.method == "POST" and entry.criteria is None:
            resolution.writes[entry.at] = Target(new_id(), made_id=True)
        elif entry.method in ("PUT", "DELETE") and entry.id:
            resolution.writes[entry.at] = Target(entry.id, made_id=False)
    _refuse_equal_targets(entries, resolution)
    _map_full_urls(entries, resolution)
    _map_references(loose, asked, resolution)
    return resolution


@dataclass(frozen=True, slots=True)
class _Loose:
    """A reference of an entry that must be resolved: a condition, or (named is None) a urn."""

    entry: Entry
    text: str
    named: Criteria | None

    @property
    def at(self) -> str:
        return _place(self.entry, self.text)


def _loose(entry: Entry) -> Iterator[_Loose]:
    for text in dict.fromkeys(references.texts(entry.resource)) if entry.resource is not None else ():
        if text.startswith("urn:") or "?" in text:
            parsed = references.parse(text)
            if parsed.kind == "urn":
                yield _Loose(entry, text, None)
            elif parsed.kind == "conditional" and parsed.type:
                yield _Loose(entry, text, criteria.parse(parsed.type, text, _place(entry, text)))


def _place(entry: Entry, text: str) -> str:
    """Where an entry's resource has this reference first."""
    assert entry.resource is not None, "an entry with references"
    path = next(found.path for found in references.find(entry.resource) if found.value == text)
    return f"{entry.at}.resource{path.removeprefix(entry.type_name)}"


async def _look(
    uow: "UnitOfWork", entries: Sequence[Entry], wanted: Mapping[Claimed, str], loose: Iterable[_Loose]
) -> _Asked:
    """Claim every condition, then look everything up."""
    asked = _Asked(Found())
    conditions: dict[tuple[Criteria, bool], bool] = {}
    for entry in entries:
        if entry.criteria is not None:
            require(uow.access, entry.type_name, "s")
            own = entry.method != "POST"
            conditions[entry.criteria, own] = own
    here = {_spelled(entry.criteria) for entry in entries if entry.criteria is not None and entry.method != "DELETE"}
    for one in loose:
        if one.named is not None and _spelled(one.named) not in here:
            require(uow.access, one.named.type_name, "s")
            conditions.setdefault((one.named, False), False)
    taken = await uow.claims.claim_new(uow.caller.facility_id, wanted)
    exact = []
    for (named, own), writes in conditions.items():
        if is_exact(named):
            exact.append(Condition(named, "own" if own else "refer", writes))
        else:
            asked.searched[named, own] = await _searched(uow, named, own=own)
    asked.found = await find(uow, exact, _direct(entries, asked), taken)
    uow.claims.told(uow.caller.facility_id, asked.found.owners)
    return asked


def _direct(entries: Iterable[Entry], asked: _Asked) -> Iterable[Key]:
    """What is written under an id that is known already."""
    for entry in entries:
        if entry.method not in ("PUT", "DELETE"):
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
        if entry.method == "DELETE":
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
            resolution.writes[entry.at] = Target(wanted[claimed], made_id=not _body_id(entry))
    await uow.claims.pass_on_many(uow.caller.facility_id, settled)


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
    seen: dict[tuple[str, str], str] = {}
    for entry in entries:
        target = resolution.writes.get(entry.at)
        if target is None:
            continue
        first = seen.setdefault((entry.type_name, target.id), entry.at)
        if first != entry.at:
            raise Invalid(f"the same resource as in {first}: one resource is written once", at=entry.at)


def _map_full_urls(entries: Iterable[Entry], resolution: Resolution) -> None:
    for entry in entries:
        if entry.method not in ("POST", "PUT"):
            continue
        target = resolution.writes.get(entry.at)
        id = target.id if target else resolution.existing[entry.at].id
        literal = f"{entry.type_name}/{id}"
        sent = entry.full_url
        if sent and sent != literal and resolution.mapping.setdefault(sent, literal) != literal:
            raise Invalid("two entries have this fullUrl", at=f"{entry.at}.fullUrl")
        if entry.criteria is not None:
            resolution.mapping[_spelled(entry.criteria)] = literal


def _spelled(asked: Criteria) -> str:
    return f"{asked.type_name}?{asked.key}"


def _map_references(loose: Iterable[_Loose], asked: _Asked, resolution: Resolution) -> None:
    """Conditional references mean what was found; urn references must be an entry of the Bundle."""
    for one in loose:
        if one.entry.at not in resolution.writes or one.text in resolution.mapping:
            continue
        if one.named is None:
            raise Invalid("the reference names no entry of the Bundle (fullUrl)", at=one.at)
        here = resolution.mapping.get(_spelled(one.named))
        resolution.mapping[one.text] = here or _referent(one, one.named, asked)


def _referent(one: _Loose, named: Criteria, asked: _Asked) -> str:
    matched = asked.matches(named, own=False, writes=False)
    if len(matched) != 1:
        many = "more than one resource" if matched else "no resource"
        raise PreconditionFailed(f"the conditional reference matches {many}", at=one.at)
    return f"{named.type_name}/{matched[0].id}"
