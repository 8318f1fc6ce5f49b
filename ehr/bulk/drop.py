"""Files that facilities drop into a folder → imports, by the worker's clock.

In:      DATA_DIR/drop/[facility code]/: NDJSON, also packed; hidden files and .part, .tmp are not looked at, nor
         links: a facility could name what only the worker may read
Out:     each file is an import of its own; when it is over the file lies in done/, or in refused/ beside the lines that
         were not stored and why
Partial: a file is taken when it has not changed for drop_quiet_s; who renames a finished file into place need not wait
States:  name → taken/[id]/name → done/[id]-name or refused/[id]-name: each step is a rename, and what a crash left
         half way is found by the next tick
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ehr import limits
from ehr.bulk import files, job
from ehr.bulk.order import Order
from ehr.errors import Refused
from ehr.ids import new_id
from ehr.jobs.queue import Queue

if TYPE_CHECKING:
    from ehr.store.record import Record

FOLDER: Final = "drop"
TAKEN: Final = "taken"
DONE: Final = "done"
REFUSED: Final = "refused"
NAME_BYTES: Final = 180
"""Of the end of a file's name: with an id before it and an ending after it, a folder takes 255."""

_LOCK: Final = "select pg_try_advisory_lock(hashtext('ehr drop folders'))"
_UNLOCK: Final = "select pg_advisory_unlock(hashtext('ehr drop folders'))"
_FACILITIES: Final = "select code, id from facility where active"

log = structlog.get_logger()


async def collect(record: "Record") -> int:
    """Take what has come, and put away what is done; how many files were taken. One worker at a time does this."""
    home = record.settings.data_dir / FOLDER
    if not await asyncio.to_thread(home.is_dir):
        return 0
    async with record.database.acquire() as connection:
        if not await connection.fetchval(_LOCK):
            return 0
        try:
            facilities = {row["code"]: row["id"] for row in await connection.fetch(_FACILITIES)}
            taken = 0
            for code, id in facilities.items():
                try:
                    taken += await _collect(record, home / code, Order(id))
                except OSError as error:  # the others must not wait for it
                    log.warning("drop folder cannot be worked on", facility=code, error=error.strerror)
            return taken
        finally:
            await connection.execute(_UNLOCK)


async def _collect(record: "Record", folder: Path, order: Order) -> int:
    if not await asyncio.to_thread(folder.is_dir):
        return 0
    taken = await asyncio.to_thread(_take, folder, record.clock.now().timestamp())
    for path in await asyncio.to_thread(_taken, folder):
        await _see_to(record, path, order)
    return taken


def _take(folder: Path, now_s: float) -> int:
    """Move complete files where nobody writes."""
    taken = 0
    for path in sorted(folder.iterdir()):
        is_ready = (
            path.is_file()
            and not path.is_symlink()
            and path.name.endswith(files.SUFFIXES)
            and not path.name.startswith(".")
        )
        if is_ready and now_s - _changed_s(path) >= limits.drop_quiet_s:
            place = folder / TAKEN / new_id()
            place.mkdir(parents=True)
            path.rename(place / path.name)
            taken += 1
    return taken


def _changed_s(path: Path) -> float:
    """When it last changed. The moment it says itself may be of the sender's clock, which may be a year ahead; when it
    came here is of ours."""
    told = path.stat()
    return min(told.st_mtime, told.st_ctime)


def _taken(folder: Path) -> list[Path]:
    return sorted((folder / TAKEN).glob("*/*"))


async def _see_to(record: "Record", path: Path, order: Order) -> None:
    """One step of a file that was taken: its import is begun, or is over."""
    queue = Queue(record.database)
    found = await queue.newest(job.KIND, job.key_of([path], order))
    if found is None:
        try:
            job_id = await job.plan(queue, [path], record.settings.data_dir / job.IMPORTS, order, owner="drop")
        except Refused as error:
            await asyncio.to_thread(_put_away, path, REFUSED, str(error))
            return
        except PermissionError:
            await asyncio.to_thread(_put_away, path, REFUSED, "the file may not be read; let the group read it")
            return
        log.info("file taken", job_id=job_id)
        return
    standing = await job.summary(queue, found[0])
    if standing.over:
        is_whole = standing.state == "done" and not standing.refused
        why = "\n".join(standing.errors)
        await asyncio.to_thread(_put_away, path, DONE if is_whole else REFUSED, why, standing.error_file)


def _put_away(path: Path, where: str, why: str, error_file: str | None = None) -> None:
    """The reasons first, then the file: while it is not moved, the next tick comes here again."""
    place = path.parent.parent.parent / where
    place.mkdir(exist_ok=True)
    name = f"{path.parent.name}-{os.fsencode(path.name)[-NAME_BYTES:].decode(errors='ignore')}"
    if error_file is not None:
        shutil.copyfile(error_file, place / f"{name}.errors.ndjson")
    if why:
        (place / f"{name}.errors.txt").write_text(why + "\n", encoding="utf-8")
    path.rename(place / name)
    path.parent.rmdir()
