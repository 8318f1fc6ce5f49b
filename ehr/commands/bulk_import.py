"""`ehr import PATH…`: files of NDJSON → the record, each line checked as on every other door.

Exit:    1 where lines were refused or a part failed, 130 after Ctrl-C
Prints:  the counts, on standard output; JSON lines with --json; a bar on a terminal
"""

import asyncio
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from ehr.bulk import job
from ehr.bulk.order import Order
from ehr.commands.facility import facility_id
from ehr.commands.terminal import EXIT_INTERRUPTED, AsJson, DataDir, bar, end, fail, say_json, settings_of
from ehr.jobs.celery_app import make_celery, wake
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.serve import broker_of, database_of
from ehr.settings import Settings

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    paths: list[Path]
    facility: str | None
    processes: int
    background: bool
    resume: bool
    keep_meta: bool
    references: str
    as_json: bool


@app.command("import")
def import_command(  # noqa: PLR0917 - options of a command
    paths: Annotated[list[Path], typer.Argument(help="NDJSON files (.ndjson, .jsonl, .gz, .zst) or folders of them.")],
    facility: Annotated[
        str | None, typer.Option(help="Code of the facility that sends them; the city itself if none.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Symmetric processes.")] = os.cpu_count() or 1,
    background: Annotated[bool, typer.Option("--background", help="Leave the work to the workers.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished import of these files.")] = False,
    keep_meta: Annotated[
        bool, typer.Option("--keep-meta", help="New resources keep meta.versionId and meta.lastUpdated.")
    ] = False,
    references: Annotated[
        Literal["report", "refuse", "ignore"],
        typer.Option(
            help="Where one leads nowhere: report tells when all is stored, refuse stores no such line; or ignore."
        ),
    ] = "report",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Load resources, line by line, each checked as on every other door."""
    settings = settings_of(data_dir=data_dir)
    asked = Asked(paths, facility, processes, background, resume, keep_meta, references, as_json)
    try:
        done = asyncio.run(_import(settings, asked))
    except KeyboardInterrupt:
        fail("interrupted; what is stored stays stored, and the same command with --resume goes on", EXIT_INTERRUPTED)
    end(well=not (done.state == "failed" or done.refused))


async def _import(settings: Settings, asked: Asked) -> job.Summary:
    async with database_of(settings) as url:
        record = await open_record(settings, url)
        try:
            queue = Queue(record.database)
            sender = await facility_id(record, asked.facility)
            order = Order(sender, keep_meta=asked.keep_meta, references=asked.references)
            job_id = await job.resume(queue, asked.paths, order) if asked.resume else None
            if job_id is None:
                await job.clean(queue, settings.data_dir / job.IMPORTS)  # what is unpacked needs the room
                job_id = await job.plan(queue, asked.paths, settings.data_dir / job.IMPORTS, order, owner="cli")
            if asked.background:
                async with broker_of(settings) as broker_url:
                    await wake(make_celery(broker_url), asked.processes)
                done = await job.summary(queue, job_id)
            else:
                opener = functools.partial(open_record, settings, url)
                with bar("import", _COLUMNS, _shown, _line, as_json=asked.as_json) as seen:
                    done = await job.run_here(record, queue, job_id, opener, processes=asked.processes, seen=seen)
        finally:
            await record.close()
    _show(done, as_json=asked.as_json)
    return done


_COLUMNS = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[n]}"))


def _shown(now: job.Summary) -> dict[str, Any]:
    if now.bytes_checked and not now.bytes_done:
        return {"total": now.bytes, "completed": now.bytes_checked, "n": "checked"}
    count = f"{now.lines:,} resources" + (f", {now.refused:,} refused" if now.refused else "")
    return {"total": now.bytes, "completed": now.bytes_done, "n": count}


def _line(now: job.Summary) -> dict[str, object]:
    done = {"bytes": now.bytes, "bytes_checked": now.bytes_checked, "bytes_done": now.bytes_done}
    return {"job": now.job_id, **done, "lines": now.lines}


def _show(done: job.Summary, *, as_json: bool) -> None:
    counts = {name: getattr(done, name) for name in job.COUNTS}
    if as_json:
        told = {"file": done.error_file, "dangling": done.dangling, "dangling_file": done.dangling_file}
        say_json({"job": done.job_id, "state": done.state, **counts, "errors": done.errors, **told})
        return
    table = Table("job", done.job_id, title=f"import {done.state}", title_justify="left")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    for error in done.errors:
        table.add_row("failed chunk", error)
    if done.error_file:
        table.add_row("lines not stored", done.error_file)
    if done.dangling_file:
        table.add_row(f"{done.dangling:,} references lead nowhere", done.dangling_file)
    Console().print(table)
