"""`ehr message`: what facilities sent, as the ledger has it; never the content of a message.

Prints:  JSON lines
Exit:    1 where a message failed again
"""

from enum import StrEnum
from typing import Annotated

import typer

from adapters.pipeline import Pipeline
from ehr.commands.facility import facility_id
from ehr.commands.terminal import DataDir, end, say_json, settings_of, with_record
from ehr.intake import Intake
from ehr.store import ledger
from ehr.store.record import Record


class State(StrEnum):
    """How far a message is."""

    received = "received"
    applied = "applied"
    refused = "refused"
    failed = "failed"


app = typer.Typer(no_args_is_help=True, help="What facilities sent.")


@app.command("list")
def list_command(
    state: Annotated[list[State] | None, typer.Option(help="Only those in this state, or in one of several.")] = None,
    facility: Annotated[str | None, typer.Option(help="Code of the sender.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    data_dir: DataDir = None,
) -> None:
    """Messages of the ledger, newest first, as JSON lines; never their content."""

    async def entries(record: Record) -> list[ledger.LedgerEntry]:
        number = await facility_id(record, facility) if facility else None
        async with record.database.acquire() as connection:
            return await ledger.entries(connection, facility_id=number, states=state, limit=limit)

    for entry in with_record(settings_of(data_dir=data_dir), entries):
        say_json({name: getattr(entry, name) for name in entry.__dataclass_fields__})


@app.command("replay")
def replay_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many, of each facility and in all.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Finish what was kept and not applied, now, however often it has failed."""
    settings = settings_of(data_dir=data_dir)
    if dry_run:
        waiting = with_record(settings, _waiting)
        for code, count in waiting.items():
            say_json({"facility": code, "would_try": count})
        say_json({"would_try": sum(waiting.values())})
        return
    finished, failed = with_record(settings, lambda record: Pipeline(Intake(record)).replay())
    say_json({"finished": finished, "failed": failed})
    end(well=not failed)


async def _waiting(record: Record) -> dict[str, int]:
    """Messages that a replay would take, by facility."""
    async with record.database.acquire() as connection:
        return await ledger.waiting(connection)
