"""Word what a reader of images, traces and endoscopies sees.

In:      data/readings.csv; a service code, the main diagnosis
Out:     Reading(description, conclusion); READ, the services whose answer is such a text and not a number or a deed
"""

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Reading:
    description: str
    conclusion: str


def _load() -> dict[tuple[str, str], Reading]:
    text = files("adapters.facilities").joinpath("data/readings.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        (row["service"], row["diagnosis"]): Reading(row["description"], row["conclusion"])
        for row in csv.DictReader(lines)
    }


_READINGS: Final = _load()

READ: Final = frozenset(service for service, _ in _READINGS)


def read(service: str, diagnosis: str) -> Reading:
    """What is seen with a disease, or what is usually seen."""
    return _READINGS.get((service, diagnosis[:3])) or _READINGS[service, ""]
