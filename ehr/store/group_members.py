"""The Patients of a Group, now or at an earlier moment; those of Groups that are members of it, too.

In:      a unit of work; the Group's id
Out:     Members: ids of Patients, each once, in the order of the Group; what else the Group names, for its reader to
         be told: a member that is passed over in silence is a patient whom nobody misses
Member   who is not inactive, and whose period, where one is given, holds the moment. A version in a reference says
         which state was meant when it was written; the member is the Patient
Errors:  NotFound, Gone   the Group itself; one within it is told like any other member that cannot be followed
         TooMuch          Groups within Groups without end
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ehr import limits
from ehr.clock import us_of
from ehr.errors import EhrError, NotFound, TooMuch
from ehr.fhir import codec
from ehr.fhir.references import parse
from ehr.index.ranges import date_range

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Members:
    """told: why members are not among the patients."""

    patients: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


async def members(uow: "UnitOfWork", id: str, moment: datetime | None = None) -> Members:
    """Who belongs to the Group. moment: then, and nobody where the Group was not there yet; None: now."""
    found = Members()
    tree = await _group(uow, id, moment)
    at_us = us_of(moment or uow.now)
    waiting = [tree] if tree is not None else []
    met = {id}
    while waiting:
        group = waiting.pop(0)
        if group.get("actual") is not True:
            found.told.append(f"Group/{group['id']} describes persons and names none; a search finds whom it describes")
        for entity in _present(group, at_us):
            inner = _taken(found, entity)
            if inner is None or inner in met:
                continue
            met.add(inner)
            if len(met) > limits.group_nested_max:
                raise TooMuch(f"more than {limits.group_nested_max} Groups within a Group", at="Group.member")
            waiting += await _within(uow, inner, moment, found)
    return Members(list(dict.fromkeys(found.patients)), found.told)


def _present(group: Tree, at_us: int) -> Iterator[Tree]:
    for member in group.get("member", ()):
        period = member.get("period", {})
        begins, ends = (date_range(period[name]) if name in period else None for name in ("start", "end"))
        is_over = (ends is not None and ends[1] < at_us) or (begins is not None and begins[0] > at_us)
        if member.get("inactive") is not True and not is_over:
            yield member.get("entity", {})


def _taken(found: Members, entity: Tree) -> str | None:
    """The member is taken, or told; the id of a Group that is one."""
    text = entity.get("reference")
    reference = parse(text) if isinstance(text, str) else None
    if reference is not None and reference.kind == "relative" and reference.id:
        if reference.type == "Patient":
            found.patients.append(reference.id)
            return None
        if reference.type == "Group":
            return reference.id
    found.told.append(f"member {text or 'without a reference'} is no Patient of this record, nor a Group of them")
    return None


async def _within(uow: "UnitOfWork", id: str, moment: datetime | None, found: Members) -> list[Tree]:
    try:
        tree = await _group(uow, id, moment)
    except EhrError as error:
        found.told.append(f"member Group/{id} cannot be followed: {error}")
        return []
    return [] if tree is None else [tree]


async def _group(uow: "UnitOfWork", id: str, moment: datetime | None) -> Tree | None:
    if moment is None:
        body = (await uow.resources.read("Group", id)).body
    else:
        try:
            page = await uow.resources.history("Group", id, at=(moment, moment), count=1)
        except NotFound:
            return None
        body = page.entries[0].body if page.entries else None
    return None if body is None else codec.loads(body)
