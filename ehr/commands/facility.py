"""`ehr facility`: which places of care may send.

Prints:  the list as JSON lines
"""

import re
from typing import Annotated, Final

import typer

from ehr.access.policy import Caller
from ehr.commands.terminal import DataDir, say, say_json, settings_of, with_record
from ehr.database.connection import Row
from ehr.errors import Invalid, NotFound
from ehr.intake import Intake
from ehr.store import facilities
from ehr.store.facilities import Facility, Feed, Kind
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

app = typer.Typer(no_args_is_help=True, help="Places of care that may send.")

_CODE: Final = re.compile(r"[0-9A-Z]{5}", re.ASCII)


async def facility_id(record: Record, code: str | None) -> int:
    """0, the city itself, where no code is given; NotFound for one that is not registered."""
    if code is None:
        return 0
    found = await Intake(record).facility(code)
    if found is None:
        raise NotFound(f"no facility {code} is registered: ehr facility register")
    return found.id


@app.command("register")
def register_command(  # noqa: PLR0917 - options of a command
    code: Annotated[str, typer.Argument(help="MA_CSKCB: five digits or capital letters, as it sends in MSH-4.")],
    name: Annotated[str, typer.Argument(help="As people call it.")],
    kind: Annotated[Kind, typer.Option()] = "other",
    feed: Annotated[Feed, typer.Option(help="What it sends.")] = "hl7v2",
    district: Annotated[str, typer.Option(help="For the console's list and the address.")] = "",
    commune: Annotated[str, typer.Option()] = "",
    commune_code: Annotated[str, typer.Option(help="Five digits.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Register a facility, change what is known of it, or open it again; senders notice within a minute.

    One that sends over HTTP needs a client too: ehr client register.
    """
    if not _CODE.fullmatch(code):
        raise Invalid(f"{code} is no facility code: five digits or capital letters", at="CODE")
    if not name.strip():
        raise Invalid("a facility has a name", at="NAME")
    address = {part: text for part, text in (("district", district), ("city", commune)) if text}
    address = {"use": "work", **address} if address else {}
    facility = Facility(
        code,
        name,
        kind,
        feed,
        district,
        commune,
        commune_code,
        organization={"address": [address]} if address else {},
        location={"address": address} if address else {},
    )

    async def work(uow: UnitOfWork) -> None:
        await facilities.register(uow, [facility])

    with_record(settings_of(data_dir=data_dir), lambda record: record.run(Caller.system("register facility"), work))
    say(f"{code} is registered")


@app.command("close")
def close_command(code: Annotated[str, typer.Argument(help="MA_CSKCB")], data_dir: DataDir = None) -> None:
    """Take nothing more from a facility, within a minute; its record stays. `register` opens it again."""

    async def work(uow: UnitOfWork) -> None:
        if not await facilities.close(uow, code):
            raise NotFound(f"no facility {code} is registered")

    with_record(settings_of(data_dir=data_dir), lambda record: record.run(Caller.system("close facility"), work))
    say(f"{code} is closed")


@app.command("list")
def list_command(data_dir: DataDir = None) -> None:
    """Every facility, as JSON lines."""

    async def rows(record: Record) -> list[Row]:
        async with record.database.acquire() as connection:
            return await facilities.listed(connection)

    for row in with_record(settings_of(data_dir=data_dir), rows):
        say_json(dict(row))
