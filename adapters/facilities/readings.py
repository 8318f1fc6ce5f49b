"""Word what a reader of images, traces and endoscopies sees.

In:      data/readings.csv; a service code, the main diagnosis
Out:     Reading(description, conclusion); READ, the services whose answer is such a text and not a number or a deed
"""

from dataclasses import dataclass
from typing import Final

from adapters.facilities.tables import rows


@dataclass(frozen=True, slots=True)
class Reading:
    description: str
    conclusion: str


def _load() -> dict[tuple[str, str], Reading]:
    return {
        (row["service"], row["diagnosis"]): Reading(row["description"], row["conclusion"]) for row in rows("readings")
    }


_READINGS: Final = _load()

READ: Final = frozenset(service for service, _ in _READINGS)


def read(service: str, diagnosis: str) -> Reading:
    """What is seen with a disease, or what is usually seen."""
    return _READINGS.get((service, diagnosis[:3])) or _READINGS[service, ""]
