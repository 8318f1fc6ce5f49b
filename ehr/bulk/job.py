"""An import as a job: files → chunks of the jobs table → stored, by symmetric processes or by Celery's workers.

In:      paths; a folder of this installation for what is unpacked and for the error files
Out:     Summary; errors.ndjson with one object a refused line: file, line, OperationOutcome
Why:     symmetric processes that each read, check and write beat a reader that feeds writers (the database's half is
         small, and handing objects between processes costs more than it), and any of them may die
"""

import asyncio
import gc
import multiprocessing
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr.bulk import files
from ehr.bulk.files import Part
from ehr.bulk.ingest import ingest
from ehr.bulk.prepare import Refusal
from ehr.database.partitions import OWN_TYPES, partition_name
from ehr.errors import Malformed
from ehr.fhir.outcome import operation_outcome
from ehr.ids import new_id
from ehr.jobs.queue import Chunk, Progress, Queue
from ehr.jobs.work import Handler, work

if TYPE_CHECKING:
    from ehr.store.record import Record

KIND: Final = "import"
SMALL_BYTES: Final = 16 * 1024 * 1024
"""Below this one process is done before a second one has started."""

POLL_S: Final = 0.2

OpenRecord = Callable[[], Awaitable["Record"]]


@dataclass(slots=True)
class Summary:
    """The balance of an import: lines = blank + stored + updated + unchanged + refused."""

    job_id: str
    state: str
    bytes: int = 0
    bytes_done: int = 0
    lines: int = 0
    blank: int = 0
    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    errors: Sequence[str] = field(default_factory=list)
    error_file: str | None = None

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


async def plan(queue: Queue, paths: Iterable[Path], home: Path, *, facility_id: int = 0, owner: str = "system") -> str:
    """Cut the files and enqueue the job; returns its id."""
    await _clean(queue)
    params, chunks = await asyncio.to_thread(_cut, list(paths), home)
    return await queue.enqueue(KIND, {**params, "facility_id": facility_id}, chunks, owner=owner)


def _cut(paths: Sequence[Path], home: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    spool = home.absolute() / f"spool-{new_id()}"
    chunks: list[dict[str, Any]] = []
    for path in files.find(paths):
        plain = files.unpacked(path.absolute(), spool)
        chunks += [asdict(part) for part in files.parts(path.name, plain)]
    if not chunks:
        raise Malformed("the files are empty")
    home.mkdir(parents=True, exist_ok=True)
    return {"home": str(home.absolute()), "spool": str(spool), "bytes": sum(c["length"] for c in chunks)}, chunks


def handler(record: "Record") -> Handler:
    """What a worker does with one chunk."""

    async def run(chunk: Chunk) -> Mapping[str, Any]:
        part = Part(**chunk.params)
        tally, refused = await ingest(record, part, job_id=chunk.job_id, facility_id=chunk.job_params["facility_id"])
        _write_errors(Path(chunk.job_params["home"]) / chunk.job_id, chunk.number, part.name, refused)
        return tally.as_json()

    return run


async def summary(queue: Queue, job_id: str) -> Summary:
    """How far the job is; merges the error files when it is over."""
    progress = await queue.progress(job_id)
    assert progress is not None, "the job was enqueued"
    return _summary(progress)


def _summary(progress: Progress) -> Summary:
    made = Summary(progress.id, progress.state, bytes=progress.params["bytes"], errors=list(progress.errors))
    for result in progress.results:
        for name in ("lines", "blank", "stored", "updated", "unchanged", "refused"):
            setattr(made, name, getattr(made, name) + result[name])
        made.bytes_done += result["length"]
    if progress.over and made.refused:
        made.error_file = str(_merge_errors(Path(progress.params["home"]) / progress.id))
    return made


async def run_here(
    record: "Record", queue: Queue, job_id: str, opener: OpenRecord, *, processes: int, seen: Callable[[Summary], None]
) -> Summary:
    """Run the job's chunks in this process, or in `processes` symmetric ones, until it is over."""
    standing = await summary(queue, job_id)
    children: list[multiprocessing.process.BaseProcess] = []
    if processes > 1 and standing.bytes > SMALL_BYTES:
        context = multiprocessing.get_context("spawn")
        children = [context.Process(target=_child, args=(opener, job_id), daemon=True) for _ in range(processes)]
        for child in children:
            child.start()
    try:
        while not standing.over:
            if not any(child.is_alive() for child in children):
                await work(queue, {KIND: handler(record)}, record.clock, job_id=job_id, turn_s=POLL_S)
            await asyncio.sleep(POLL_S)
            standing = await summary(queue, job_id)
            seen(standing)
    finally:
        for child in children:
            child.terminate()
            child.join()
    await _settle(record)
    await _clean(queue)
    return standing


def _child(opener: OpenRecord, job_id: str) -> None:
    """One symmetric process: garbage is collected between chunks, because within one nothing becomes garbage."""
    gc.freeze()
    gc.disable()
    asyncio.run(_claim_until_over(opener, job_id))


async def _claim_until_over(opener: OpenRecord, job_id: str) -> None:
    record = await opener()
    queue = Queue(record.database)
    run = handler(record)

    async def collected(chunk: Chunk) -> Mapping[str, Any]:
        result = await run(chunk)
        gc.collect()
        return result

    try:
        while True:
            await work(queue, {KIND: collected}, record.clock, job_id=job_id)
            progress = await queue.progress(job_id)
            if progress is None or progress.over:
                return
            await asyncio.sleep(POLL_S)
    finally:
        await record.close()


async def _clean(queue: Queue) -> None:
    """Remove what finished imports had unpacked."""
    for params in await queue.params_of_ended(KIND):
        if "spool" in params:
            await asyncio.to_thread(shutil.rmtree, params["spool"], ignore_errors=True)


async def _settle(record: "Record") -> None:
    """Empty the GIN pending lists and refresh the statistics: the first searches after an import must not pay."""
    async with record.database.acquire() as connection:
        await connection.execute("set statement_timeout = 0")
        try:
            for partition in [*map(partition_name, OWN_TYPES), "resource_default"]:
                await connection.execute("select gin_clean_pending_list($1::text::regclass)", f"{partition}_tokens_idx")
            await connection.execute("analyze resource, string_index, date_index, quantity_index, change")
        finally:
            await connection.execute("reset statement_timeout")


def _write_errors(folder: Path, number: int, name: str, refused: Sequence[Refusal]) -> None:
    """Whole or not at all, and the same file when the chunk runs again."""
    target = folder / f"errors-{number:06}.ndjson"
    if not refused:
        target.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as file:
        for one in refused:
            outcome = operation_outcome(one.issues)
            file.write(orjson.dumps({"file": name, "line": one.line, "outcome": outcome}) + b"\n")
    partial.replace(target)


def _merge_errors(folder: Path) -> Path:
    merged = folder / "errors.ndjson"
    if not merged.exists():
        partial = merged.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as whole:
            for piece in sorted(folder.glob("errors-*.ndjson")):
                whole.write(piece.read_bytes())
        partial.replace(merged)
    return merged
