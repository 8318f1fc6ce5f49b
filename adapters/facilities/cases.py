"""Choose who comes to a facility and with what: the people around it, and the diseases of their age and sex.

In:      an arrival, the population
Out:     Case(citizen, main, secondary): codes of terminology.lists.DIAGNOSES
Shape:   a station draws from its commune, a centre from its district, hospitals and others from the whole city; small
         children and old people come more often; six of ten visits of the chronically ill are for their disease
"""

from bisect import bisect
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random
from typing import Final

from adapters.facilities.arrivals import Arrival, Care
from adapters.facilities.communes import COMMUNES
from adapters.facilities.names import Sex
from adapters.facilities.population import Citizen, Population
from adapters.facilities.registry import Facility, Kind
from terminology.lists import DIAGNOSES, DIAGNOSIS_BY_CODE, Diagnosis

LEVEL: Final[dict[Kind, int]] = {"station": 1, "centre": 2, "hospital": 3, "other": 2}
_PLACE: Final = {commune.code: place for place, commune in enumerate(COMMUNES)}
_DISTRICT_PLACES: Final = {
    district: tuple(place for place, commune in enumerate(COMMUNES) if commune.district_code == district)
    for district in {commune.district_code for commune in COMMUNES}
}
_VACCINATION: Final = "Z23"
_TRIES: Final = 12


@dataclass(frozen=True, slots=True)
class Case:
    citizen: Citizen
    main: Diagnosis
    secondary: tuple[Diagnosis, ...]


def draw_case(population: Population, arrival: Arrival, random: Random) -> Case:
    """Who comes, and why: a referred patient with the disease they were referred for, or somebody of the place."""
    if arrival.referred is not None:
        citizen, code = population.citizen(arrival.referred.citizen), arrival.referred.diagnosis
        return Case(citizen, DIAGNOSIS_BY_CODE[code], _others(citizen, code))
    facility, care, day = arrival.facility, arrival.care, arrival.at.date()
    citizen = population.citizen(_visitor(population, facility, random))
    while citizen.birth_date > day:  # nobody comes before birth
        citizen = population.citizen(_visitor(population, facility, random))
    age = citizen.age_at(day)
    known = [DIAGNOSIS_BY_CODE[code] for code in citizen.chronic]
    due = [diagnosis for diagnosis in known if diagnosis.level <= LEVEL[facility.kind]]
    if care == "visit" and due and random.random() < 0.6:
        main = due[random.randrange(len(due))]
    else:
        main = _disease(LEVEL[facility.kind], citizen.sex, age, care, random)
    return Case(citizen, main, _others(citizen, main.code) if main.code != _VACCINATION else ())


def _others(citizen: Citizen, main: str) -> tuple[Diagnosis, ...]:
    """What else the patient is known to have, twelve at most (MA_BENH_KT)."""
    return tuple(DIAGNOSIS_BY_CODE[code] for code in citizen.chronic if code != main)[:12]


def _visitor(population: Population, facility: Facility, random: Random) -> int:
    number = 0
    for _ in range(_TRIES):
        number = _anyone(population, facility, random)
        if random.random() < _eagerness(population.age_of(number)):
            break
    return number


def _anyone(population: Population, facility: Facility, random: Random) -> int:
    if facility.kind == "station":
        return population.neighbour(_PLACE[facility.commune.code], random)
    if facility.kind == "centre":
        return population.neighbour(random.choice(_DISTRICT_PLACES[facility.commune.district_code]), random)
    return random.randrange(population.size)


def _eagerness(age: int) -> float:
    """How often people of an age come, the most eager being 1."""
    if age < 6:
        return 0.85
    if age < 40:
        return 0.35
    return 0.6 if age < 60 else 1.0


@dataclass(frozen=True, slots=True)
class _Urn:
    diagnoses: tuple[Diagnosis, ...]
    cumulative: tuple[float, ...]


@cache
def _urn(level: int, sex: Sex, age: int, care: Care) -> _Urn:
    """Diseases of one age and sex with the frequency of visits, or of stays."""
    weighted: list[tuple[Diagnosis, float]] = []
    for diagnosis in DIAGNOSES:
        if diagnosis.level > level or not diagnosis.fits(sex, age):
            continue
        if care == "stay" and not diagnosis.main:
            continue
        ratio = diagnosis.admission_ratio if care == "stay" else 1 - diagnosis.admission_ratio
        # A station vaccinates its children; a hospital does so rarely.
        factor = (12.0 if age < 3 and level == 1 else 0.3) if diagnosis.code == _VACCINATION else 1.0
        if diagnosis.chronic and care == "visit":
            factor = 0.25  # most visits for a chronic disease are of people known to have it
        weighted.append((diagnosis, diagnosis.weight * ratio * factor))
    return _Urn(tuple(row for row, _ in weighted), tuple(accumulate(weight for _, weight in weighted)))


def _disease(level: int, sex: Sex, age: int, care: Care, random: Random) -> Diagnosis:
    urn = _urn(level, sex, age, care)
    place = bisect(urn.cumulative, random.random() * urn.cumulative[-1])
    return urn.diagnoses[min(place, len(urn.diagnoses) - 1)]
