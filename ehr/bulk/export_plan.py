"""ExportRequest → a snapshot and the chunks of a job: spans of rows by type, or some hundred patients each.

In:      the request and its caller; a folder for the files
Out:     the job's id; its rows are committed together with the audit row of the request
Errors:  NotFound, Invalid   a Group or a patient that is not there, or that the caller may not know
Spans    rids of a type from its least to its greatest, cut evenly: rids grow with creation, so this needs no scan.
         A thin span costs a look into an index; the outer ones reach beyond, to what was there and is deleted since.
         Types with few rows share a chunk: each chunk costs some ten milliseconds beside its rows
Patients their resources lie together by shard, so a list of patients costs what it holds, not what the store does
Joined   who came into the Group after _since is exported whole: an earlier export had nothing of them
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.bulk.export_job import HERE, KIND, ExportJob
from ehr.bulk.export_request import LATEST, PROVENANCE, RELEVANT, ExportRequest
from ehr.clock import instant
from ehr.database.connection import Connection
from ehr.database.partitions import partition_name
from ehr.errors import Forbidden, Issue, NotFound
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.jobs import queue
from ehr.store import snapshot, versions
from ehr.store.group_members import members
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

ROW_BYTES: Final = 512
"""Of a row of resource in its partition, about: only the number of chunks depends on it."""

MISSING_SHOWN: Final = 5

_SPANS: Final = """
SELECT t.type_id,
       (SELECT r.rid FROM resource r WHERE r.type_id = t.type_id ORDER BY r.rid LIMIT 1) AS low,
       (SELECT r.rid FROM resource r WHERE r.type_id = t.type_id ORDER BY r.rid DESC LIMIT 1) AS high,
       EXISTS (SELECT 1 FROM change c WHERE c.type_id = t.type_id AND c.xid >= $2::xid8) AS changed
FROM unnest($1::smallint[]) AS t(type_id)
"""
_SIZES: Final = """
SELECT c.relname, pg_relation_size(c.oid) AS bytes FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'resource'::regclass
"""
_CHANGED: Final = """
SELECT t.type_id, CASE WHEN $4::xid8 IS NULL THEN (
    SELECT count(*) FROM (
        SELECT 1 FROM resource r WHERE r.type_id = t.type_id AND r.updated >= $3 LIMIT $2) AS one)
ELSE (
    SELECT count(*) FROM (
        SELECT 1 FROM change c WHERE c.type_id = t.type_id AND c.xid >= $4::xid8 LIMIT $2) AS one)
END AS count FROM unnest($1::smallint[]) AS t(type_id)
"""
_EARLIER: Final = """
SELECT min((params -> 'snapshot' ->> 'xid')::bigint) FROM job WHERE kind = ANY($1::text[]) AND params ->> 'time' = $2
"""
_KNOWN: Final = """
SELECT n.id FROM unnest($2::text[]) AS n(id)
WHERE EXISTS (SELECT 1 FROM resource r WHERE r.type_id = $1 AND r.id = n.id OFFSET 0)
"""
"""Key by key: a hash index finds many at once, and then each row is compared with all of them."""


@dataclass(frozen=True, slots=True)
class _Patients:
    """joined: those of ids of whom everything is wanted, however long unchanged."""

    ids: Sequence[str]
    joined: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Span:
    low: int
    high: int
    rows: int


async def plan(
    record: Record,
    caller: Caller,
    request: ExportRequest,
    *,
    home: Path,
    url: str,
    issues: Sequence[Issue] = (),
    kind: str = KIND,
) -> str:
    """Take the snapshot and enqueue the job."""
    if caller.person_id is not None:
        raise Forbidden("a citizen reads their own record; an export is for systems")
    async with record.database.acquire() as connection:
        taken = await snapshot.take(connection)

    async def enqueue(uow: UnitOfWork) -> str:
        patients, found = await _patients(uow, request)
        since_xid = await _since_xid(uow.connection, request.since)
        job = ExportJob(caller, request, taken, since_xid, url, _absolute(home))
        told = [*issues, *found]
        chunks = await _chunks(uow.connection, job, patients)
        if told:
            chunks.append({"part": "issues", "issues": [[one.severity, one.code, one.text, one.at] for one in told]})
        params = {**job.as_json(), "time": instant(taken.time), "types": list(_read_types(request))}
        job_id = await queue.add(uow.connection, kind, params, chunks, owner=caller.owner)
        detail = {"job": job_id, "level": request.level, "types": len(request.types)}
        await uow.audit.execute("export", detail=detail)
        return job_id

    return await record.run(caller, enqueue)


def _read_types(request: ExportRequest) -> tuple[str, ...]:
    """Types a token must still grant to see the job."""
    beside = {LATEST, RELEVANT}.intersection(request.associated)
    return (*request.types, PROVENANCE) if beside else request.types


def _absolute(home: Path) -> str:
    return str(home.absolute())


async def _chunks(connection: Connection, job: ExportJob, patients: _Patients | None) -> list[dict[str, Any]]:
    request = job.request
    size = limits.export_chunk_patients
    chunks: list[dict[str, Any]] = []
    if patients is not None:
        whole = [one for one in patients.ids if one in patients.joined]
        changed = [one for one in patients.ids if one not in patients.joined]
        chunks += [{"part": "patients", "ids": ids} for ids in _slices(changed, size)]
        chunks += [{"part": "patients", "ids": ids, "whole": True} for ids in _slices(whole, size)]
    elif request.organized_by is not None:
        spans = await _spans(connection, ["Patient"], job)
        for span in spans.values():
            chunks += [{"part": "patients", "rids": rids} for rids in _cut(span, size)]
    else:
        spans = await _spans(connection, request.types, job)
        chunks += [{"part": "spans", "spans": together} for together in _packed(spans, limits.export_chunk_resources)]
    if patients is None and request.since is not None:
        chunks.append({"part": "deleted"})
    return chunks or [{"part": "nothing"}]


def _slices(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


async def _spans(connection: Connection, names: Sequence[str], job: ExportJob) -> dict[str, _Span]:
    """Where resources of each type lie, and about how many; a type without any is not there."""
    type_ids = [TYPE_IDS[name] for name in names]
    bytes_of = {row["relname"]: row["bytes"] for row in await connection.fetch(_SIZES)}
    rows_of = await _changed(connection, type_ids, job)
    made: dict[str, _Span] = {}
    for row in await connection.fetch(_SPANS, type_ids, job.snapshot.xid):
        name = TYPE_NAMES[row["type_id"]]
        low, high = row["low"] or 0, row["high"] or 0
        if row["high"] is not None or row["changed"]:
            about = bytes_of[partition_name(name)] // ROW_BYTES
            rows = min(about, high - low + 1, rows_of.get(row["type_id"], about))
            made[name] = _Span(low, high, max(1, rows))
    return made


async def _changed(connection: Connection, type_ids: Sequence[int], job: ExportJob) -> dict[int, int]:
    """How many rows of each type changed since, counted up to a chunk: of more, spans are read whole."""
    if job.request.since is None:
        return {}
    most = limits.export_chunk_resources
    rows = await connection.fetch(_CHANGED, type_ids, most, job.request.since, job.since_xid)
    return {row["type_id"]: row["count"] for row in rows if row["count"] < most}


def _cut(span: _Span, rows: int) -> list[tuple[int, int]]:
    """Even spans (after, up to); the first begins at the beginning, the last has no end."""
    count = min(math.ceil(span.rows / rows), span.high - span.low + 1)
    edges = [span.low - 1 + (span.high - span.low + 1) * number // count for number in range(1, count)]
    return list(zip([0, *edges], [*edges, versions.RID_MAX], strict=True))


def _packed(spans: Mapping[str, _Span], rows: int) -> Iterator[list[tuple[str, tuple[int, int]]]]:
    """(type, span) of about so many rows together: the types that a record has little of share a chunk."""
    together: list[tuple[str, tuple[int, int]]] = []
    room = rows
    for name, span in spans.items():
        cuts = _cut(span, rows)
        each = math.ceil(span.rows / len(cuts))
        for rids in cuts:
            if together and each > room:
                yield together
                together, room = [], rows
            together.append((name, rids))
            room -= each
    if together:
        yield together


async def _since_xid(connection: Connection, since: datetime | None) -> int | None:
    """The snapshot of an earlier export with this transactionTime: what changed since is then known without clocks."""
    if since is None or since.microsecond % 1000:
        return None
    found: int | None = await connection.fetchval(_EARLIER, [KIND, HERE], instant(since))
    return found


async def _patients(uow: UnitOfWork, request: ExportRequest) -> tuple[_Patients | None, list[Issue]]:
    """The only patients wanted, None where all are; what of a Group cannot be followed, as warnings."""
    if request.level != "group":
        if request.patients is None:
            return None, []
        _refuse(await _missing(uow, request.patients), "there is no")
        return _Patients(request.patients), []
    assert request.group, "the address names a Group"
    found = await members(uow, request.group)
    if request.patients is not None:
        known = frozenset(found.patients)
        _refuse([one for one in request.patients if one not in known], "the Group has no member")
    ids = found.patients if request.patients is None else request.patients
    missing = frozenset(await _missing(uow, ids))
    told = [*found.told, *(f"member Patient/{one} is not there" for one in sorted(missing))]
    warnings = [Issue("not-found", text, "Group.member", "warning") for text in told]
    if request.since is None:
        return _Patients([one for one in ids if one not in missing]), warnings
    earlier = frozenset((await members(uow, request.group, request.since)).patients)
    return _Patients(ids, frozenset(ids) - earlier), warnings  # of those who are gone, the deletion is told


async def _missing(uow: UnitOfWork, ids: Sequence[str]) -> list[str]:
    known = {row["id"] for row in await uow.connection.fetch(_KNOWN, TYPE_IDS["Patient"], list(ids))}
    return [one for one in ids if one not in known]


def _refuse(ids: Sequence[str], text: str) -> None:
    if ids:
        shown = ", ".join(f"Patient/{one}" for one in ids[:MISSING_SHOWN])
        more = f" and {len(ids) - MISSING_SHOWN} more" if len(ids) > MISSING_SHOWN else ""
        raise NotFound(f"{text} {shown}{more}", at="patient")
