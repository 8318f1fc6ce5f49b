"""`ehr db`: the schema, a copy, the compression dictionaries and the search index of the database.

Exit:    1 where rows could not be indexed
Prints:  what was done, on standard output
"""

import asyncio
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ehr.commands.terminal import DataDir, end, say, say_json, settings_of, with_record
from ehr.database.backup import backup
from ehr.errors import Invalid
from ehr.serve import database_of
from ehr.store import backfill, dictionaries

app = typer.Typer(no_args_is_help=True, help="The database.")


@app.command("upgrade")
def upgrade_command(data_dir: DataDir = None) -> None:
    """Bring the database to the newest revision."""

    async def upgrade() -> None:
        async with database_of(settings_of(data_dir=data_dir)):
            pass

    asyncio.run(upgrade())


@app.command("backup")
def backup_command(
    folder: Annotated[Path, typer.Argument(help="A new folder; ehr serve --data-dir FOLDER starts from it.")],
    data_dir: DataDir = None,
) -> None:
    """Copy the embedded database and the keys into a folder, as of now, while others write; the copy is verified.

    To restore, serve from that folder. An outside database has tools of its own; the keys are in EHR_DATA_DIR/keys.
    """
    settings = settings_of(data_dir=data_dir)
    if settings.database_url is not None:
        raise Invalid("an outside database is copied by its own tools (pg_basebackup); keep EHR_DATA_DIR/keys with it")
    asyncio.run(backup(settings.data_dir, folder, settings.postgres_bin))
    say(f"{folder} is verified; start from it with: ehr serve --data-dir {shlex.quote(str(folder))}")


@app.command("dictionaries")
def dictionaries_command(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each dictionary.")] = False,
) -> None:
    """Train a compression dictionary for each resource type that would shrink by it; earlier ones stay readable."""

    for made in with_record(settings_of(data_dir=data_dir), dictionaries.retrain):
        if as_json:
            say_json(asdict(made))
        else:
            share = f"{made.type_name}: {made.after / made.before:.0%} of its present size"
            say(share + ("" if made.kept else ", not kept"))


@app.command("reindex")
def reindex_command(data_dir: DataDir = None) -> None:
    """Make the search index anew from the bodies, while others write; finishes what a job could not."""

    done = with_record(settings_of(data_dir=data_dir), backfill.rebuild_all)
    read, changed = (sum(one[name] for one in done.results) for name in ("read", "changed"))
    say(f"{changed:,} of {read:,} rows differed")
    end(well=done.state == "done")
