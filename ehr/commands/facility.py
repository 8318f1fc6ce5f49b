"""`ehr facility`: which places of care may send.

Prints:  the list as JSON lines
Writes:  the facility's row, its Organization and its Location, in one transaction
Source:  FHIR R4 8.6 Organization, 8.7 Location; QĐ 4750 field MA_CSKCB (five letters or digits)
"""

import asyncio
import re
from typing import Annotated, Any, Final, Literal

import typer

from ehr.access.policy import Caller
from ehr.commands.terminal import DataDir, say, say_json, settings_of
from ehr.errors import Invalid, NotFound
from ehr.fhir.elements import TERMINOLOGY, coded, reference
from ehr.fhir.vietnam import FACILITY_CODE
from ehr.intake import Intake
from ehr.serve import record_of
from ehr.store.record import Record
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork

app = typer.Typer(no_args_is_help=True, help="Places of care that may send.")

_CODE: Final = re.compile(r"[0-9A-Z]{5}", re.ASCII)
_REGISTER: Final = """
INSERT INTO facility (code, name, kind, feed, district, commune, commune_code, organization_id, location_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (code) DO UPDATE SET name = excluded.name, kind = excluded.kind, feed = excluded.feed,
    district = excluded.district, commune = excluded.commune, commune_code = excluded.commune_code,
    organization_id = excluded.organization_id, location_id = excluded.location_id, active = true
"""
_CLOSE: Final = "UPDATE facility SET active = false WHERE code = $1 RETURNING id"
_LIST: Final = """
SELECT code, name, kind, feed, district, commune, commune_code, active, registered FROM facility ORDER BY code
"""


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
    kind: Annotated[Literal["hospital", "centre", "station", "other"], typer.Option()] = "other",
    feed: Annotated[Literal["hl7v2", "fhir", "claim_xml"], typer.Option(help="What it sends.")] = "hl7v2",
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
    organization_id, location_id = f"facility-{code}", f"facility-{code}-site"
    row = (code, name, kind, feed, district, commune, commune_code, organization_id, location_id)
    about: dict[str, Any] = {"identifier": [{"system": FACILITY_CODE, "value": code}], "name": name}
    address = {"use": "work", "district": district, "city": commune}
    address = {part: text for part, text in address.items() if text}
    site = {"address": address} if len(address) > 1 else {}

    async def work(uow: UnitOfWork) -> None:
        await uow.connection.execute(_REGISTER, *row)
        organization = {
            "resourceType": "Organization",
            "id": organization_id,
            **about,
            "active": True,
            "type": [coded(TERMINOLOGY + "organization-type", "prov")],
            **({"address": [address]} if site else {}),
        }
        location = {
            "resourceType": "Location",
            "id": location_id,
            **about,
            "status": "active",
            "mode": "instance",
            **site,
            "managingOrganization": reference(f"Organization/{organization_id}"),
        }
        await uow.resources.apply(
            [
                Write("U", "Organization", organization_id, tree=organization),
                Write("U", "Location", location_id, tree=location),
            ]
        )

    async def register() -> None:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            await record.run(Caller.system("register facility"), work)

    asyncio.run(register())
    say(f"{code} is registered")


@app.command("close")
def close_command(code: Annotated[str, typer.Argument(help="MA_CSKCB")], data_dir: DataDir = None) -> None:
    """Take nothing more from a facility, within a minute; its record stays. `register` opens it again."""

    async def work(uow: UnitOfWork) -> None:
        if await uow.connection.fetchval(_CLOSE, code) is None:
            raise NotFound(f"no facility {code} is registered")

    async def close() -> None:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            await record.run(Caller.system("close facility"), work)

    asyncio.run(close())
    say(f"{code} is closed")


@app.command("list")
def list_command(data_dir: DataDir = None) -> None:
    """Every facility, as JSON lines."""

    async def rows() -> list[dict[str, Any]]:
        async with record_of(settings_of(data_dir=data_dir)) as record, record.database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(_LIST)]

    for row in asyncio.run(rows()):
        say_json(row)
