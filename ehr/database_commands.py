"""`ehr db`: the schema, the compression dictionaries and the search index of the database.

Exit:    1 where rows could not be indexed
Prints:  what was done, on standard output
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ehr.jobs.queue import Progress
from ehr.serve import database_of, record_of
from ehr.settings import Settings
from ehr.store import backfill, dictionaries

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the embedded services (EHR_DATA_DIR).")]


def add_to(app: typer.Typer) -> None:
    """Give the `ehr` command the group `db`."""
    group = typer.Typer(no_args_is_help=True, help="The database.")
    group.command("upgrade")(upgrade_command)
    group.command("dictionaries")(dictionaries_command)
    group.command("reindex")(reindex_command)
    app.add_typer(group, name="db")


def _settings(data_dir: Path | None) -> Settings:
    return Settings() if data_dir is None else Settings(data_dir=data_dir)


def upgrade_command(data_dir: DataDir = None) -> None:
    """Bring the database to the newest revision."""

    async def upgrade() -> None:
        async with database_of(_settings(data_dir)):
            pass

    asyncio.run(upgrade())


def dictionaries_command(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each dictionary.")] = False,
) -> None:
    """Train a compression dictionary for each resource type that would shrink by it; earlier ones stay readable."""

    async def train() -> list[dictionaries.Trained]:
        async with record_of(_settings(data_dir)) as record:
            return await dictionaries.retrain(record)

    for made in asyncio.run(train()):
        share = f"{made.type_name}: {made.after / made.before:.0%} of its present size"
        plain = share + ("" if made.kept else ", not kept")
        sys.stdout.write((json.dumps(asdict(made)) if as_json else plain) + "\n")


def reindex_command(data_dir: DataDir = None) -> None:
    """Make the search index anew from the bodies, while others write; finishes what a job could not."""

    async def again() -> Progress:
        async with record_of(_settings(data_dir)) as record:
            return await backfill.rebuild_all(record)

    done = asyncio.run(again())
    read, changed = (sum(one[name] for one in done.results) for name in ("read", "changed"))
    sys.stdout.write(f"{changed:,} of {read:,} rows differed\n")
    if done.state != "done":
        raise typer.Exit(1)
