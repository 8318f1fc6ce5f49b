"""`ehr token` and `ehr client register`: who may ask the API, and with which scopes.

Prints:  the token, or the secret of the new client, once; a client with public keys (SMART backend services) has none
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ehr.access import authenticate, clients, scopes
from ehr.access.keys import load_keys
from ehr.access.token import Tokens
from ehr.clock import SystemClock
from ehr.commands.facility import facility_id
from ehr.commands.terminal import DataDir, say, settings_of
from ehr.errors import Invalid
from ehr.serve import record_of, running

app = typer.Typer()
client = typer.Typer(no_args_is_help=True, help="Systems that may ask for tokens.")
app.add_typer(client, name="client")


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

    async def confined_to() -> int:
        async with record_of(settings) as record:
            return await facility_id(record, facility)

    number = asyncio.run(confined_to()) if facility else 0
    tokens = Tokens(load_keys(settings.data_dir), issuer=authenticate.issuer(settings), clock=SystemClock())
    say(authenticate.issue_token(tokens, client_id, scope, facility_id=number))


@client.command("register")
def register_command(
    client_id: Annotated[str, typer.Argument(help="1 to 64 letters, digits, '.', '_', ':' or '-'.")],
    scope: Annotated[str, typer.Option(help="SMART scopes it may ask for.")],
    name: Annotated[str, typer.Option(help="For people.")] = "",
    facility: Annotated[str | None, typer.Option(help="Code of the facility it speaks for.")] = None,
    *,
    jwks: Annotated[Path | None, typer.Option(help="Its public keys, a JWKS file, in place of a secret.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Register a system client; prints its secret, once, or nothing where it has keys of its own."""
    keys = None if jwks is None else clients.read_jwks(jwks.read_bytes())

    async def register() -> str:
        async with record_of(settings_of(data_dir=data_dir)) as record:
            number = await facility_id(record, facility)
            return await clients.register_client(record, client_id, name or client_id, scope, number, jwks=keys)

    secret = asyncio.run(register())
    if secret:
        say(secret)
