"""`ehr profile load`: packages of FHIR guides → profiles, value sets and code systems of this installation.

Prints:  what was stored of each package and what was refused, on standard output; JSON lines with --json
Errors:  NotFound, Invalid  a path that is not there, or no package of R4; what was stored before it stays
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from ehr.bulk.package import Loaded, load
from ehr.serve import record_of
from ehr.settings import Settings

_EXIT_REFUSED: Final = 1


def add_to(app: typer.Typer) -> None:
    """Give the `ehr` command the group `profile`."""
    group = typer.Typer(no_args_is_help=True, help="Profiles, and the value sets they name.")
    group.command("load")(load_command)
    app.add_typer(group, name="profile")


def load_command(
    paths: Annotated[list[Path], typer.Argument(help="Packages (.tgz or unpacked folders), or JSON files.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of the embedded services (EHR_DATA_DIR).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each package.")] = False,
) -> None:
    """Store the StructureDefinitions, ValueSets and CodeSystems of packages; the same again changes nothing."""
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)

    async def run() -> list[Loaded]:
        async with record_of(settings) as record:
            return [await load(record, path) for path in paths]

    done = asyncio.run(run())
    _show(done, as_json=as_json)
    raise typer.Exit(_EXIT_REFUSED if any(one.refused for one in done) else 0)


def _show(done: Sequence[Loaded], *, as_json: bool) -> None:
    if as_json:
        for one in done:
            sys.stdout.write(json.dumps(_as_json(one), ensure_ascii=False) + "\n")
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
