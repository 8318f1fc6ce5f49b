"""`ehr terminology load`: files of codes → the tables of terminology, all of the files or none of them.

Prints:  what was loaded, on standard output; JSON lines with --json; a bar on a terminal
Errors:  Invalid   a file that cannot be read as what it claims to be, with the place in it; nothing is stored
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ehr.access.policy import Caller
from ehr.commands.terminal import DataDir, say_json, settings_of, with_record
from ehr.errors import Invalid, NotFound
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from terminology.errors import Unreadable
from terminology.load import Loaded, load

Told = Callable[[str, int, int], None]
"""Is told the name of a file, how many of its rows are stored, and of how many."""

_NO_LIMITS: Final = "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0"
"""A large file is read and taken apart while the transaction waits."""


app = typer.Typer(no_args_is_help=True, help="Code systems, value sets and concept maps.")


@app.command("load")
def load_command(  # noqa: PLR0917 - options of a command
    files: Annotated[list[Path], typer.Argument(help="FHIR JSON or CSV lists, also .gz.")],
    system: Annotated[str | None, typer.Option(help="Address of the code system of a plain CSV list.")] = None,
    version: Annotated[str | None, typer.Option(help="Its business version.")] = None,
    title: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each thing loaded.")] = False,
) -> None:
    """Load code lists; the same content again changes nothing, other content under the same name replaces it."""

    async def loaded(record: Record) -> list[Loaded]:
        with _bar(shown=sys.stderr.isatty() and not as_json) as told:
            return await load_files(record, files, told, system=system, version=version, title=title)

    _show(with_record(settings_of(data_dir=data_dir), loaded), as_json=as_json)


async def load_files(
    record: Record,
    files: Sequence[Path],
    told: Told,
    *,
    system: str | None = None,
    version: str | None = None,
    title: str | None = None,
) -> list[Loaded]:
    """Load every file in one transaction."""

    async def work(uow: UnitOfWork) -> list[Loaded]:
        await uow.connection.execute(_NO_LIMITS)
        done: list[Loaded] = []
        for file in files:
            progress = partial(told, file.name)
            try:
                done += await load(uow.connection, file, system=system, version=version, title=title, progress=progress)
            except FileNotFoundError as error:
                raise NotFound(f"no file {file.name}") from error
            except Unreadable as error:
                raise Invalid(f"{file.name}: {error.text}", at=error.at) from error
        names = [f"{one.url}|{one.version}" for one in done if one.changed]
        await uow.audit.execute("terminology-load", detail={"loaded": names})
        return done

    return await record.run(Caller.system("terminology load"), work)


@contextmanager
def _bar(*, shown: bool) -> Iterator[Told]:
    if not shown:
        yield lambda _name, _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {}

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], total=total, completed=done)

        yield told


def _show(done: Sequence[Loaded], *, as_json: bool) -> None:
    if as_json:
        for one in done:
            say_json(asdict(one))
        return
    table = Table("what", "address", "version", "entries", "", title="terminology", title_justify="left")
    for one in done:
        table.add_row(one.kind, one.url, one.version, f"{one.count:,}", "loaded" if one.changed else "as it was")
    Console().print(table)
