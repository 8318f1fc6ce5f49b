"""The commands of `ehr`: every command of `ehr.commands` under one name, and an exit code for every error.

Exit:    0 done · 1 done, but something was refused or is not well · 2 wrong arguments · 75 try again later
         130 interrupted
Prints:  results on standard output (JSON lines with --json), logs on standard error
"""

import errno
from typing import Final

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from ehr.commands import (
    bulk_export,
    bulk_import,
    city,
    client,
    database,
    doctor,
    facility,
    insurance,
    message,
    process,
    profile,
    terminology,
)
from ehr.commands.terminal import EXIT_LATER, EXIT_REFUSED, EXIT_USAGE, fail
from ehr.errors import EhrError, Invalid, NotFound, Unavailable
from ehr.store import faults

_NAMED_WRONGLY: Final = {errno.EACCES, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""What a disk says to who writes; it does not say which file."""
_NOT_OURS: Final = {errno.EADDRINUSE, errno.EADDRNOTAVAIL}
"""The address to listen at is another's."""

app = typer.Typer(name="ehr", no_args_is_help=True, add_completion=False, help="The city's health record.")
for _commands in (process, doctor, city, bulk_import, bulk_export, client):
    app.add_typer(_commands.app)
app.add_typer(facility.app, name="facility")
app.add_typer(message.app, name="message")
app.add_typer(insurance.app, name="sync")
app.add_typer(database.app, name="db")
app.add_typer(profile.app, name="profile")
app.add_typer(terminology.app, name="terminology")


def main() -> None:
    """Run one: every error of ours becomes one line and an exit code."""
    try:
        app()
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
        fail(f"settings: {places}", EXIT_USAGE)
    except SettingsError:
        fail('settings: import_urls: a JSON list, ["https://files.example.org/ehr/"]', EXIT_USAGE)
    except Unavailable as error:
        fail(str(error), EXIT_LATER)
    except faults.LOST as error:
        if isinstance(error, OSError) and error.filename is not None:
            fail(f"{error.filename}: {error.strerror}", EXIT_USAGE if error.errno in _NAMED_WRONGLY else EXIT_LATER)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            fail(f"the disk does not take what is written: {error.strerror}", EXIT_LATER)
        if isinstance(error, OSError) and error.errno in _NOT_OURS:
            fail(f"{error}: choose another with --host, --port or --mllp-port", EXIT_LATER)
        fail(f"a service cannot be reached: {type(error).__name__}: {error}", EXIT_LATER)
    except (Invalid, NotFound) as error:
        fail(" ".join(f"{one.at or ''} {one.text}".strip() for one in error.issues), EXIT_USAGE)
    except EhrError as error:
        fail(str(error), EXIT_REFUSED)
