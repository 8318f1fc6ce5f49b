"""`ehr serve`, `ehr worker` and `ehr beat`: the processes of an installation, until they are told to stop."""

import asyncio
from typing import Annotated

import typer
import uvloop

from ehr.commands.terminal import Access, DataDir, Host, MllpPort, Port, say, settings_of
from ehr.ops import logging
from ehr.serve import serve, work

app = typer.Typer()


@app.command("serve")
def serve_command(
    host: Host = None,
    port: Port = None,
    mllp_port: MllpPort = None,
    data_dir: DataDir = None,
    access: Access = None,
) -> None:
    """Serve the record: HTTP, MLLP, and, where none is given, a database, a broker and a worker of its own."""
    settings = settings_of(host=host, port=port, mllp_port=mllp_port, data_dir=data_dir, access=access)
    logging.configure(settings.log_level, settings.log_format)
    uvloop.run(serve(settings, announce=say))


@app.command()
def worker(hands: Annotated[int | None, typer.Option(help="Processes that work at once.")] = None) -> None:
    """Do background work (beside `ehr serve`, or for an outside broker)."""
    asyncio.run(work(settings_of(), *(["--hands", str(hands)] if hands else [])))


@app.command()
def beat() -> None:
    """Send the ticks of the clock; one process of an installation does."""
    asyncio.run(work(settings_of(), "--clock-only"))
