"""Conditional create, update, patch and delete: criteria instead of an id, with nobody able to slip in between.

In:      criteria as If-None-Exist or the address has them; for a write, the gate's tree and the sender's bytes
Out:     the version that stands, and whether this request made it
Race:    the criteria are claimed before they are searched: a second writer of the same criteria waits for the first
         one's commit and then finds its resource
Whose:   a facility's client means its own resources (ehr.store.criteria)
         what is to be patched or deleted is locked, and then still matches
Errors:  PreconditionFailed for many matches, and where If-Match insists on a version of nothing; NotFound for a patch
         of nothing; Malformed where the body's id contradicts the match; Duplicate where nothing matches and the
         body's id is taken by something else
Source:  FHIR R4 http.html#ccreate, #cond-update, #patch, #3.1.0.7.1 (conditional delete, single)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ehr.errors import Duplicate, Malformed, NotFound, PreconditionFailed
from ehr.fhir.patch import Patch
from ehr.ids import new_id
from ehr.store import criteria
from ehr.store.access_sql import require
from ehr.store.conditions import Condition, find, is_exact
from ehr.store.criteria import Criteria
from ehr.store.faults import Raced
from ehr.store.locks import Holding, hold
from ehr.store.preconditions import Versions
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version

IF_NONE_EXIST = "If-None-Exist"


async def conditional_create(
    uow: UnitOfWork, type_name: str, text: str, body: bytes, tree: Mapping[str, Any]
) -> tuple[Version, bool]:
    """Create, unless exactly one resource matches: then that one, and False."""
    asked = criteria.parse(type_name, text, IF_NONE_EXIST)
    require(uow.access, type_name, "c")
    wanted = new_id()
    stands = await _claimed(uow, asked, wanted, own_only=False, at=IF_NONE_EXIST)
    if stands.id is not None:
        return await uow.resources.read(type_name, stands.id), False
    criteria.refuse_unlike(asked, tree, f"{type_name}.identifier")
    return await _write(uow, Write("C", type_name, wanted, body, tree, made_id=True), stands.holding)


async def conditional_update(
    uow: UnitOfWork,
    type_name: str,
    text: str,
    body: bytes,
    tree: Mapping[str, Any],
    *,
    if_match: Versions | None = None,
    if_none: bool = False,
) -> tuple[Version, bool]:
    """Update the one match (if_none: refuse it), or create: under the body's id where it has one, else one of ours."""
    asked = criteria.parse(type_name, text, type_name)
    require(uow.access, type_name, "u")
    sent = tree.get("id")
    wanted = sent if isinstance(sent, str) else new_id()
    stands = await _claimed(uow, asked, wanted, own_only=True, at=type_name)
    found = stands.id
    if found is not None and sent is not None and sent != found:
        raise Malformed("the body's id is not the id of the resource that matches", at=f"{type_name}.id")
    if found is None:
        criteria.refuse_unlike(asked, tree, f"{type_name}.identifier")
    if found is None and sent is not None:
        holding = await hold(uow.connection, [(type_name, wanted)], stands.holding)
        if (type_name, wanted) in holding.current:
            raise Duplicate("the body's id is that of a resource that does not match", at=f"{type_name}.id")
    made_id = found is None and sent is None
    write = Write("U", type_name, found or wanted, body, tree, if_match, made_id=made_id, if_none=if_none)
    return await _write(uow, write, stands.holding)


async def conditional_patch(
    uow: UnitOfWork, type_name: str, text: str, patch: Patch, *, if_match: Versions | None = None
) -> Version:
    """Patch the one match."""
    asked = criteria.parse(type_name, text, type_name)
    require(uow.access, type_name, "u")
    found, holding = await _held(uow, asked)
    if found is None:
        raise NotFound(f"no {type_name} matches the criteria", at=type_name)
    version, _ = await _write(uow, Write("U", type_name, found, if_match=if_match, patch=patch), holding)
    return version


async def conditional_delete(
    uow: UnitOfWork, type_name: str, text: str, *, if_match: Versions | None
) -> Version | None:
    """Delete the one match; nothing matches: nothing to do."""
    asked = criteria.parse(type_name, text, type_name)
    require(uow.access, type_name, "d")
    found, holding = await _held(uow, asked)
    if found is None:
        if if_match is not None:
            raise PreconditionFailed("nothing matches, so nothing is at the version of If-Match", at=type_name)
        return None
    (written,) = await uow.resources.apply([Write("D", type_name, found, if_match=if_match)], holding=holding)
    return written.version


async def _held(uow: UnitOfWork, asked: Criteria) -> tuple[str | None, Holding]:
    """The one match, locked. Looked for again once it is: it may have changed while another writer had it."""
    require(uow.access, asked.type_name, "s")
    found = _only(await criteria.matches(uow, uow.caller, uow.access, asked), asked.type_name)
    if found is None:
        return None, Holding()
    holding = await hold(uow.connection, [(asked.type_name, found)])
    if await criteria.matches(uow, uow.caller, uow.access, asked) != [found]:
        raise Raced("the match changed while it was looked at")
    return found, holding


@dataclass(frozen=True, slots=True)
class _Stands:
    """The one match of criteria, and what was locked with it."""

    id: str | None
    holding: Holding


async def _claimed(uow: UnitOfWork, asked: Criteria, wanted: str, *, own_only: bool, at: str) -> _Stands:
    """The one match, looked for while the claim on its criteria is held; the claim then names what will stand."""
    require(uow.access, asked.type_name, "s")
    scope, claimed = uow.caller.facility_id, (asked.type_name, asked.key)
    taken = await uow.claims.claim_new(scope, {claimed: wanted})
    look = [Condition(asked, "own" if own_only else "refer", writes=own_only)] if is_exact(asked) else []
    together = await find(uow, look, (), taken)
    if look:
        ids = [match.id for match in together.matches[look[0]]]
    else:
        ids = await (criteria.matches if own_only else criteria.referents)(uow, uow.caller, uow.access, asked)
    found = _only(ids, at)
    if together.owners.get(claimed, wanted) != (found or wanted):
        await uow.claims.pass_on(scope, asked.type_name, asked.key, found or wanted)
    return _Stands(found, together.holding)


def _only(found: list[str], at: str) -> str | None:
    if len(found) > 1:
        raise PreconditionFailed("the criteria match more than one resource; nothing was changed", at=at)
    return found[0] if found else None


async def _write(uow: UnitOfWork, write: Write, holding: Holding) -> tuple[Version, bool]:
    (written,) = await uow.resources.apply([write], holding=holding)
    assert written.version is not None, "a create or update has a version"
    return written.version, written.created
