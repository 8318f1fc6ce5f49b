"""One facility Bundle in the making, and the types its resources are made of.

Out:     trees; empty values are left out, because FHIR has no empty elements
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from adapters.draft import Draft
from adapters.facilities.episode import Episode
from adapters.port import Bundle
from ehr.fhir import vietnam

Tree = Bundle


@dataclass(slots=True)
class Sheet:
    """One Bundle in the making: its episode, and the references of patient, visit and doctor inside it."""

    draft: Draft
    episode: Episode
    patient: str = ""
    visit: str = ""
    doctor: str = ""


def moment(at: datetime) -> str:
    """dateTime and instant with the offset of the facility, "2026-11-23T08:15:06+07:00"."""
    return at.isoformat(timespec="seconds")


def quantity(value: str, unit: str) -> Tree:
    """A measured value with its digits and UCUM unit."""
    return {"value": Decimal(value), "unit": unit, "system": vietnam.UCUM, "code": unit}


def columns(row: Mapping[str, str], names: Iterable[str]) -> dict[str, Any]:
    """The claim columns of a row that FHIR has no element for."""
    return vietnam.columns_extension({name: row[name] for name in names if row.get(name)})
