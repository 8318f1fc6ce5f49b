"""`ehr sync`: the synchronisation with social insurance.

Exit:    1 where a round met problems, or the balance does not close
"""

from typing import Annotated

import typer

from ehr.commands.facility import facility_id
from ehr.commands.terminal import AsJson, DataDir, end, say, say_json, settings_of, with_record
from ehr.errors import Invalid
from ehr.store.record import Record
from sync.reconcile import balance
from sync.resend import Which, resend
from sync.schedule import run_sync

app = typer.Typer(no_args_is_help=True, help="The synchronisation with social insurance.")


@app.command("run")
def run_command(data_dir: DataDir = None) -> None:
    """One round: extract, seal, send, ask for answers, reconcile."""

    done = with_record(settings_of(data_dir=data_dir), lambda record: run_sync(record, record.settings))
    say_json(done.as_json())
    end(well=not done.problems)


@app.command("report")
def report_command(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The balance: extracted = accepted + rejected + pending, in dossiers and in đồng."""

    made = with_record(settings_of(data_dir=data_dir), balance)
    if as_json:
        say_json(made.as_json())
    else:
        say(made.as_text())
    end(well=made.closed)


@app.command("resend")
def resend_command(
    facility: Annotated[str | None, typer.Option(help="Only those of this facility (MA_CSKCB).")] = None,
    episode: Annotated[str | None, typer.Option(help="Only this episode (MA_LK).")] = None,
    code: Annotated[str | None, typer.Option(help="Only those refused or withheld with this code.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Send once more, as they are, what the insurer refused or our own check withheld; the next round does it.

    What is corrected at its facility is sent again without this.
    """
    if everything == any((facility, episode, code)):
        raise Invalid("say which: --facility, --episode, --code, or else --all")

    async def again(record: Record) -> int:
        await facility_id(record, facility)
        return await resend(record, Which(facility, episode, code))

    say_json({"waiting": with_record(settings_of(data_dir=data_dir), again)})
