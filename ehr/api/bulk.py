"""Long work over HTTP: kick-off, status, files, cancelling. The addresses of every kind of job are the same.

In:      [base]/$export, Patient/$export, Group/[id]/$export; [base]/_job/[id] and its files
Out:     202 with Content-Location; 202 with X-Progress until the job is over; its manifest; its files as NDJSON
Access:  who began a job, with a token that still grants every type in it; for everyone else it is not there
Errors:  a job that failed is answered 500 with what was wrong; one that was cancelled or is too old, 404
Source:  Bulk Data Access IG 2.0.0; FHIR R4 async.html; RFC 9110 14 (a file that broke off goes on)
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlencode

import orjson

from ehr import limits
from ehr.api.answer import Answer, http_date, outcome_answer
from ehr.api.byte_range import part_wanted
from ehr.api.exchange import Exchange, Handler
from ehr.api.file_answer import FileAnswer, takes_gzip
from ehr.bulk import export_job, export_plan, export_request, fetch, import_request, job, output
from ehr.bulk.export_request import Level
from ehr.bulk.manifest import export_manifest, files_of, import_manifest
from ehr.bulk.output import OutputFile
from ehr.errors import Forbidden, Issue, NotFound, Throttled
from ehr.fhir.operation_arguments import Arguments
from ehr.fhir.r4 import TYPE_IDS
from ehr.jobs.queue import Progress, Queue
from ehr.store.unit_of_work import UnitOfWork

RETRY_MAX_S: Final = 120
_CHUNKS_A_SECOND: Final = 2
_TYPES: Final = {
    "ndjson": b"application/fhir+ndjson",
    "parquet": b"application/vnd.apache.parquet",
    "csv": b"text/csv; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class JobKind:
    """What the status address must know of a kind of job.

    manifest  progress, the job's address, whether its files need a token → the body of a 200
    folder    where its files are
    """

    manifest: Callable[..., Mapping[str, Any]]
    folder: Callable[[Progress], Path]


def _export_folder(progress: Progress) -> Path:
    return export_job.read(progress.params).folder(progress.id, progress.kind)


def _import_folder(progress: Progress) -> Path:
    return Path(progress.params["home"]) / progress.id


KINDS: Final[Mapping[str, JobKind]] = {
    export_job.KIND: JobKind(export_manifest, _export_folder),
    job.KIND: JobKind(import_manifest, _import_folder),
}


async def import_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """$import: files named by the request are fetched and stored by the workers."""
    caller, record = exchange.caller, exchange.record
    if caller.kind not in ("system", "client") or caller.facility_id:
        raise Forbidden("an import is for the city's own systems; facilities use their drop folder")
    for name in TYPE_IDS:
        if not (caller.grants.allow(name, "c") and caller.grants.allow(name, "u")):
            raise Forbidden("an import may hold any type: the token must grant 'cu' on all of them")
    sources, order = await asyncio.to_thread(import_request.parse, arguments, record.settings)
    queue = Queue(record.database)
    if await queue.open_of(job.KIND, caller.owner) >= limits.import_jobs_max:
        raise Throttled(f"{limits.import_jobs_max} imports are under way; wait for one, or cancel it")
    home = record.settings.data_dir / job.IMPORTS
    told = {"url": exchange.address("$import"), "inputSource": arguments.one("inputSource")}
    job_id = await fetch.begin(queue, sources, home, order, owner=caller.owner, told=told, kind=job.KIND)
    return accepted(exchange, job_id)


async def export_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """$export of the system, of all patients, or of one Group."""
    if exchange.caller.person_id is not None:
        raise Forbidden("a citizen reads their own record; an export is for systems")
    level: Level = "group" if "id" in exchange.path else "patient" if "type" in exchange.path else "system"
    given = [*_pairs(arguments, exchange.base), *arguments.beyond]
    if any(name == "_typeFilter" for name, _ in given):
        await exchange.record.learn_parameters()
    request, ignored = export_request.parse(
        level,
        given,
        exchange.caller.grants,
        group=exchange.path.get("id"),
        lenient=exchange.preferences.lenient,
        known=exchange.record.parameters,
    )
    queue = Queue(exchange.record.database)
    if await queue.open_of(export_job.KIND, exchange.caller.owner) >= limits.export_jobs_max:
        raise Throttled(f"{limits.export_jobs_max} exports are under way; wait for one, or cancel it")
    query = f"?{urlencode(exchange.query)}" if exchange.query else ""
    job_id = await export_plan.plan(
        exchange.record,
        exchange.caller,
        request,
        home=exchange.record.settings.data_dir / export_job.EXPORTS,
        url=f"{exchange.address('$export')}{query}",
        issues=ignored,
    )
    return accepted(exchange, job_id, ignored)


def _pairs(arguments: Arguments, base: str) -> Iterator[tuple[str, str]]:
    """Arguments as text; a Reference is what it refers to, relative where it is here."""
    for name, values in arguments.values.items():
        for value in values:
            yield name, value.get("reference", "").removeprefix(f"{base}/") if isinstance(value, dict) else str(value)


def accepted(exchange: Exchange, job_id: str, issues: Sequence[Issue] = ()) -> Answer:
    """202: the work is on the queue, and will be done."""
    begun = Issue("informational", "the work has begun; Content-Location tells how far it is", severity="information")
    where = (b"content-location", _address(exchange, job_id).encode())
    return outcome_answer(202, [begun, *issues], where)


async def status(exchange: Exchange) -> Answer:
    """How far a job is, or its manifest."""
    exchange.only()
    progress = await _own(exchange)
    if not progress.over:
        left = progress.total - progress.done
        retry_s = min(RETRY_MAX_S, max(1, left // _CHUNKS_A_SECOND))
        shown = f"{progress.done * 100 // progress.total}% ({progress.done} of {progress.total} parts)"
        return Answer(202, b"", [(b"x-progress", shown.encode()), (b"retry-after", str(retry_s).encode())])
    if progress.state == "failed":
        issues = [Issue("exception", text) for text in dict.fromkeys(progress.errors)]
        return outcome_answer(500, issues or [Issue("exception", "the job failed")])
    needs_token = exchange.record.settings.access != "open"
    body = KINDS[progress.kind].manifest(progress, _address(exchange, progress.id), token=needs_token)
    assert progress.finished is not None, "the job is over"
    expires = http_date(progress.finished + timedelta(seconds=limits.job_files_life_s))
    headers = [(b"content-type", b"application/json"), (b"expires", expires.encode())]
    return Answer(200, orjson.dumps(body), headers)


async def cancel(exchange: Exchange) -> Answer:
    """End a job and remove what it made."""
    exchange.only()
    progress = await _own(exchange)
    await Queue(exchange.record.database).withdraw(progress.id)
    await output.remove(KINDS[progress.kind].folder(progress))
    return outcome_answer(202, [Issue("informational", "the job is cancelled", severity="information")])


async def file(exchange: Exchange) -> Answer:
    """One file of a job that is done."""
    exchange.only()
    progress = await _own(exchange)
    name = exchange.path["file"]
    known = {one.name: one for one in files_of(progress)} if progress.state == "done" else {}
    if name not in known:
        raise NotFound("the job has no such file")
    type_name = known[name].type_name
    if type_name in TYPE_IDS and not exchange.caller.grants.allow(type_name, "r"):
        raise Forbidden(f"the token does not grant 'r' on {type_name}")
    opened = _opened(KINDS[progress.kind].folder(progress) / name)

    async def note(uow: UnitOfWork) -> None:
        await uow.audit.execute("export file", detail={"job": progress.id, "file": name})

    try:
        await exchange.record.run(exchange.caller, note)
    except BaseException:
        opened.close()
        raise
    return _answer(exchange, known[name], opened)


def _answer(exchange: Exchange, known: OutputFile, opened: BinaryIO) -> Answer:
    """All of the file, packed where the client takes that; or the part it asks for, as it is."""
    changed = os.fstat(opened.fileno()).st_mtime_ns
    etag, modified = f'"{changed:x}-{known.bytes:x}"', http_date(datetime.fromtimestamp(changed // 10**9, UTC))
    part = None
    if exchange.method == "GET":  # RFC 9110 14.2: of no other method
        part = part_wanted(exchange.headers, etag=etag, modified=modified, length=known.bytes)
    if part is not None and not part:
        opened.close()
        text = f"the file has {known.bytes} bytes, and none of those that are asked for"
        return outcome_answer(416, [Issue("value", text, "Range")], (b"content-range", b"bytes */%d" % known.bytes))
    gzip = part is None and takes_gzip(exchange.headers.get("accept-encoding"))
    headers = [
        (b"content-type", _TYPES[known.name.rpartition(".")[2]]),
        (b"accept-ranges", b"bytes"),
        (b"etag", (f'{etag[:-1]}-gzip"' if gzip else etag).encode()),
        (b"last-modified", modified.encode()),
    ]
    return FileAnswer(200 if part is None else 206, b"", headers, opened, known.bytes, gzip, part, exchange.receive)


def _opened(place: Path) -> BinaryIO:
    try:
        return place.open("rb")
    except FileNotFoundError as error:
        raise NotFound("the file has been removed") from error


def places(progress: Progress, type_name: str) -> list[Path]:
    """The files of an export that may hold resources of a type."""
    folder = KINDS[progress.kind].folder(progress)
    content = (one for one in files_of(progress) if one.kind == "output" and one.name.endswith(".ndjson"))
    return [folder / one.name for one in content if one.type_name in (type_name, None)]


async def _own(exchange: Exchange) -> Progress:
    """The job of the address."""
    return await own(exchange, exchange.path["job"])


async def own(exchange: Exchange, job_id: str) -> Progress:
    """A job, where it is the caller's own and its time is not over."""
    progress = await Queue(exchange.record.database).progress(job_id)
    if progress is None or progress.kind not in KINDS or progress.owner != exchange.caller.owner:
        raise NotFound("there is no such job")
    if progress.state == "cancelled":
        raise NotFound("the job was cancelled")
    life = timedelta(seconds=limits.job_files_life_s)
    if progress.finished is not None and exchange.record.clock.now() > progress.finished + life:
        raise NotFound("the job's files have been removed, their time was over")
    for name in progress.params.get("types", ()):
        if not exchange.caller.grants.allow(name, "r"):
            raise Forbidden(f"the token does not grant 'r' on {name}")
    return progress


def _address(exchange: Exchange, job_id: str) -> str:
    return f"{exchange.base}/_job/{job_id}"


_JOB: Final = "/fhir/_job/{job:fhirid}"

JOBS: Final[Sequence[tuple[str, Mapping[str, Handler]]]] = [(_JOB, {"GET": status, "DELETE": cancel})]
FILES: Final[Sequence[tuple[str, Mapping[str, Handler]]]] = [(f"{_JOB}/{{file}}", {"GET": file})]
"""Answers of these have formats of their own."""
