"""What commands have in common: options, an open record, lines, a bar, and the ends they come to.

Prints:  results on standard output, bars and complaints on standard error
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn

from ehr.serve import record_of
from ehr.settings import Settings, unread
from ehr.store.record import Record

EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LATER: Final = 75
"""EX_TEMPFAIL of sysexits.h."""
EXIT_INTERRUPTED: Final = 130
"""As shells say of Ctrl-C."""

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the embedded services (EHR_DATA_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines instead of tables and bars.")]
Host = Annotated[str | None, typer.Option(help="Address to bind.")]
Port = Annotated[int | None, typer.Option(help="HTTP port; 0 takes a free one.")]
MllpPort = Annotated[int | None, typer.Option(help="MLLP port; 0 takes a free one.")]
Access = Annotated[str | None, typer.Option(help="enforced, or open (loopback only, no tokens).")]

T = TypeVar("T")
Now = TypeVar("Now")
"""How far something is."""


def settings_of(**given: Any) -> Settings:
    """The environment, with what the command line says instead. What looks like a setting and is none is told."""
    for name in unread():
        sys.stderr.write(f"ehr: {name} is no setting, and is not read\n")
    return Settings(**{name: value for name, value in given.items() if value is not None})


def with_record(settings: Settings, work: Callable[[Record], Awaitable[T]]) -> T:
    """What the work gives, on a record that is open as long."""

    async def opened() -> T:
        async with record_of(settings) as record:
            return await work(record)

    return asyncio.run(opened())


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say_json(content: object) -> None:
    say(json.dumps(content, ensure_ascii=False, default=str))


def end(*, well: bool) -> NoReturn:
    """Leave with 0, or with the code of what was refused or is not well."""
    raise typer.Exit(0 if well else EXIT_REFUSED)


def fail(text: str, code: int) -> NoReturn:
    """Leave with one line that says why."""
    sys.stderr.write(f"ehr: {text}\n")
    sys.exit(code)


@contextmanager
def bar(
    name: str,
    columns: tuple[ProgressColumn, ...],
    shown: Callable[[Now], dict[str, Any]],
    line: Callable[[Now], dict[str, object]],
    *,
    as_json: bool,
) -> Iterator[Callable[[Now], None]]:
    """Is told how far something is, and shows it on a terminal; with --json it says a line a change.

    shown  what to update of the bar: total, completed, and the columns' own field n
    line   what the JSON line holds
    """
    if as_json:
        last: dict[str, object] = {}

        def told(now: Now) -> None:
            nonlocal last
            if (new := line(now)) != last:
                last = new
                say_json(new)

        yield told
    elif not sys.stderr.isatty():
        yield lambda _: None
    else:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=None, n="")
            yield lambda now: progress.update(task, **shown(now))
