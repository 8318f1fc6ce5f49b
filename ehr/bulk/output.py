"""Files that a job makes: whole or not there, found by name, removed when their time is over.

In:      the folder of this installation's jobs; a job's id
Out:     NDJSON lines written as they come; OutputFile: what a manifest says of a file
Order:   a file has its name only when it is complete and on the disk; a chunk that runs again replaces it
Limits:  limits.job_files_life_s after the end of its job a file is removed
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, Self

from ehr import limits
from ehr.jobs.queue import Queue
from ehr.store.body import BodyCodec

SLICE: Final = 256
"""Bodies unpacked and written together: some 350 KB, which the processor still holds while they are written."""

BEHIND_BYTES: Final = 16 * 1024 * 1024
"""Written before the disk is told to begin."""

_NEWLINES: Final = b"\r\n"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file of a job. type_name: of its resources; None where they are of several.

    kind  output, deleted or error: the list of the manifest it belongs to
    """

    kind: str
    name: str
    type_name: str | None
    count: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class LinesFile:
    """A file of lines while it is written; not there until it is published."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self.name = name
        self.count = 0
        self.bytes = 0
        self._place = folder / name
        self._partial = folder / f".{name}.{os.getpid()}"
        self._file = self._partial.open("wb")
        self._behind = 0

    def write(self, bodies: Iterable[bytes]) -> None:
        """One line each. A line feed in JSON can only stand between its tokens, so it can be left out."""
        for body in bodies:
            line = body.translate(None, _NEWLINES) if b"\n" in body else body
            self._file.write(line)
            self._file.write(b"\n")
            self.count += 1
            self.bytes += len(line) + 1

    def write_frames(self, frames: Sequence[bytes], bodies: BodyCodec) -> None:
        """The same of bodies as they are stored, many in one step where they allow it."""
        for start in range(0, len(frames), SLICE):
            some = frames[start : start + SLICE]
            lines = bodies.lines(some)
            if lines is None:
                self.write(map(bodies.decompress, some))
            else:
                self._file.write(lines)
                self.count += len(some)
                self.bytes += len(lines)
        if self.bytes - self._behind >= BEHIND_BYTES:
            self._let_go()
            self._behind = self.bytes

    def _let_go(self) -> None:
        """Of what the disk has, for PostgreSQL's pages to stay in memory; and let the disk begin with the rest."""
        if sys.platform == "linux":  # where this advice does both, and does not wait
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def complete(self) -> None:
        """Let it be on the disk, and no longer be written to."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._let_go()
            self._file.close()

    def publish(self, kind: str, type_name: str | None) -> OutputFile:
        """Give it its name."""
        self.complete()
        self._partial.replace(self._place)
        return OutputFile(kind, self.name, type_name, self.count, self.bytes)

    def discard(self) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)


class File(Protocol):
    """A file while it is written."""

    def write(self, bodies: Iterable[bytes]) -> None: ...

    def write_frames(self, frames: Sequence[bytes], bodies: BodyCodec) -> None: ...

    def complete(self) -> None: ...

    def publish(self, kind: str, type_name: str | None) -> OutputFile: ...

    def discard(self) -> None: ...


class Folder:
    """The files that one chunk writes, by name; published together, after what they say is committed."""

    def __init__(self, folder: Path, opener: Callable[[Path, str], File] = LinesFile) -> None:
        """opener: of the files of resources; what tells about them is always lines."""
        self._folder = folder
        self._opener = opener
        self._open: dict[str, tuple[File, str, str | None]] = {}

    def file(self, name: str, kind: str, type_name: str | None) -> File:
        known = self._open.get(name)
        if known is None:
            opener = self._opener if kind == "output" else LinesFile
            known = self._open[name] = (opener(self._folder, name), kind, type_name)
        return known[0]

    def complete(self) -> None:
        """Let them all be on the disk: what takes time before they get their names."""
        for file, _, _ in self._open.values():
            file.complete()

    def publish(self) -> list[OutputFile]:
        made = [file.publish(kind, type_name) for file, kind, type_name in self._open.values()]
        self._open.clear()
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._open.values():
            opened[0].discard()


async def clean(queue: Queue, home: Path) -> int:
    """Remove the folders of jobs that were cancelled or ended too long ago; how many.

    One of no job is somebody's who is about to enqueue it, or was killed before: it may stay as long.
    """
    touched = await asyncio.to_thread(_folders, home)
    over = await queue.outlived(touched, limits.job_files_life_s)
    for name in over:
        await remove(home / name)
    return len(over)


def _folders(home: Path) -> dict[str, datetime]:
    """The names of the folders, and when something last came into each."""
    places = [place for place in home.iterdir() if place.is_dir()] if home.is_dir() else []
    return {place.name: datetime.fromtimestamp(place.stat().st_mtime, UTC) for place in places}


async def remove(folder: Path) -> None:
    """Remove a job's files; who reads one at the moment reads it to its end."""
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
