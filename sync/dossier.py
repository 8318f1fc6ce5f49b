"""A dossier: one insured episode as the rows of XML1 to XML5, with its money kept apart as exact amounts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ehr.errors import Issue
from sync.amounts import Amounts, total

Columns = Mapping[str, str]
"""One row of a table, field name → value as it stands in the XML; empty and absent are the same."""

SECONDARY_MAX: Final = 12
"""Codes of MA_BENH_KT (QĐ 4750, XML1)."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A row of XML2 or XML3 and what it costs.

    table           XML2 or XML3
    columns         the row as written
    amounts         the same money as exact numbers
    charge_item_id  the ChargeItem it was read from
    """

    table: str
    columns: Columns
    amounts: Amounts
    charge_item_id: str

    @property
    def is_supply(self) -> bool:
        return self.table == "XML3" and bool(self.columns.get("MA_VAT_TU"))

    @property
    def is_fee_for_service(self) -> bool:
        return self.columns.get("MA_PTTT") == "1"


@dataclass(frozen=True, slots=True)
class Dossier:
    """One HOSO. encounter_version is the version it was made from."""

    ma_lk: str
    facility_code: str
    encounter_id: str
    encounter_version: int
    patient_id: str
    coverage_id: str
    summary: Columns
    drugs: tuple[Charge, ...]
    services: tuple[Charge, ...]
    results: tuple[Columns, ...]
    notes: tuple[Columns, ...]

    @property
    def charges(self) -> tuple[Charge, ...]:
        return self.drugs + self.services

    @property
    def totals(self) -> Amounts:
        return total(charge.amounts for charge in self.charges)

    def tables(self) -> Iterator[tuple[str, tuple[Columns, ...]]]:
        """The tables that travel, in their order; a table without rows does not travel."""
        rows = {
            "XML1": (self.summary,),
            "XML2": tuple(charge.columns for charge in self.drugs),
            "XML3": tuple(charge.columns for charge in self.services),
            "XML4": self.results,
            "XML5": self.notes,
        }
        yield from ((code, of) for code, of in rows.items() if of)


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why an episode cannot be sent as it stands; no value of the patient is in the issues."""

    ma_lk: str
    issues: tuple[Issue, ...]
    t_tongchi_bv: Decimal = Decimal(0)
