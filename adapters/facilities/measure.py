"""Measure people: laboratory results and vital signs, with the digits an analyser would print.

In:      a person, the plan of the main disease
Out:     Result, Vitals
Shape:   without the disease a value lies around the middle of its range, one in twenty outside; with it, around the
         plan's mean. Values never leave ten times the range; presence tests are "Âm tính" or "Dương tính"
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Final

from adapters.facilities.episode import Flag, Result, Vitals
from adapters.facilities.plans import Plan
from adapters.facilities.population import Citizen
from ehr.fhir import vital_signs
from terminology.lists import LAB_TESTS, LabTest

NEGATIVE: Final = "Âm tính"
POSITIVE: Final = "Dương tính"
_HAEMOGLOBIN: Final = "718-7"
_SPREAD_TO_RANGE: Final = 3.9
"""A normal law whose 5 % tails lie outside the reference range has a spread of range / 3.92."""


@dataclass(frozen=True, slots=True)
class _Law:
    """A test and its usual distribution, with the range as it is printed."""

    test: LabTest
    mean: float
    spread: float
    low: str
    high: str


def _law(test: LabTest) -> _Law:
    if test.low is None or test.high is None:
        return _Law(test, 0.0, 0.0, "", "")
    low, high = float(test.low), float(test.high)
    if low == 0:  # what should hardly be there: most people are well below the bound
        return _Law(test, high * 0.4, high * 0.25, _printed(0.0, test), _printed(high, test))
    return _Law(test, (low + high) / 2, (high - low) / _SPREAD_TO_RANGE, _printed(low, test), _printed(high, test))


def _printed(value: float, test: LabTest) -> str:
    return f"{value:.{test.decimals}f}"


def _by_service() -> dict[str, tuple[tuple[str, tuple[_Law, ...]], ...]]:
    """Panel → ((service, its tests), …) in the order of the list."""
    panels: dict[str, dict[str, list[_Law]]] = {}
    for test in LAB_TESTS:
        if test.category == "laboratory" and test.service is not None:
            panels.setdefault(test.panel, {}).setdefault(test.service, []).append(_law(test))
    return {
        panel: tuple((service, tuple(laws)) for service, laws in services.items()) for panel, services in panels.items()
    }


PANELS: Final[Mapping[str, tuple[tuple[str, tuple[_Law, ...]], ...]]] = _by_service()


def results(
    laws: Iterable[_Law], citizen: Citizen, plan: Plan, random: Random, *, healing: float
) -> tuple[Result, ...]:
    """Measure the tests of one service; healing 0 is the first day, 1 a person well again."""
    return tuple(_result(law, citizen, plan, random, healing) for law in laws)


def _result(law: _Law, citizen: Citizen, plan: Plan, random: Random, healing: float) -> Result:
    test = law.test
    if test.unit is None:
        found = test.code in plan.positive and random.random() < 0.9
        value = POSITIVE if found else NEGATIVE
        return Result(test.code, test.name_vi, value, "", "", "", "A" if found else "N")
    mean, spread = law.mean, law.spread
    if test.code == _HAEMOGLOBIN:
        mean += 5.0 if citizen.sex == "male" else -7.0
    shift = plan.shifts.get(test.code)
    if shift is not None:
        mean = shift[0] + (mean - shift[0]) * healing
        spread = shift[1]
    number = random.gauss(mean, spread)
    floor = float(test.low or 0) / 10 if law.low else 0.0
    ceiling = 100.0 if test.unit == "%" else float(test.high or 0) * 10 + mean
    value = _printed(min(max(number, floor, 10.0**-test.decimals), ceiling), test)
    return Result(test.code, test.name_vi, value, test.unit, law.low, law.high, _flag(value, law))


def _flag(value: str, law: _Law) -> Flag:
    """Compared as printed: a result of 5.0 is not above a bound of 5.0."""
    if not law.low:
        return "N"
    number = Decimal(value)
    if number < Decimal(law.low):
        return "L"
    return "H" if number > Decimal(law.high) else "N"


def vitals(citizen: Citizen, age: int, plan: Plan, at: datetime, random: Random, *, healing: float) -> Vitals:
    """Pulse, temperature, pressure, breathing, oxygen; small children have no pressure taken."""
    feverish = random.random() < plan.fever * (1 - healing)
    temperature = random.gauss(38.4, 0.5) if feverish else random.gauss(36.7, 0.25)
    resting = 130 - 6 * age if age < 8 else 78
    pulse = round(random.gauss(resting + (16 if feverish else 0), 7))
    breaths = round(random.gauss((38 - 2 * age if age < 9 else 18) + (3 if feverish else 0), 1.5))
    systolic = diastolic = None
    if age >= 4:
        high = plan.shifts.get(vital_signs.SYSTOLIC)
        mean, spread = high if high is not None else (min(96 + age * 0.75, 128) if age < 60 else 131, 9)
        systolic = round(random.gauss(mean + (118 - mean) * healing * 0.6, spread))
        diastolic = min(systolic - 20, round(random.gauss(systolic * 0.61, 5)))
    return Vitals(
        at=at,
        pulse=min(max(pulse, 45), 190),
        temperature=f"{min(max(temperature, 35.4), 40.6):.1f}",
        systolic=systolic,
        diastolic=diastolic,
        breaths=min(max(breaths, 12), 60),
        oxygen=min(100, round(random.gauss(97.6, 0.9))),
        height_cm=citizen.height_cm,
        weight_kg=f"{citizen.weight_kg:.1f}",
    )
