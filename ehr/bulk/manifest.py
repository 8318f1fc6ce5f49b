"""A job that is done → the manifest of its files. Pure.

In:      progress of the job; the address of the job, below which its files are
Out:     a tree of JSON, as the status address answers it
Source:  Bulk Data Access IG 2.0.0, response - output manifest
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from ehr.bulk.output import OutputFile
from ehr.jobs.queue import Progress


def files_of(progress: Progress) -> Iterator[OutputFile]:
    """Every file its chunks have made, in their order."""
    for result in progress.results:
        yield from msgspec.convert(result["files"], list[OutputFile])


def export_manifest(progress: Progress, address: str, *, token: bool) -> dict[str, Any]:
    """The manifest of an export."""
    params = progress.params
    made: dict[str, Any] = {
        "transactionTime": params["time"],
        "request": params["url"],
        "requiresAccessToken": token,
        "output": [],
        "deleted": [],
        "error": [],
    }
    if params["request"]["organized_by"]:
        made["outputOrganizedBy"] = params["request"]["organized_by"]
    for file in files_of(progress):
        typed = {"type": file.type_name} if file.type_name else {}
        made[file.kind].append({**typed, "url": f"{address}/{file.name}", "count": file.count})
    return made
