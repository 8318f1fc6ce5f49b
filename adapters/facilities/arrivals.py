"""Draw when patients come: a Poisson process whose rate depends on the kind of facility and the hour.

In:      seed, facility, day, hour
Out:     Arrival(at, number): sorted moments inside that hour, numbered from 1
Shape:   mean visits a day per kind; a facility's own size around it (log-normal, fixed by its number); shares of the
         24 hours; Saturday and Sunday quieter, hospitals least so
Source:  the order of magnitude of published yearly visits: 579 stations x 15, 30 centres x 350, 42 hospitals x 900,
         10 others x 150, about 58,000 a day; one visit in eleven is a stay. Sizes and hours are plausible, not measured
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal

from adapters.facilities.dice import dice, poisson
from adapters.facilities.registry import Facility, Kind
from ehr.clock import ICT

Care = Literal["visit", "stay"]

VISITS_A_DAY: Final[dict[Kind, float]] = {"station": 15, "centre": 350, "hospital": 900, "other": 150}
STAYS_A_DAY: Final[dict[Kind, float]] = {"station": 0, "centre": 35, "hospital": 110, "other": 0}

_SPREAD: Final[dict[Kind, float]] = {"station": 0.35, "centre": 0.30, "hospital": 0.55, "other": 0.45}
_WEEKEND: Final[dict[Kind, float]] = {"station": 0.25, "centre": 0.45, "hospital": 0.55, "other": 0.80}

_OFFICE: Final = (0, 0, 0, 0, 0, 0, 1, 10, 17, 16, 13, 7, 3, 9, 11, 8, 4, 1, 0, 0, 0, 0, 0, 0)
_CLINIC: Final = (1, 1, 1, 1, 1, 2, 6, 14, 16, 13, 10, 5, 3, 8, 9, 7, 4, 3, 3, 3, 2, 2, 1, 1)
_EVENING: Final = (0, 0, 0, 0, 0, 0, 2, 8, 10, 9, 7, 5, 3, 6, 7, 6, 6, 9, 10, 8, 4, 1, 0, 0)
HOURS: Final[dict[Kind, tuple[int, ...]]] = {
    "station": _OFFICE,
    "centre": _CLINIC,
    "hospital": _CLINIC,
    "other": _EVENING,
}


@dataclass(frozen=True, slots=True)
class Referred:
    """Somebody another facility sent on: who, with what (ICD-10), by whom (facility code), on which paper."""

    citizen: int
    diagnosis: str
    by: str
    paper: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """referred None: whoever comes is drawn from the people around."""

    facility: Facility
    care: Care
    at: datetime
    number: int
    referred: Referred | None = None


@lru_cache(maxsize=2_048)
def size_factor(seed: int, facility: Facility) -> float:
    """How large this facility is beside the mean of its kind; the mean of all factors is 1."""
    spread = _SPREAD[facility.kind]
    return dice(seed, "size", facility.code).lognormvariate(-spread * spread / 2, spread)


def mean_of(
    seed: int, facility: Facility, care: Care, day: date, hour: int, *, visits_a_day_max: float | None = None
) -> float:
    """Expected arrivals in one hour of one day. visits_a_day_max thins the large facilities, visits and stays alike."""
    table = VISITS_A_DAY if care == "visit" else STAYS_A_DAY
    shares = HOURS[facility.kind]
    quiet = _WEEKEND[facility.kind] if day.weekday() >= 5 else 1.0
    size = size_factor(seed, facility)
    usual = VISITS_A_DAY[facility.kind] * size
    thin = 1.0 if visits_a_day_max is None else min(1.0, visits_a_day_max / usual)
    return table[facility.kind] * size * thin * quiet * shares[hour] / sum(shares)


def arrivals(
    seed: int, facility: Facility, day: date, hour: int, *, visits_a_day_max: float | None = None
) -> list[Arrival]:
    """Everybody who comes in that hour, in order of time."""
    random = dice(seed, "arrivals", facility.code, day.isoformat(), hour)
    start = datetime.combine(day, time(hour), ICT)
    cares: tuple[Care, ...] = ("visit", "stay")
    moments = sorted(
        (start + timedelta(seconds=random.randrange(3600)), care)
        for care in cares
        for _ in range(poisson(random, mean_of(seed, facility, care, day, hour, visits_a_day_max=visits_a_day_max)))
    )
    return [Arrival(facility, care, at, number) for number, (at, care) in enumerate(moments, start=1)]
