"""`ehr profile load`: packages of FHIR guides → profiles, value sets and code systems of this installation.

Prints:  what was stored of each package and what was refused, on standard output; JSON lines with --json
Errors:  NotFound, Invalid  a path that is not there, or no package of R4; what was stored before it stays
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ehr.bulk.package import Loaded, load
from ehr.commands.terminal import DataDir, end, say_json, settings_of, with_record
from ehr.store.record import Record

app = typer.Typer(no_args_is_help=True, help="Profiles, and the value sets they name.")


@app.command("load")
def load_command(
    paths: Annotated[list[Path], typer.Argument(help="Packages (.tgz or unpacked folders), or JSON files.")],
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each package.")] = False,
) -> None:
    """Store the profiles, value sets, code systems and concept maps of packages; the same again changes nothing."""

    async def loaded(record: Record) -> list[Loaded]:
        return [await load(record, path) for path in paths]

    done = with_record(settings_of(data_dir=data_dir), loaded)
    _show(done, as_json=as_json)
    end(well=not any(one.refused for one in done))


def _show(done: Sequence[Loaded], *, as_json: bool) -> None:
    if as_json:
        for one in done:
            say_json(_as_json(one))
        return
    table = Table("package", "stored", "as it was", "refused", "names", title="profiles", title_justify="left")
    for one in done:
        table.add_row(one.path, f"{one.stored:,}", f"{one.unchanged:,}", f"{len(one.refused):,}", "\n".join(one.needs))
    console = Console()
    console.print(table)
    for one in done:
        for refusal in one.refused:
            first = refusal.issues[0]
            console.print(f"{refusal.file}: {first.at or ''} {first.text}".rstrip(), highlight=False)


def _as_json(one: Loaded) -> dict[str, Any]:
    return {
        "package": one.path,
        "stored": one.stored,
        "unchanged": one.unchanged,
        "needs": one.needs,
        "refused": [
            {"file": refusal.file, "issues": [{"at": issue.at, "text": issue.text} for issue in refusal.issues]}
            for refusal in one.refused
        ],
    }
