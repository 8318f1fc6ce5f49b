"""A job that is done → the manifest of its files. Pure.

In:      progress of the job; the address of the job, below which its files are
Out:     a tree of JSON, as the status address answers it
Source:  Bulk Data Access IG 2.0.0, response - output manifest
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from ehr.bulk.output import OutputFile
from ehr.clock import instant
from ehr.jobs.queue import Progress


def files_of(progress: Progress) -> Iterator[OutputFile]:
    """Every file its chunks have made, in their order."""
    for result in progress.results:
        yield from msgspec.convert(result.get("files", []), list[OutputFile])


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


def import_manifest(progress: Progress, address: str, *, token: bool) -> dict[str, Any]:
    """What an import has stored of each file, and the files of lines it has not: file, line and OperationOutcome."""
    stored: dict[str, int] = {}
    for result in progress.results:
        if "name" in result:
            accepted = result["stored"] + result["updated"] + result["unchanged"]
            stored[result["name"]] = stored.get(result["name"], 0) + accepted
    assert progress.finished is not None, "the job is over"
    return {
        "transactionTime": instant(progress.finished),
        "request": progress.params["url"],
        "requiresAccessToken": token,
        "output": [{"inputUrl": name, "count": count} for name, count in stored.items()],
        "error": [{"url": f"{address}/{file.name}", "count": file.count} for file in files_of(progress)],
    }
