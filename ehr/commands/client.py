"""`ehr token`, `ehr console` and `ehr client register`: who may ask the API, and with which scopes.

Prints:  the token, the link, or the secret of the new client, once; a client with public keys (SMART backend services)
         has none
"""

from pathlib import Path
from typing import Annotated

import typer

from ehr.access import authenticate, clients, scopes
from ehr.access.keys import load_keys
from ehr.access.token import Tokens
from ehr.clock import SystemClock
from ehr.commands.facility import facility_id
from ehr.commands.terminal import DataDir, say, settings_of, with_record
from ehr.errors import Invalid
from ehr.serve import running
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.web.ops import operator_link

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
    settings = _addressed(settings_of(data_dir=data_dir))
    if len(scopes.parse(scope)) != len(scope.split()):
        raise Invalid("a scope is not understood", at="--scope")

    number = with_record(settings, lambda record: facility_id(record, facility)) if facility else 0
    say(authenticate.issue_token(_tokens(settings), client_id, scope, facility_id=number))


@app.command()
def console(
    name: Annotated[str, typer.Argument(help="Who will use it; goes to the audit.")], data_dir: DataDir = None
) -> None:
    """Print a link that opens the operators' console in a browser: once, within ten minutes, for twelve hours."""
    settings = _addressed(settings_of(data_dir=data_dir))
    root = authenticate.issuer(settings).removesuffix("/fhir")
    say(f"{root}/ops/enter?link={operator_link(_tokens(settings), name)}")


def _addressed(settings: Settings) -> Settings:
    """With the address that tokens are issued for: that of the process which serves the data folder, if none is set."""
    told = running(settings.data_dir).get("base_url")
    return settings.model_copy(update={"base_url": settings.base_url or told})


def _tokens(settings: Settings) -> Tokens:
    return Tokens(load_keys(settings.data_dir), issuer=authenticate.issuer(settings), clock=SystemClock())


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

    async def register(record: Record) -> str:
        number = await facility_id(record, facility)
        return await clients.register_client(record, client_id, name or client_id, scope, number, jwks=keys)

    secret = with_record(settings_of(data_dir=data_dir), register)
    if secret:
        say(secret)
