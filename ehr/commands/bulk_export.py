"""`ehr export DIR`: the record, or a part of it, → files of one state of it.

Prints:  what was written, on standard output; JSON lines with --json; a bar on a terminal
Errors:  Invalid   a folder that holds something else, an option that names what is not there
"""

import asyncio
import functools
import os
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ehr.access.policy import ALL_GRANTS
from ehr.bulk import export_here, export_request
from ehr.bulk.export_request import ExportRequest, Format
from ehr.commands.terminal import AsJson, DataDir, bar, end, say_json, settings_of
from ehr.errors import Invalid
from ehr.fhir.parameters import Parameters
from ehr.fhir.views import View
from ehr.jobs.queue import Progress
from ehr.record import open_record
from ehr.serve import database_of

FORMATS: Final[tuple[Format, ...]] = ("ndjson", "parquet", "csv")


app = typer.Typer()


@app.command("export")
def export_command(  # noqa: PLR0917 - options of a command
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Empty, or one where the same export was interrupted.")],
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only this resource type; may be repeated.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what changed since this instant, and what is gone.")] = None,
    filter_: Annotated[
        list[str] | None, typer.Option("--filter", help='Only what matches: "Observation?status=final".')
    ] = None,
    group: Annotated[str | None, typer.Option(help="Only the patients of this Group, by its id.")] = None,
    associated: Annotated[
        list[str] | None,
        typer.Option(help="Also LatestProvenanceResources, RelevantProvenanceResources or _ReferencedResources."),
    ] = None,
    view: Annotated[Path | None, typer.Option(help="A ViewDefinition (JSON): its rows instead of resources.")] = None,
    format_: Annotated[str, typer.Option("--format", help="ndjson, parquet, or csv with a view.")] = "ndjson",
    processes: Annotated[int, typer.Option(help="Processes that work at once.")] = os.cpu_count() or 1,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write the record to files, all of one moment; a command that was killed is gone on with by the same command."""
    settings = settings_of(data_dir=data_dir)
    beside = [("includeAssociatedData", one) for one in associated or []]
    filters = [("_typeFilter", one) for one in filter_ or []]

    async def run() -> Progress:
        async with database_of(settings) as url:
            record = await open_record(settings, url)
            try:
                others, known = [*filters, *beside], record.parameters
                request = _request(type_ or [], since, others, known, group=group, view=view, format_=format_)
                opener = functools.partial(open_record, settings, url)
                with bar("export", _COLUMNS, _shown, _line, as_json=as_json) as seen:
                    return await export_here.export_into(
                        record, folder, request, opener, processes=processes, seen=seen
                    )
            finally:
                await record.close()

    done = asyncio.run(run())
    _show(done, folder, as_json=as_json)
    end(well=done.state == "done")


def _request(
    types: list[str],
    since: str | None,
    others: list[tuple[str, str]],
    known: Parameters,
    *,
    group: str | None,
    view: Path | None,
    format_: str,
) -> ExportRequest:
    if format_ not in FORMATS:
        raise Invalid("it is ndjson, parquet or csv", at="--format")
    tree = _view(view)
    if format_ == "csv" and tree is None:
        raise Invalid("a table of columns needs a view; name one with --view", at="--format")
    if tree is not None:
        if any(name == "includeAssociatedData" for name, _ in others):
            raise Invalid("a view has rows of one type, and nothing beside them", at="--associated")
        types = [View(tree).resource]
    given = [("_type", one) for one in types] + others
    given += [("_since", since)] if since else []
    request, _ = export_request.parse("group" if group else "system", given, ALL_GRANTS, group=group, known=known)
    return request.rendered(format_, tree)


def _view(place: Path | None) -> dict[str, Any] | None:
    if place is None:
        return None
    try:
        tree = orjson.loads(place.read_bytes())
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the file is not JSON: {error}", at="--view") from error
    if not isinstance(tree, dict):
        raise Invalid("the file holds no ViewDefinition", at="--view")
    return tree


_COLUMNS: Final = (
    BarColumn(),
    TextColumn("{task.percentage:>3.0f}%"),
    TimeRemainingColumn(),
    TextColumn("{task.fields[n]}"),
)


def _shown(now: Progress) -> dict[str, Any]:
    count, size = now.sums["lines"], now.sums["bytes"]
    return {"total": now.total, "completed": now.done, "n": f"{count:,} lines, {size / 1e6:,.0f} MB"}


def _line(now: Progress) -> dict[str, object]:
    count, size = now.sums["lines"], now.sums["bytes"]
    return {"job": now.id, "parts": now.total, "done": now.done, "lines": count, "bytes": size}


def _show(done: Progress, folder: Path, *, as_json: bool) -> None:
    count, size = done.sums["lines"], done.sums["bytes"]
    if as_json:
        made = {"job": done.id, "state": done.state, "lines": count, "bytes": size, "errors": list(done.errors)}
        say_json({**made, "time": done.params["time"], "folder": str(folder)})
        return
    table = Table("job", done.id, title=f"export {done.state}", title_justify="left")
    table.add_row("lines", f"{count:,}")
    table.add_row("bytes", f"{size:,}")
    table.add_row("state of", done.params["time"])
    for error in done.errors:
        table.add_row("failed part", error)
    Console().print(table)
