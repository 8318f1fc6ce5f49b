"""`ehr sync`: the synchronisation with social insurance.

Exit:    1 where a round met problems, or the balance does not close
"""

import asyncio
from typing import Any

import typer

from ehr.commands.terminal import AsJson, DataDir, end, say, say_json, settings_of
from ehr.serve import record_of
from sync.reconcile import Balance, balance
from sync.schedule import run_sync

app = typer.Typer(no_args_is_help=True, help="The synchronisation with social insurance.")


@app.command("run")
def run_command(data_dir: DataDir = None) -> None:
    """One round: extract, seal, send, ask for answers, reconcile."""

    async def once() -> dict[str, Any]:
        settings = settings_of(data_dir=data_dir)
        async with record_of(settings) as record:
            return (await run_sync(record, settings)).as_json()

    done = asyncio.run(once())
    say_json(done)
    end(well=not done["problems"])


@app.command("report")
def report_command(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The balance: extracted = accepted + rejected + pending, in dossiers and in đồng."""

    async def report() -> Balance:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            return await balance(record)

    made = asyncio.run(report())
    if as_json:
        say_json(made.as_json())
    else:
        say(made.as_text())
    end(well=made.closed)
