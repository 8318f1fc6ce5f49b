"""An import as a job: files → chunks of the jobs table → stored, by symmetric processes or by Celery's workers.

In:      paths; a folder of this installation for what is unpacked and for the error files
Out:     Summary; errors.ndjson with one object a refused line: file, line, OperationOutcome
Why:     symmetric processes that each read, check and write beat a reader that feeds writers (the database's half is
         small, and handing objects between processes costs more than it), and any of them may die
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr import limits
from ehr.bulk import check, dangling, fetch, files, output, settle, winner
from ehr.bulk.files import Part
from ehr.bulk.ingest import CITY, Outcome, ingest
from ehr.bulk.order import Order
from ehr.bulk.output import LinesFile, OutputFile
from ehr.bulk.prepare import Refusal
from ehr.bulk.processes import OpenRecord, Patience, run_job
from ehr.bulk.unpack import SPOOL, unpacked
from ehr.database.connection import Connection
from ehr.database.upkeep import put_in_order
from ehr.errors import Invalid, Malformed, Unavailable
from ehr.fhir.outcome import operation_outcome
from ehr.ids import new_id
from ehr.jobs import life
from ehr.jobs.queue import Chunk, Progress, Queue
from ehr.jobs.queue import finish as finish_chunk
from ehr.jobs.work import Handler

if TYPE_CHECKING:
    from ehr.store.record import Record

KIND: Final = "import"
IMPORTS: Final = "imports"
"""Folder below the data folder, with one of each import; where workers are on several machines, they all see it."""
MERGED: Final = "errors.ndjson"
UPKEEP: Final = "upkeep"
"""The parameter of the chunk that comes when all parts are stored: the database is put in order for readers."""
FILES: Final = "files.json"
"""In the folder of what was unpacked: the files as they were cut. Every chunk is given the job's parameters, which is
too often for the names of a hundred thousand files."""
CHANGED_SHOWN: Final = 3


@dataclass(slots=True)
class Summary:
    """The balance of an import: lines = blank + stored + updated + unchanged + superseded + refused.

    Parts that are done are searchable, to the last line: what is stored is counted by the transaction that stores it.
    bytes_checked: of an import that checks everything before it stores anything (ehr.bulk.check).
    """

    job_id: str
    state: str
    bytes: int = 0
    bytes_done: int = 0
    bytes_checked: int = 0
    lines: int = 0
    blank: int = 0
    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    refused: int = 0
    dangling: int = 0
    errors: Sequence[str] = field(default_factory=list)
    error_file: str | None = None
    dangling_file: str | None = None

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


COUNTS: Final = ("lines", "blank", "stored", "updated", "unchanged", "superseded", "refused")
SUMS: Final = (*COUNTS, "length", "dangling", "checked")


async def plan(
    queue: Queue,
    paths: Iterable[Path],
    home: Path,
    order: Order = CITY,
    *,
    owner: str = "system",
    part_bytes: int = limits.import_chunk_bytes,
) -> str:
    """Cut the files and enqueue the job; returns its id."""
    asked, job_id = [path.absolute() for path in paths], new_id()
    params, chunks = await asyncio.to_thread(_cut, asked, home, job_id, part_bytes)
    params |= {**order.as_json(), "key": key_of(asked, order)}
    return await queue.enqueue(KIND, params, check.chunks(chunks, order), owner=owner, job_id=job_id)


def key_of(paths: Iterable[Path], order: Order) -> str:
    """The same for the same import, asked for again."""
    asked = [sorted(_written(path.absolute()) for path in paths), order.as_json()]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _written(path: Path) -> str:
    """A path as JSON can have it, also where its name is not UTF-8 (files.find says so)."""
    return os.fsencode(path).decode(errors="backslashreplace")


async def resume(queue: Queue, paths: Iterable[Path], order: Order = CITY) -> str | None:
    """The unfinished import of these files, ready to go on; None where there is none."""
    asked = [path.absolute() for path in paths]
    found = await queue.newest(KIND, key_of(asked, order))
    if found is None or found[1] == "done":
        return None
    progress = await queue.progress(found[0])
    assert progress is not None, "found above"
    if progress.finished and await queue.outlived({progress.id: progress.finished}, limits.job_files_life_s):
        return None
    folder = Path(progress.params["home"]) / progress.id
    await asyncio.to_thread(_check_same, asked, folder / SPOOL / FILES)
    (folder / MERGED).unlink(missing_ok=True)
    await queue.resume(progress.id)
    return progress.id


def _check_same(paths: Sequence[Path], place: Path) -> None:
    """What was cut into parts is what the paths still name."""
    known = orjson.loads(place.read_bytes())
    now = {str(path): path.stat().st_mtime_ns for path in files.find(paths)}
    other = sorted(name for name in now.keys() | known.keys() if now.get(name) != known.get(name))
    if other:
        shown = ", ".join(other[:CHANGED_SHOWN])
        raise Invalid(f"changed, added or removed since the import began: {shown}; import anew, without --resume")


def _cut(
    paths: Sequence[Path], home: Path, job_id: str, part_bytes: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found, home = files.find(paths), home.absolute()
    folder = home / job_id
    chunks: list[dict[str, Any]] = []
    try:
        for number, (path, name) in enumerate(zip(found, files.names(found), strict=True)):
            plain = unpacked(path, folder / SPOOL / f"{number:06}.ndjson", name=name)
            chunks += [asdict(part) for part in files.parts(name, plain, part_bytes=part_bytes)]
        if not chunks:
            raise Malformed("the files are empty")
        known = {str(path): path.stat().st_mtime_ns for path in found}
        (folder / SPOOL).mkdir(parents=True, exist_ok=True)
        (folder / SPOOL / FILES).write_bytes(orjson.dumps(known))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return {"home": str(home), "bytes": sum(one["length"] for one in chunks)}, chunks


def handler(record: "Record") -> Handler:
    """What a worker does with one chunk."""

    async def run(chunk: Chunk) -> Mapping[str, Any]:
        if fetch.SOURCES in chunk.params:
            return await fetch.fetch(record, chunk)
        if check.CHECK in chunk.params:
            return await check.check(record, chunk)
        if check.SETTLE in chunk.params:
            return await settle.settle(record, chunk)
        if dangling.REPORT in chunk.params:
            return await dangling.report(record, chunk)
        if UPKEEP in chunk.params:
            await put_in_order(record.database)
            return {}
        part, order = Part.of(chunk.params), Order.of(chunk.job_params)
        folder = Path(chunk.job_params["home"]) / chunk.job_id

        async def finish(connection: Connection, outcome: Outcome) -> None:
            told = sorted([*outcome.refused, *outcome.superseded], key=lambda one: one.line)
            written = await asyncio.to_thread(_write_errors, folder, chunk.number, part.name, told)
            await asyncio.to_thread(dangling.leave, folder, chunk.number, part.name, outcome.references)
            result = {**outcome.tally.as_json(), "name": part.name, "files": [one.as_json() for one in written]}
            then = [UPKEEP] if order.references == "ignore" else [dangling.REPORT, UPKEEP]
            after = [{name: True} for name in then]
            if not await finish_chunk(connection, chunk, result, then=after, when_all_are=True):
                raise Unavailable("another worker has taken this part of the import over")

        settled = settle.settled(folder, chunk.params) if order.references == "refuse" else None
        outcome = await ingest(
            record, part, job_id=chunk.job_id, order=order, number=chunk.number, finish=finish, settled=settled
        )
        return outcome.tally.as_json()

    return run


async def summary(queue: Queue, job_id: str) -> Summary:
    """How far the job is; merges what was told of its parts when it is over."""
    progress = await queue.progress(job_id, SUMS)
    assert progress is not None, "the job was enqueued"
    return await asyncio.to_thread(_summary, progress)


def _summary(progress: Progress) -> Summary:
    made = Summary(progress.id, progress.state, bytes=progress.params["bytes"], errors=list(progress.errors))
    made.bytes_done, made.bytes_checked = progress.sums["length"], progress.sums["checked"]
    for name in (*COUNTS, "dangling"):
        setattr(made, name, progress.sums[name])
    folder = Path(progress.params["home"]) / progress.id
    if progress.over and folder.is_dir() and (made.refused or made.superseded):
        made.error_file = str(_merge_errors(folder))
    if made.dangling:
        made.dangling_file = str(folder / dangling.DANGLING)
    return made


def handlers_of(record: "Record") -> Mapping[str, Handler]:
    return {KIND: handler(record)}


async def run_here(
    record: "Record", queue: Queue, job_id: str, opener: OpenRecord, *, processes: int, seen: Callable[[Summary], None]
) -> Summary:
    """Run the job's chunks in this process, or in `processes` symmetric ones, until it is over."""

    def told(progress: Progress) -> None:
        seen(_summary(progress))

    done = await run_job(record, job_id, opener, handlers_of, processes=processes, seen=told, sums=SUMS)
    await Patience(record.clock)(lambda: clean(queue, Path(done.params["home"])))
    return await asyncio.to_thread(_summary, done)


async def clean(queue: Queue, home: Path) -> int:
    """Remove what imports told and kept whose time is over, and what is of no more use; how many were removed."""
    count = await output.clean(queue, home)
    spools = await asyncio.to_thread(lambda: list(home.glob(f"*/{SPOOL}")))
    done = await queue.done([spool.parent.name for spool in spools])
    for spool in spools:
        if spool.parent.name in done:
            await output.remove(spool)
            with contextlib.suppress(OSError):  # it holds what was told
                spool.parent.rmdir()
    async with queue.connection() as connection:
        await winner.forget(connection)
    await life.forget(queue, [KIND], limits.import_job_life_s)
    return count


def _write_errors(folder: Path, number: int, name: str, told: Sequence[Refusal]) -> list[OutputFile]:
    """Whole or not at all, and the same file when the chunk runs again; the file, where there is one."""
    target = folder / f"errors-{number:06}.ndjson"
    if not told:
        target.unlink(missing_ok=True)
        return []
    file = LinesFile(folder, target.name)
    file.write(orjson.dumps({"file": name, "line": one.line, "outcome": operation_outcome(one.issues)}) for one in told)
    return [file.publish("error", None)]


def _merge_errors(folder: Path) -> Path:
    merged = folder / MERGED
    if not merged.exists():
        partial = merged.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as whole:
            for piece in sorted(folder.glob("errors-*.ndjson")):
                whole.write(piece.read_bytes())
        partial.replace(merged)
    return merged
