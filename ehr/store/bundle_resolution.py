"""Which resource every entry and every reference of a transaction means.

In:      the entries; the database, inside the transaction
Out:     Resolution: the id of each write, the ids that conditional creates found, the rewriting of references
Order:   claims of all conditions, sorted; then the searches; then references. A condition is searched only while its
         claim is held, so no other transaction can make its resource meanwhile
Errors:  Invalid             two entries for one resource or one condition, a reference that cannot be resolved
         PreconditionFailed  a condition with many matches
Source:  FHIR R4 3.1.0.11.2
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ehr.errors import Invalid, Malformed, PreconditionFailed
from ehr.fhir import references
from ehr.ids import new_id
from ehr.store import criteria
from ehr.store.access_sql import require
from ehr.store.bundle_entries import Entry
from ehr.store.criteria import Criteria

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Target:
    """The id a write goes to; made_id: chosen by us just now, so nothing can be there."""

    id: str
    made_id: bool


@dataclass(slots=True)
class Resolution:
    """writes: entry → its target. existing: conditional creates that found their resource. mapping: for references."""

    writes: dict[str, Target] = field(default_factory=dict)
    existing: dict[str, str] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)

    def rewritten(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        return references.rewrite(resource, self.mapping) if self.mapping else dict(resource)


async def resolve(uow: "UnitOfWork", entries: list[Entry]) -> Resolution:
    resolution = Resolution()
    _refuse_equal_conditions(entries)
    await _conditions(uow, entries, resolution)
    for entry in entries:
        if entry.method == "POST" and entry.criteria is None:
            resolution.writes[entry.at] = Target(new_id(), made_id=True)
        elif entry.method in ("PUT", "DELETE") and entry.id:
            resolution.writes[entry.at] = Target(entry.id, made_id=False)
    _refuse_equal_targets(entries, resolution)
    _map_full_urls(entries, resolution)
    await _references(uow, entries, resolution)
    return resolution


async def _conditions(uow: "UnitOfWork", entries: list[Entry], resolution: Resolution) -> None:
    """Claim every condition, then look for what it matches, then decide."""
    conditional = [entry for entry in entries if entry.criteria is not None]
    by_type: dict[str, dict[str, str]] = {}
    for entry in conditional:
        if entry.method != "DELETE":
            assert entry.criteria is not None, "only these were chosen"
            by_type.setdefault(entry.type_name, {})[entry.criteria.key] = _wanted_id(entry)
    scope = uow.caller.facility_id
    owners = {name: await uow.claims.claim_many(scope, name, by_type[name]) for name in sorted(by_type)}
    found = await _matches(uow, conditional)
    for entry in conditional:
        assert entry.criteria is not None, "only these were chosen"
        matched = found.get(entry.at)
        if entry.method == "DELETE":
            if matched:
                resolution.writes[entry.at] = Target(matched, made_id=False)
            continue
        wanted = by_type[entry.type_name][entry.criteria.key]
        owner = owners[entry.type_name][entry.criteria.key]
        settled = matched or wanted
        if owner != settled:
            await uow.claims.pass_on(scope, entry.type_name, entry.criteria.key, settled)
        if matched and entry.method == "POST":
            resolution.existing[entry.at] = matched
        elif matched:
            _refuse_other_id(entry, matched)
            resolution.writes[entry.at] = Target(matched, made_id=False)
        else:
            resolution.writes[entry.at] = Target(wanted, made_id=not _body_id(entry))


async def _matches(uow: "UnitOfWork", conditional: Sequence[Entry]) -> dict[str, str]:
    """entry → the one resource its condition matches, where there is one."""
    found: dict[str, str] = {}
    for find, entries in (
        (criteria.referents_many, [entry for entry in conditional if entry.method == "POST"]),
        (criteria.matches_many, [entry for entry in conditional if entry.method != "POST"]),
    ):
        for entry in entries:
            require(uow.access, entry.type_name, "s")
        asked = [entry.criteria for entry in entries if entry.criteria is not None]
        ids = await find(uow, uow.caller, uow.access, asked) if asked else {}
        for entry in entries:
            assert entry.criteria is not None, "only these were chosen"
            matched = ids[entry.criteria]
            if len(matched) > 1:
                raise PreconditionFailed("the criteria match more than one resource", at=f"{entry.at}.request")
            if matched:
                found[entry.at] = matched[0]
    return found


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
        id = target.id if target else resolution.existing[entry.at]
        literal = f"{entry.type_name}/{id}"
        sent = entry.full_url
        if sent and sent != literal and resolution.mapping.setdefault(sent, literal) != literal:
            raise Invalid("two entries have this fullUrl", at=f"{entry.at}.fullUrl")
        if entry.criteria is not None:
            resolution.mapping[_spelled(entry.criteria)] = literal


def _spelled(asked: Criteria) -> str:
    return f"{asked.type_name}?{asked.key}"


async def _references(uow: "UnitOfWork", entries: Iterable[Entry], resolution: Resolution) -> None:
    """Conditional references are looked up, all together; urn references must be an entry of the Bundle."""
    asked: dict[str, tuple[Criteria, str]] = {}
    for entry in entries:
        if entry.resource is None or entry.at not in resolution.writes:
            continue
        for found in references.find(entry.resource):
            if found.value in resolution.mapping or found.value in asked:
                continue
            parsed = references.parse(found.value)
            at = f"{entry.at}.resource{found.path.removeprefix(entry.type_name)}"
            if parsed.kind == "urn":
                raise Invalid("the reference names no entry of the Bundle (fullUrl)", at=at)
            if parsed.kind == "conditional":
                assert parsed.type, "a conditional reference names a type"
                asked[found.value] = criteria.parse(parsed.type, found.value, at), at
    outside = {}
    for text, (one, at) in asked.items():
        here = resolution.mapping.get(_spelled(one))
        if here is not None:
            resolution.mapping[text] = here
        else:
            require(uow.access, one.type_name, "s")
            outside[text] = one, at
    if not outside:
        return
    ids = await criteria.referents_many(uow, uow.caller, uow.access, [one for one, _ in outside.values()])
    for text, (one, at) in outside.items():
        if len(ids[one]) != 1:
            many = "more than one resource" if ids[one] else "no resource"
            raise PreconditionFailed(f"the conditional reference matches {many}", at=at)
        resolution.mapping[text] = f"{one.type_name}/{ids[one][0]}"
