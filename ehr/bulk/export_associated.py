"""What an export brings beside what it was asked for: Provenance of its resources, and what they refer to.

In:      includeAssociatedData: LatestProvenanceResources, RelevantProvenanceResources, or our own _ReferencedResources
Out:     Met    collects while a chunk is written, and leaves the numbers of rows that go with it in a file a type
         then() the chunks that come after one: when all content is written, what was left is cut into spans
         read() the numbers of one span, each once, however many chunks have left it
Once:    a Provenance of several resources is exported once, whichever chunks these are in
State    which Provenance there is, and which is the latest, says the search index, which knows current versions;
         exported is its version in the snapshot
Source:  Bulk Data Access IG 2.0.0, includeAssociatedData
"""

import asyncio
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ehr import limits
from ehr.bulk.dangling import Target, literals
from ehr.bulk.export_job import ExportJob
from ehr.bulk.export_request import LATEST, NO_RESOURCE, PROVENANCE, REFERENCED, RELEVANT
from ehr.fhir import parameters
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.store.access_sql import arguments, seen

if TYPE_CHECKING:
    from ehr.database.copy_out import Row
    from ehr.store.unit_of_work import UnitOfWork

BATCH: Final = 2_000
"""Resources whose Provenance is looked for by one statement."""

_TARGET: Final = parameters.of(PROVENANCE)["target"]
PROVENANCE_ID: Final = TYPE_IDS[PROVENANCE]
_PROVENANCE_OF: Final = f"""
select distinct p.rid from unnest($3::bigint[]) as t (token) cross join lateral (
    select r.rid from resource r
    where r.type_id = {PROVENANCE_ID} and r.tokens @> array[t.token]
      and (r.xid < $4::xid8 or r.version > 1) and {seen("r")}
    order by r.date_lo_us desc nulls last, r.rid desc limit $5
) as p
"""  # noqa: S608 - constants of ours
_RIDS: Final = f"""
select r.rid from unnest($4::text[]) as n (id)
join resource r on r.type_id = $3 and r.id = n.id where {seen("r")}
"""  # noqa: S608 - constants of ours


class Met:
    """What goes with the resources of one chunk."""

    def __init__(self, uow: "UnitOfWork", job: ExportJob) -> None:
        self._uow, self._job = uow, job
        asked = job.request.associated
        self._provenance = LATEST in asked or RELEVANT in asked
        self._beside = _beside(job) if REFERENCED in asked else frozenset()
        self._tokens: set[int] = set()
        self._referenced: dict[str, set[str]] = {}

    def add(self, rows: Iterable["Row"], bodies: Iterable[bytes]) -> None:
        """Resources that are exported."""
        if self._provenance:
            hasher = self._uow.record.hasher
            self._tokens.update(hasher.reference(_TARGET.id, _TARGET.slot, TYPE_NAMES[row[0]], row[2]) for row in rows)
        if self._beside:
            for type_name, id in _targets(bodies):
                if type_name in self._beside:
                    self._referenced.setdefault(type_name, set()).add(id)

    async def leave(self, folder: Path, number: int) -> None:
        """One file a type, whole or not at all."""
        rids: dict[str, set[int]] = {}
        if self._tokens:
            rids[PROVENANCE] = await self._rids_of_provenance()
        for type_name, ids in self._referenced.items():
            values = (*arguments(self._uow.access), TYPE_IDS[type_name], sorted(ids))
            found = await self._uow.connection.fetch(_RIDS, *values)
            rids[type_name] = {row["rid"] for row in found}
        await asyncio.to_thread(_leave, folder, number, rids)

    async def _rids_of_provenance(self) -> set[int]:
        each = None if RELEVANT in self._job.request.associated else 1
        tokens = sorted(self._tokens)
        found: set[int] = set()
        for start in range(0, len(tokens), BATCH):
            some = tokens[start : start + BATCH]
            values = (*arguments(self._uow.access), some, self._job.snapshot.xid, each)
            found.update(row["rid"] for row in await self._uow.connection.fetch(_PROVENANCE_OF, *values))
        return found


def _beside(job: ExportJob) -> frozenset[str]:
    """Types of what is referred to: those that are granted and not exported anyway.

    What lies in some patient's compartment is exported by asking for that patient, and not because another mentions it.
    """
    every = TYPE_IDS.keys() - NO_RESOURCE - set(job.request.types) - {PROVENANCE}
    if job.request.level != "system":
        every -= PATIENT_TYPES
    return frozenset(name for name in every if job.caller.grants.allow(name, "r"))


def _targets(bodies: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    targets: set[Target] = {target for body in bodies for target in literals(body)}
    return ((type_name.decode(), id.decode()) for type_name, id in targets)


def then(job: ExportJob, folder: Path, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What comes after a chunk with these parameters, when all others are done."""
    if not job.request.associated or params["part"] == "associated":
        return []
    if params["part"] != "gather":
        return [{"part": "gather"}]
    return [
        {"part": "associated", "type": type_name, "rids": span}
        for type_name in sorted({TYPE_NAMES[int(place.name.split("-")[1])] for place in folder.glob(".associated-*")})
        for span in _spans(_files(folder, type_name))
    ]


def _spans(places: Sequence[Path]) -> list[tuple[int, int]]:
    """Even spans (after, up to) of what the files hold."""
    edges = [_edges(place) for place in places]
    low, high = min(first for first, _, _ in edges) - 1, max(last for _, last, _ in edges)
    count = min(-(-sum(count for _, _, count in edges) // limits.export_chunk_resources), high - low)
    cuts = [low + (high - low) * number // count for number in range(count + 1)]
    return list(pairwise(cuts))


def _edges(place: Path) -> tuple[int, int, int]:
    rids = _rids(place)
    return rids[0], rids[-1], len(rids)


def read(folder: Path, type_name: str, span: tuple[int, int]) -> list[int]:
    """What all chunks have left of a type after the first number, up to the second."""
    found: set[int] = set()
    for place in _files(folder, type_name):
        rids = _rids(place)
        found.update(rids[bisect_right(rids, span[0]) : bisect_right(rids, span[1])])
    return sorted(found)


def remove(folder: Path) -> None:
    """What was left for the chunks that came after."""
    for place in folder.glob(".associated-*"):
        place.unlink(missing_ok=True)


def _place(folder: Path, type_name: str, number: int) -> Path:
    return folder / f".associated-{TYPE_IDS[type_name]}-{number:06}"


def _files(folder: Path, type_name: str) -> list[Path]:
    return sorted(folder.glob(f".associated-{TYPE_IDS[type_name]}-*"))


def _rids(place: Path) -> "array[int]":
    rids: array[int] = array("q")
    rids.frombytes(place.read_bytes())
    return rids


def _leave(folder: Path, number: int, rids: Mapping[str, set[int]]) -> None:
    for place in folder.glob(f".associated-*-{number:06}"):
        place.unlink()  # of an attempt that died
    for type_name, found in rids.items():
        if found:
            _write(_place(folder, type_name, number), array("q", sorted(found)))


def _write(place: Path, rids: "array[int]") -> None:
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    partial = place.with_name(f".partial{place.name}.{os.getpid()}")
    partial.write_bytes(rids.tobytes())
    partial.replace(place)
