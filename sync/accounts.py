"""The insurer's accounts: one per facility, because a token of another facility books a file to the wrong sender.

In:      JSON {"01Z01": {"username": …, "password": …}}; without a file, the accounts the simulator gives
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from ehr.errors import Invalid, Malformed

_SIMULATED: Final = "_SIM"


@dataclass(frozen=True, slots=True)
class Account:
    username: str
    password: str = field(repr=False)


Accounts = Callable[[str], Account]
"""Facility code → account; Invalid where the facility has none."""


def simulated(facility_code: str) -> Account:
    """The account of a facility at the simulator; worth nothing anywhere else."""
    return Account(facility_code + _SIMULATED, f"simulated-{facility_code}")


def facility_of(username: str) -> str | None:
    """The facility of a simulated account's name, or None."""
    return username.removesuffix(_SIMULATED) if username.endswith(_SIMULATED) else None


def load(file: Path | None) -> Accounts:
    """The accounts of a file, or the simulator's."""
    if file is None:
        return simulated
    try:
        rows = orjson.loads(file.read_bytes())
        known = {code: Account(row["username"], row["password"]) for code, row in rows.items()}
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", at="EHR_INSURER_ACCOUNTS_FILE") from error
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise Malformed("the insurer accounts file is not JSON {code: {username, password}}") from error

    def account(facility_code: str) -> Account:
        if facility_code not in known:
            raise Invalid(f"facility {facility_code} has no account at the insurer", at="insurer_accounts_file")
        return known[facility_code]

    return account
