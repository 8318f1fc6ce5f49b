"""Say what is usually done for a diagnosis: why people come, what is measured, pictured and done, and what is found.

In:      data/care_plans.csv; an ICD-10 code
Out:     Plan; plan_of(code) takes the longest known beginning of the code
Shape:   panels are names of LabTest.panel, services are codes of terminology.lists.SERVICES, both with the part of
         the patients who get them; shifts are mean and spread of measurements in people with the disease
Why:     coherent, not guideline medicine: a reader of the record must be able to believe every page of it
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from adapters.facilities.tables import rows

Chance = tuple[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """exam: the examination that is billed; bed: the bed of a stay, whose length is days on the mean."""

    reason: str
    finding: str
    treatment: str
    panels: tuple[Chance, ...]
    services: tuple[Chance, ...]
    shifts: Mapping[str, tuple[float, float]]
    positive: frozenset[str]
    fever: float
    exam: str
    bed: str
    days: float


def _chances(text: str) -> tuple[Chance, ...]:
    pairs = (part.rsplit(":", 1) for part in text.split())
    return tuple((name, float(part)) for name, part in pairs)


def _shifts(text: str) -> dict[str, tuple[float, float]]:
    shifts: dict[str, tuple[float, float]] = {}
    for part in text.split():
        loinc, _, law = part.partition("=")
        mean, _, spread = law.partition("±")
        shifts[loinc] = (float(mean), float(spread))
    return shifts


def _read() -> dict[str, Plan]:
    return {
        row["code"]: Plan(
            reason=row["reason"],
            finding=row["finding"],
            treatment=row["treatment"],
            panels=_chances(row["panels"]),
            services=_chances(row["services"]),
            shifts=_shifts(row["shifts"]),
            positive=frozenset(row["positive"].split()),
            fever=float(row["fever"]),
            exam=row["exam"],
            bed=row["bed"],
            days=float(row["days"]),
        )
        for row in rows("care_plans")
    }


PLANS: Final[Mapping[str, Plan]] = _read()


@cache
def plan_of(code: str) -> Plan:
    """The plan for a diagnosis; every diagnosis of terminology.lists has one."""
    for length in (3, 2, 1):
        found = PLANS.get(code[:length])
        if found is not None:
            return found
    raise KeyError(code)
