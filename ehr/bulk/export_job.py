"""An export as rows of the jobs table: what its workers, its status and its next export need to know.

Out:     ExportJob, written to job.params as JSON and read back in any process
Keeps:   the caller with the grants of the request's moment: a worker reads as that caller and no wider
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ehr import limits
from ehr.access.policy import Caller
from ehr.bulk import output
from ehr.bulk.export_request import ExportRequest
from ehr.jobs import life
from ehr.jobs.queue import Queue
from ehr.store.snapshot import Snapshot

KIND: Final = "export"
HERE: Final = "export here"
"""Of a command, which writes into a folder that other workers may not have."""

EXPORTS: Final = "exports"
"""Folder below the data folder, with one of each job; where workers are on several machines, they all see it."""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """home: the folder that holds a folder for each job; that of a command is the files' own.

    url        the request as the manifest repeats it
    since_xid  the snapshot that request.since is the time of, where one is known
    """

    caller: Caller
    request: ExportRequest
    snapshot: Snapshot
    since_xid: int | None
    url: str
    home: str

    def folder(self, job_id: str, kind: str) -> Path:
        return Path(self.home) if kind == HERE else Path(self.home) / job_id

    def as_json(self) -> dict[str, Any]:
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made


async def clean(queue: Queue, home: Path) -> int:
    """Remove what exports wrote and is known of them whose time is over; how many folders were removed.

    A command that nobody gave again is over: its folder is not ours, and no worker waits for it any longer.
    """
    count = await output.clean(queue, home)
    await life.abandon(queue, [HERE], limits.job_files_life_s)
    await life.forget(queue, [KIND, HERE], limits.export_job_life_s)
    return count


def read(params: Mapping[str, Any]) -> ExportJob:
    return msgspec.convert(dict(params), ExportJob)
