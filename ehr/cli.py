"""The `ehr` command: arguments and EHR_* variables → the rooms that do the work.

Exit:    0 done · 1 done, but something was refused or is not well · 2 wrong arguments · 75 try again later
         130 interrupted
Prints:  results on standard output (JSON lines with --json), logs on standard error
"""

import asyncio
import errno
import functools
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from adapters.pipeline import Pipeline
from ehr import city_commands, database_commands, export_command, profile_commands, terminology_commands
from ehr.access import authenticate, clients, scopes
from ehr.access.keys import load_keys
from ehr.access.token import Tokens
from ehr.bulk import job as bulk_job
from ehr.bulk.order import Order
from ehr.clock import SystemClock
from ehr.doctor import examine
from ehr.errors import EhrError, Invalid, NotFound, Unavailable
from ehr.intake import Intake
from ehr.jobs.celery_app import make_celery, wake
from ehr.jobs.queue import Queue
from ehr.ops import logging
from ehr.record import open_record
from ehr.serve import broker_of, database_of, record_of, running, serve, work
from ehr.settings import Settings
from ehr.store import faults, ledger
from ehr.store.record import Record
from sync.reconcile import Balance, balance
from sync.schedule import run_sync

T = TypeVar("T")

EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LATER: Final = 75
"""EX_TEMPFAIL of sysexits.h."""
EXIT_INTERRUPTED: Final = 130
"""As shells say of Ctrl-C."""

_NAMED_WRONGLY: Final = {errno.EACCES, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}

app = typer.Typer(name="ehr", no_args_is_help=True, add_completion=False, help="The city's health record.")
insurance = typer.Typer(no_args_is_help=True, help="The synchronisation with social insurance.")
message = typer.Typer(no_args_is_help=True, help="What facilities sent.")
client = typer.Typer(no_args_is_help=True, help="Systems that may ask for tokens.")
app.add_typer(insurance, name="sync")
app.add_typer(message, name="message")
app.add_typer(client, name="client")
city_commands.add_to(app)
database_commands.add_to(app)
export_command.add_to(app)
profile_commands.add_to(app)
terminology_commands.add_to(app)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the embedded services (EHR_DATA_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines instead of tables and bars.")]


def settings_of(**given: Any) -> Settings:
    """The environment, with what the command line says instead."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say_json(content: object) -> None:
    _say(json.dumps(content, ensure_ascii=False, default=str))


def _end(code: int) -> NoReturn:
    raise typer.Exit(code)


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 takes a free one.")] = None,
    mllp_port: Annotated[int | None, typer.Option(help="MLLP port; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
    access: Annotated[str | None, typer.Option(help="enforced, or open (loopback only, no tokens).")] = None,
) -> None:
    """Serve the record: HTTP, MLLP, and, where none is given, a database, a broker and a worker of its own."""
    settings = settings_of(host=host, port=port, mllp_port=mllp_port, data_dir=data_dir, access=access)
    logging.configure(settings.log_level, settings.log_format)
    uvloop.run(serve(settings, announce=_say))


@app.command()
def worker(hands: Annotated[int | None, typer.Option(help="Processes that work at once.")] = None) -> None:
    """Do background work (beside `ehr serve`, or for an outside broker)."""
    _run(work(settings_of(), *(["--hands", str(hands)] if hands else [])))


@app.command()
def beat() -> None:
    """Send the ticks of the clock; one process of an installation does."""
    _run(work(settings_of(), "--clock-only"))


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
    asked = ImportAsked(paths, facility, processes, background, resume, keep_meta, references, as_json)
    try:
        done = _run(_import(settings, asked))
    except KeyboardInterrupt:
        _fail("interrupted; what is stored stays stored, and the same command with --resume goes on", EXIT_INTERRUPTED)
    _end(EXIT_REFUSED if done.state == "failed" or done.refused else 0)


@dataclass(frozen=True, slots=True)
class ImportAsked:
    paths: list[Path]
    facility: str | None
    processes: int
    background: bool
    resume: bool
    keep_meta: bool
    references: str
    as_json: bool


async def _import(settings: Settings, asked: ImportAsked) -> bulk_job.Summary:
    async with database_of(settings) as url:
        record = await open_record(settings, url)
        try:
            queue = Queue(record.database)
            order = Order(
                await _facility_id(record, asked.facility), keep_meta=asked.keep_meta, references=asked.references
            )
            job_id = await bulk_job.resume(queue, asked.paths, order) if asked.resume else None
            if job_id is None:
                home = settings.data_dir / bulk_job.IMPORTS
                job_id = await bulk_job.plan(queue, asked.paths, home, order, owner="cli")
            if asked.background:
                async with broker_of(settings) as broker_url:
                    await wake(make_celery(broker_url), asked.processes)
                done = await bulk_job.summary(queue, job_id)
            else:
                opener = functools.partial(open_record, settings, url)
                with _bar(as_json=asked.as_json) as seen:
                    done = await bulk_job.run_here(record, queue, job_id, opener, processes=asked.processes, seen=seen)
        finally:
            await record.close()
    _show_import(done, as_json=asked.as_json)
    return done


@contextmanager
def _bar(*, as_json: bool) -> Iterator[Callable[[bulk_job.Summary], None]]:
    """Bytes, rate and time left on a terminal; a JSON line a change otherwise."""
    if as_json or not sys.stderr.isatty():
        last = (-1, -1)

        def told(now: bulk_job.Summary) -> None:
            nonlocal last
            if as_json and (now.bytes_checked, now.bytes_done) != last:
                last = now.bytes_checked, now.bytes_done
                bytes_ = {"bytes": now.bytes, "bytes_checked": now.bytes_checked, "bytes_done": now.bytes_done}
                _say_json({"job": now.job_id, **bytes_, "lines": now.lines})

        yield told
        return
    text = TextColumn("{task.fields[n]}")
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), text)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("import", total=None, n="")

        def shown(now: bulk_job.Summary) -> None:
            count = f"{now.lines:,} resources" + (f", {now.refused:,} refused" if now.refused else "")
            checks = now.bytes_checked and not now.bytes_done
            completed = now.bytes_checked if checks else now.bytes_done
            progress.update(task, total=now.bytes, completed=completed, n="checked" if checks else count)

        yield shown


def _show_import(done: bulk_job.Summary, *, as_json: bool) -> None:
    counts = {name: getattr(done, name) for name in bulk_job.COUNTS}
    if as_json:
        told = {"file": done.error_file, "dangling": done.dangling, "dangling_file": done.dangling_file}
        _say_json({"job": done.job_id, "state": done.state, **counts, "errors": done.errors, **told})
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


async def _facility_id(record: Record, code: str | None) -> int:
    if code is None:
        return 0
    found = await Intake(record).facility(code)
    if found is None:
        raise NotFound(f"no facility {code} is registered")
    return found.id


@app.command()
def token(
    client_id: Annotated[str, typer.Option("--client", help="Who will use it; goes to the audit.")],
    scope: Annotated[str, typer.Option(help='SMART scopes: "system/*.rs", "system/Patient.cruds" …')],
    facility: Annotated[str | None, typer.Option(help="Code of the facility it is confined to.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Print an access token of this installation, good for an hour."""
    settings = settings_of(data_dir=data_dir)
    if len(scopes.parse(scope)) != len(scope.split()):
        raise Invalid("a scope is not understood", at="--scope")
    told = running(settings.data_dir).get("base_url")
    settings = settings.model_copy(update={"base_url": settings.base_url or told})

    async def facility_id() -> int:
        async with record_of(settings) as record:
            return await _facility_id(record, facility)

    number = _run(facility_id()) if facility else 0
    tokens = Tokens(load_keys(settings.data_dir), issuer=authenticate.issuer(settings), clock=SystemClock())
    _say(authenticate.issue_token(tokens, client_id, scope, facility_id=number))


@client.command("register")
def client_register(
    client_id: Annotated[str, typer.Argument(help="1 to 64 letters, digits, '.', '_', ':' or '-'.")],
    scope: Annotated[str, typer.Option(help="SMART scopes it may ask for.")],
    name: Annotated[str, typer.Option(help="For people.")] = "",
    facility: Annotated[str | None, typer.Option(help="Code of the facility it speaks for.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Register a system client; prints its secret, once."""

    async def register() -> str:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            number = await _facility_id(record, facility)
            return await clients.register_client(record, client_id, name or client_id, scope, number)

    _say(_run(register()))


@app.command()
def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at this installation and say what to do."""

    async def look() -> bool:
        well = True
        async for finding in examine(settings_of(data_dir=data_dir), SystemClock()):
            well = well and finding.state != "failed"
            if as_json:
                _say_json({name: getattr(finding, name) for name in ("name", "state", "text", "fix")})
            else:
                mark = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}[finding.state]
                _say(f"{mark}  {finding.name}: {finding.text}" + (f"\n         → {finding.fix}" if finding.fix else ""))
        return well

    _end(0 if _run(look()) else EXIT_REFUSED)


@insurance.command("run")
def sync_run(data_dir: DataDir = None) -> None:
    """One round: extract, seal, send, ask for answers, reconcile."""

    async def once() -> dict[str, Any]:
        settings = settings_of(data_dir=data_dir)
        async with record_of(settings) as record:
            return (await run_sync(record, settings)).as_json()

    done = _run(once())
    _say_json(done)
    _end(EXIT_REFUSED if done["problems"] else 0)


@insurance.command("report")
def sync_report(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The balance: extracted = accepted + rejected + pending, in dossiers and in đồng."""

    async def report() -> Balance:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            return await balance(record)

    made = _run(report())
    if as_json:
        _say_json(made.as_json())
    else:
        _say(made.as_text())
    _end(0 if made.closed else EXIT_REFUSED)


@message.command("list")
def message_list(
    state: Annotated[list[str] | None, typer.Option(help="received, applied, refused or failed.")] = None,
    facility: Annotated[str | None, typer.Option(help="Code of the sender.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    data_dir: DataDir = None,
) -> None:
    """Messages of the ledger, newest first, as JSON lines; never their content."""

    async def entries() -> list[ledger.LedgerEntry]:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            number = await _facility_id(record, facility) if facility else None
            async with record.database.acquire() as connection:
                return await ledger.entries(connection, facility_id=number, states=state, limit=limit)

    for entry in _run(entries()):
        _say_json({name: getattr(entry, name) for name in entry.__dataclass_fields__})


@message.command("replay")
def message_replay(data_dir: DataDir = None) -> None:
    """Finish what was kept and not applied, now."""

    async def replay() -> int:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            return await Pipeline(Intake(record)).recover(0.0)

    _say_json({"finished": _run(replay())})


def main() -> None:
    """The entry point: every error of ours becomes one line and an exit code."""
    try:
        app()
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
        _fail(f"settings: {places}", EXIT_USAGE)
    except Unavailable as error:
        _fail(str(error), EXIT_LATER)
    except faults.LOST as error:
        if isinstance(error, OSError) and error.filename is not None:
            _fail(f"{error.filename}: {error.strerror}", EXIT_USAGE if error.errno in _NAMED_WRONGLY else EXIT_LATER)
        _fail(f"a service cannot be reached: {type(error).__name__}: {error}", EXIT_LATER)
    except (Invalid, NotFound) as error:
        _fail(" ".join(f"{one.at or ''} {one.text}".strip() for one in error.issues), EXIT_USAGE)
    except EhrError as error:
        _fail(str(error), EXIT_REFUSED)


def _fail(text: str, code: int) -> NoReturn:
    sys.stderr.write(f"ehr: {text}\n")
    sys.exit(code)
