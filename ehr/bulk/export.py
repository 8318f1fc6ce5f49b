"""One chunk of an export → NDJSON files, read in one transaction as of the job's snapshot.

In:      a claimed chunk; the record
Out:     OutputFiles in the chunk's result; none where there is nothing
Order:   lines are written while they are read; they are on the disk when the audit rows are committed; then the files
         get their names. A chunk that ran halfway leaves nothing, and may run again in any process
Audit:   one row a patient and job, in the transaction that read
Memory:  one piece of the stream, whatever the chunk
Keeps:   bodies as they were sent, with id and meta: nothing is parsed unless a part of them was asked for
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ehr import limits
from ehr.bulk import export_associated as associated
from ehr.bulk import export_job
from ehr.bulk.export_job import ExportJob
from ehr.bulk.export_request import filtered_types
from ehr.bulk.output import File, Folder, LinesFile, OutputFile
from ehr.bulk.table_file import TableFile
from ehr.database.copy_out import Row
from ehr.errors import Issue, Unavailable
from ehr.fhir import codec
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.outcome import operation_outcome
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.fhir.subset import subset_of
from ehr.fhir.views import View
from ehr.jobs.queue import Chunk, Queue
from ehr.jobs.work import Handler
from ehr.search.matches import match_rids
from ehr.search.parse import parse as parse_search
from ehr.search.plan import SearchPlan
from ehr.search.plan import plan as plan_search
from ehr.store import versions
from ehr.store.versions import Extent, Since

if TYPE_CHECKING:
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

PATIENT: Final = TYPE_IDS["Patient"]


def handler(record: "Record") -> Handler:
    """What a worker does with one chunk."""

    async def run(chunk: Chunk) -> Mapping[str, Any]:
        job = export_job.read(chunk.job_params)
        made = await export(record, chunk)
        content = [one for one in made if one.kind == "output"]
        sums = {"lines": sum(one.count for one in content), "bytes": sum(one.bytes for one in content)}
        result = {"files": [one.as_json() for one in made], **sums}
        after = await asyncio.to_thread(associated.then, job, job.folder(chunk.job_id, chunk.kind), chunk.params)
        if after and not await Queue(record.database).finish(chunk, result, then=after, when_all_are=True):
            raise Unavailable("another worker has taken this part of the export over")
        return result

    return run


async def export(record: "Record", chunk: Chunk) -> list[OutputFile]:
    """Write the files of a chunk; returns when they are on the disk."""
    job = export_job.read(chunk.job_params)
    aside = asyncio.get_running_loop().run_in_executor
    with Folder(job.folder(chunk.job_id, chunk.kind), _opener(job)) as files, ThreadPoolExecutor(1) as thread:
        async with record.unit_of_work(job.caller) as uow:
            await versions.begin(uow)
            part = _Part(uow, job, chunk, files)
            await part.write()
            completed = aside(thread, files.complete)
            await part.leave()
            await part.note()
            await completed
        return await aside(thread, files.publish)


def _opener(job: ExportJob) -> Callable[[Path, str], File]:
    """What a file of resources is: their lines, or a table of them."""
    if job.request.format == "ndjson" and job.request.view is None:
        return LinesFile
    view = View(job.request.view) if job.request.view is not None else None
    return lambda folder, name: TableFile(folder, name, view)


class _Part:
    """One chunk while it is written."""

    def __init__(self, uow: "UnitOfWork", job: ExportJob, chunk: Chunk, files: Folder) -> None:
        self._uow = uow
        self._job = job
        self._chunk = chunk
        self._files = files
        self._folder = job.folder(chunk.job_id, chunk.kind)
        self._shards: set[int] = set()
        self._subset = subset_of((), None, job.request.elements)
        collects = job.request.associated and chunk.params["part"] != "associated"
        self._met = associated.Met(uow, job) if collects else None

    async def write(self) -> None:
        params = self._chunk.params
        match params["part"]:
            case "spans":
                for type_name, rids in params["spans"]:
                    await self._span(type_name, tuple(rids))
            case "patients":
                ids = params["ids"] if "ids" in params else await self._patients_of(tuple(params["rids"]))
                await self._compartments(ids)
            case "deleted":
                await self._deleted(None)
            case "issues":
                self._issues(params["issues"])
            case "associated":
                await self._associated(params["type"], tuple(params["rids"]))
            case _:
                assert params["part"] in ("nothing", "gather"), "the plan knows these parts"

    async def leave(self) -> None:
        """What goes with the resources of this chunk, for the chunks that come after all of them."""
        if self._met is not None:
            await self._met.leave(self._folder, self._chunk.number)

    async def note(self) -> None:
        """Who was exported: once a job."""
        if self._shards:
            detail = {"job": self._chunk.job_id}
            since = self._job.snapshot.time
            await self._uow.audit.execute_once("export", shards=self._shards, since=since, detail=detail)

    # ---- what is read

    async def _span(self, type_name: str, rids: tuple[int, int]) -> None:
        extent = await self._extent([type_name], rids=rids)
        belonging = self._job.request.level != "system" and type_name != "Patient"
        digest = self._uow.record.hasher.digest

        def take_all(shards: list[int], frames: list[bytes]) -> None:
            if frames:
                self._write(self._output(type_name), type_name, shards, frames)

        def take(rows: list[Row]) -> None:
            if belonging:  # a resource that lies by itself is in no patient's compartment
                rows = [row for row in rows if row[1] != digest(f"{type_name}/{row[2]}")]
            self._write_rows(rows)

        if belonging or self._met is not None:
            await versions.stream(self._uow, self._job.snapshot, extent, take)
        else:
            await versions.stream_frames(self._uow, self._job.snapshot, extent, take_all)

    async def _associated(self, type_name: str, rids: tuple[int, int]) -> None:
        only = await asyncio.to_thread(associated.read, self._folder, type_name, rids)
        if only:
            extent = Extent([type_name], rids, only=only)
            await versions.stream(self._uow, self._job.snapshot, extent, self._write_rows)

    async def _compartments(self, ids: Sequence[str]) -> None:
        """Patients, a few at a time: what is sorted or hashed of them stays small."""
        types = [name for name in self._job.request.types if name in PATIENT_TYPES]
        for start in range(0, len(ids), limits.export_slice_patients):
            shard_of = self._uow.record.hasher.shard
            slice_of = {shard_of("Patient", id): id for id in ids[start : start + limits.export_slice_patients]}
            extent = await self._extent(types, shards=list(slice_of))
            if self._job.request.organized_by is None:
                await versions.stream(self._uow, self._job.snapshot, extent, self._write_rows)
            else:
                await self._blocks(extent, slice_of)
            if self._since() is not None:
                await self._deleted(list(slice_of))

    async def _blocks(self, extent: Extent, patients: Mapping[int, str]) -> None:
        """The lines of each patient together, after a header."""
        found: dict[int, list[Row]] = {}

        def take(rows: list[Row]) -> None:
            for row in rows:
                found.setdefault(row[1], []).append(row)

        await versions.stream(self._uow, self._job.snapshot, extent, take)
        file = self._file("Patient", "output", None)
        for shard, id in patients.items():
            rows = found.get(shard)
            if not rows:
                continue
            header = {"name": "header", "valueReference": {"reference": f"Patient/{id}"}}
            file.write([codec.dumps({"resourceType": "Parameters", "parameter": [header]})])
            self._write_rows(rows, file)

    async def _patients_of(self, rids: tuple[int, int]) -> list[str]:
        found: list[str] = []
        extent = Extent(["Patient"], rids)
        await versions.stream(self._uow, self._job.snapshot, extent, lambda rows: found.extend(row[2] for row in rows))
        return found

    async def _deleted(self, shards: Sequence[int] | None) -> None:
        """What is gone since, as transactions that delete it."""
        request = self._job.request
        extent = Extent(request.types, shards=shards, since=self._since(), until=request.until)
        gone = await versions.deleted(self._uow, self._job.snapshot, extent)
        if request.level != "system" and shards is None:
            digest = self._uow.record.hasher.digest
            gone = [one for one in gone if one[0] == "Patient" or one[1] != digest(f"{one[0]}/{one[2]}")]
        size = limits.export_deletions_max
        for start in range(0, len(gone), size):
            requests = [{"method": "DELETE", "url": f"{name}/{id}"} for name, _, id in gone[start : start + size]]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": one} for one in requests]}
            self._file("deleted", "deleted", "Bundle").write([codec.dumps(bundle)])
        self._shards.update(shard for name, shard, _ in gone if name in PATIENT_TYPES)

    def _issues(self, issues: Iterable[Sequence[Any]]) -> None:
        file = self._file("OperationOutcome", "error", "OperationOutcome")
        for severity, code, text, at in issues:
            file.write([codec.dumps(operation_outcome([Issue(code, text, at, severity)]))])

    async def _extent(
        self, types: Sequence[str], *, rids: tuple[int, int] = (0, versions.RID_MAX), shards: list[int] | None = None
    ) -> Extent:
        request = self._job.request
        filters = [one for one in request.filters if one.type_name in types]
        matching: set[int] = set()
        if filters:  # this process may not have looked since a parameter was added
            await self._uow.record.learn_parameters(self._uow.connection)
        for one in filters:
            asked = parse_search(one.type_name, one.query, known=self._uow.record.parameters)
            matching.update(await self._matching(plan_search(asked, self._uow.access), rids, shards))
        filtered = filtered_types(filters)
        return Extent(types, rids, shards, self._since(), request.until, filtered, sorted(matching))

    async def _matching(self, planned: SearchPlan, rids: tuple[int, int], shards: list[int] | None) -> list[int]:
        record = self._uow.record
        return await match_rids(
            self._uow.connection,
            planned,
            installation=record.installation,
            bodies=record.bodies,
            rids=rids,
            shards=shards,
        )

    def _since(self) -> Since | None:
        since = self._job.request.since
        if since is None or "whole" in self._chunk.params:
            return None
        return Since(since, self._job.since_xid)

    # ---- what is written

    def _write_rows(self, rows: list[Row], file: File | None = None) -> None:
        """Type after type, Patient first; where no file is given, each into that of its type."""
        if self._met is not None:
            self._met.add(rows, map(self._uow.record.bodies.decompress, map(itemgetter(3), rows)))
        for type_id, own in groupby(sorted(rows, key=_patient_first), key=itemgetter(0)):
            name = TYPE_NAMES[type_id]
            _, shards, _, frames = zip(*own, strict=True)
            self._write(file or self._output(name), name, shards, frames)

    def _write(self, file: File, type_name: str, shards: Sequence[int], frames: Sequence[bytes]) -> None:
        if type_name in PATIENT_TYPES:
            self._shards.update(shards)
        bodies, subset = self._uow.record.bodies, self._subset
        if subset is None:
            file.write_frames(frames, bodies)
        else:
            file.write(subset.of(type_name, bodies.decompress(frame)) for frame in frames)

    def _output(self, type_name: str) -> File:
        return self._file(type_name, "output", type_name)

    def _file(self, stem: str, kind: str, type_name: str | None) -> File:
        ending = self._job.request.format if kind == "output" else "ndjson"
        return self._files.file(f"{stem}.{self._chunk.number:06}.{ending}", kind, type_name)


def _patient_first(row: Row) -> tuple[bool, int]:
    return row[0] != PATIENT, row[0]
