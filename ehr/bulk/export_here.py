"""An export into a folder of one's own: begun, gone on with after a kill, or refused; its manifest beside its files.

In:      a folder: empty, or with an export of the same request that is not over
Out:     the files; export.json, which says whose job it is; manifest.json when it is done
Order:   the folder is locked while somebody works on it, so chunks that a killed command held can be taken at once, and
         those that failed: what they lacked, as room on the disk, may be there now
Errors:  Invalid   the folder holds something else, or an export of a record that is not this one
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from ehr.access.policy import Caller
from ehr.bulk import export, export_associated, export_plan
from ehr.bulk.export_job import HERE
from ehr.bulk.export_request import ExportRequest
from ehr.bulk.manifest import export_manifest
from ehr.bulk.processes import OpenRecord, run_job
from ehr.errors import Invalid
from ehr.jobs.queue import Progress, Queue
from ehr.jobs.work import Handler

if TYPE_CHECKING:
    from ehr.store.record import Record

STATE: Final = "export.json"
MANIFEST: Final = "manifest.json"
_PARTIAL: Final = ".part"
_UNFINISHED: Final = Path(STATE).with_suffix(_PARTIAL).name

_CALLER: Final = Caller.system("export command")


def handlers_of(record: "Record") -> Mapping[str, Handler]:
    return {HERE: export.handler(record)}


async def export_into(
    record: "Record",
    folder: Path,
    request: ExportRequest,
    opener: OpenRecord,
    *,
    processes: int,
    seen: Callable[[Progress], None],
) -> Progress:
    """Begin, or go on, and return when the job is over."""
    with _locked(folder) as state:
        queue = Queue(record.database)
        asked = orjson.loads(msgspec.json.encode(request))
        job_id = _begun(state, asked)
        if job_id is None:
            job_id = await export_plan.plan(record, _CALLER, request, home=folder, url=str(folder), kind=HERE)
            _note(state, {"job": job_id, "asked": asked})
        else:
            if await queue.progress(job_id) is None:
                text = "the folder holds an export of another record, or one too old to go on; name another folder"
                raise Invalid(text, at="DIR")
            await queue.resume(job_id)
        done = await run_job(
            record, job_id, opener, handlers_of, processes=processes, seen=seen, sums=("lines", "bytes")
        )
        if done.state == "done":
            export_associated.remove(folder)
            _note(folder / MANIFEST, export_manifest(done, ".", token=False))
    return done


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """The folder's state file, while nobody else works on it."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / STATE
    if not state.exists() and any(place.name != _UNFINISHED for place in folder.iterdir()):
        raise Invalid("the folder is not empty; name one that is, or one where an export was interrupted", at="DIR")
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Invalid("another command is exporting into this folder", at="DIR") from error
        yield state
    finally:
        os.close(held)


def _begun(state: Path, asked: Mapping[str, Any]) -> str | None:
    """The job that was begun here; None where there is none yet."""
    if not state.exists():
        return None
    known = orjson.loads(state.read_bytes())
    if known["asked"] != asked:
        raise Invalid("the folder holds another export; give the options of that one, or name another folder", at="DIR")
    if (state.parent / MANIFEST).exists():
        raise Invalid("the folder holds this export already, whole; name another folder for a new one", at="DIR")
    return str(known["job"])


def _note(place: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all: a disk may be full."""
    partial = place.with_suffix(_PARTIAL)
    partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    partial.replace(place)
