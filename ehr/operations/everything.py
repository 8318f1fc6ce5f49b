"""$everything: the record of one source Patient, or of a Person over all its sources, page by page.

In:      Patient or Person id; _since, _type, start, end, _count; the place of the next page
Out:     Everything: the resource itself and its compartment as matches, what they refer to as included
Keeps:   page after page the same order, so that writers meanwhile neither hide nor repeat what was there at the start
Errors:  NotFound, also where the caller may not know; Forbidden for a _type the token does not grant
Source:  FHIR R4 patient-operation-everything.html; the Person form is ours (docs/adr/0014)
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from ehr import limits
from ehr.access.policy import DIRECTORY_TYPES, Caller
from ehr.clock import us_of
from ehr.errors import NotSupported
from ehr.fhir import codec, references
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS
from ehr.store import everything as rows
from ehr.store.access_sql import require
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version

Root = Literal["Patient", "Person"]

_PLACE: Final = re.compile(r"([0-9]{1,5})\.([0-9]{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the record is asked for."""

    types: Sequence[str] = ()
    since: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    count: int | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Everything:
    """One page. included are of types that tell nothing about a patient."""

    matches: list[Version]
    included: list[Version]
    next_cursor: str | None


async def everything(record: Record, caller: Caller, root: Root, id: str, wanted: Wanted) -> Everything:
    """One page of the record; its audit rows are committed with it."""
    after = _place(wanted.cursor)
    count = min(wanted.count or limits.page_count_default, limits.page_count_max)
    types = _types(wanted.types)

    async def read(uow: UnitOfWork) -> Everything:
        for name in wanted.types:
            require(uow.access, name, "r")
        itself = await uow.resources.read(root, id)
        shards = await _shards(uow, root, id)
        start, end = (None if moment is None else us_of(moment) for moment in (wanted.start, wanted.end))
        bounds = rows.Bounds(wanted.since, start, end)
        found, following = await rows.page(uow, shards, types, bounds, after=after, count=count)
        first = after == rows.START and (not wanted.types or root in wanted.types)
        matches = [*([itself] if first and root == "Person" else []), *found]
        included = await rows.many(uow, sorted(_referred(matches)))
        await uow.audit.execute("everything", shards=shards, detail={"on": root, "resources": len(matches)})
        return Everything(matches, included, None if following is None else f"{following[0]}.{following[1]}")

    return await record.run(caller, read)


async def _shards(uow: UnitOfWork, root: Root, id: str) -> list[int]:
    if root == "Patient":
        return [uow.record.hasher.shard("Patient", id)]
    return [shard for shard, _ in await rows.sources_of(uow, id)]


def _types(asked: Sequence[str]) -> list[str]:
    """The compartment's types in the order of their numbers, or those of them that are asked for."""
    for name in asked:
        if name not in TYPE_IDS:
            raise NotSupported("there is no such resource type", at="_type")
    return [name for name in sorted(PATIENT_TYPES) if not asked or name in asked]


def _referred(matches: Iterable[Version]) -> set[tuple[str, str]]:
    """(type, id) of organisations, practitioners and the like that the page's resources name."""
    found: set[tuple[str, str]] = set()
    for version in matches:
        assert version.body is not None, "current resources have bodies"
        tree: dict[str, Any] = codec.loads(version.body)
        for reference in references.find(tree):
            parsed = references.parse(reference.value)
            if parsed.kind == "relative" and parsed.type in DIRECTORY_TYPES and parsed.id:
                found.add((parsed.type, parsed.id))
    return found


def _place(cursor: str | None) -> rows.Place:
    """Access does not rest on the place, so it needs no signature."""
    if cursor is None:
        return rows.START
    found = _PLACE.fullmatch(cursor)
    if found is None or int(found[1]) >= 2**15 or int(found[2]) >= 2**63:
        raise NotSupported("this is not a page of this operation; begin at the first one", at="_page")
    return int(found[1]), int(found[2])
