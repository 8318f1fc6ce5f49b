"""Decide what is done in an episode: examination, tests, images, procedures, operation, bed days.

In:      facility, case, plan, times
Out:     Workup: unpriced services in order of time, with what the laboratory or reader found
Limits:  a facility does only what its level offers (terminology.lists.Service.level)
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Final

from adapters.facilities.cases import LEVEL, Case
from adapters.facilities.episode import Clinician, Result
from adapters.facilities.measure import PANELS, results
from adapters.facilities.plans import plan_of
from adapters.facilities.readings import READ, read
from adapters.facilities.registry import Facility
from terminology.lists import SERVICE_BY_CODE, Service

_EXAM: Final = "02.1896"
_PERFORMED: Final = frozenset({1, 2, 3, 8, 18})
"""MA_NHOM whose rows must name who did it (XML3, NGUOI_THUC_HIEN)."""

_MACHINES: Final = {"22": "HH", "23": "SH", "24": "VS", "18": "SA", "02": "DT", "03": "NS", "20": "NS", "21": "DX"}


@dataclass(frozen=True, slots=True)
class Times:
    """admitted is None in a visit; days: nights of a stay, at least 1."""

    arrival: datetime
    admitted: datetime | None
    end: datetime
    days: int


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was ordered and done, before it is priced."""

    service: Service
    quantity: Decimal
    ordered: datetime
    done: datetime
    resulted: datetime | None
    performer: Clinician | None
    machine: str
    bed: str
    price: Decimal
    results: tuple[Result, ...] = ()
    description: str = ""
    conclusion: str = ""


@dataclass(frozen=True, slots=True)
class Staff:
    """Who looks after one patient."""

    doctor: Clinician
    nurse: Clinician


@dataclass(frozen=True, slots=True)
class Workup:
    deeds: tuple[Deed, ...]
    bed: str

    @property
    def insured_estimate(self) -> Decimal:
        """What the services cost at the fund's prices; decides whether the bill is small."""
        return sum((deed.quantity * deed.service.price_vnd for deed in self.deeds), Decimal(0))


def work_up(facility: Facility, case: Case, times: Times, staff: Staff, random: Random) -> Workup:
    room = _Room(facility, case, staff, random)
    seen = times.arrival + timedelta(minutes=random.randrange(5, 25))
    deeds = [room.examination(seen)]
    ordered = seen + timedelta(minutes=random.randrange(4, 12))
    deeds += room.laboratory(ordered, healing=0.0)
    deeds += room.rest(ordered, times)
    bed = ""
    if times.admitted is not None:
        for day in range(2, times.days, 2):
            round_at = times.admitted.replace(hour=6, minute=random.randrange(10, 50)) + timedelta(days=day)
            deeds += room.laboratory(round_at, healing=day / times.days, least=0.9)
        bed = f"H{random.randrange(1, 400):03d}"
        deeds.append(room.bed(times, bed))
    return Workup(tuple(_inside(deed, times) for deed in deeds), bed)


def _inside(deed: Deed, times: Times) -> Deed:
    """Nothing is resulted after the end: a slow result moves the order forward in a visit that was short."""
    last = deed.resulted or deed.done
    late = last - times.end
    if late <= timedelta(0):
        return deed
    span = (times.end - times.arrival) / 4
    return replace(
        deed,
        ordered=max(times.arrival + span, deed.ordered - late),
        done=max(times.arrival + span * 2, deed.done - late),
        resulted=None if deed.resulted is None else times.end - timedelta(minutes=2),
    )


class _Room:
    """The people and rules of one episode, so that each deed need not carry them."""

    def __init__(self, facility: Facility, case: Case, staff: Staff, random: Random) -> None:
        self._facility = facility
        self._case = case
        self._plan = plan_of(case.main.code)
        self._staff = staff
        self._random = random

    def _offered(self, code: str) -> Service | None:
        service = SERVICE_BY_CODE[code]
        return service if service.level <= LEVEL[self._facility.kind] else None

    def examination(self, at: datetime) -> Deed:
        service = self._offered(self._plan.exam) or SERVICE_BY_CODE[_EXAM]
        return self._deed(service, at, 0, performer=None)

    def laboratory(self, at: datetime, *, healing: float, least: float = 0.0) -> Iterator[Deed]:
        """Panels of the plan; least: only those that nearly everybody gets (a round of a stay)."""
        for panel, part in self._plan.panels:
            if part < least or self._random.random() >= part:
                continue
            for code, laws in PANELS[panel]:
                service = self._offered(code)
                if service is not None:
                    found = results(laws, self._case.citizen, self._plan, self._random, healing=healing)
                    yield self._deed(
                        service, at, self._random.randrange(30, 75), performer=self._staff.nurse, found=found
                    )

    def rest(self, at: datetime, times: Times) -> Iterator[Deed]:
        """Images, traces, procedures, and the operation of a stay."""
        for code, part in self._plan.services:
            service = self._offered(code)
            if service is None or self._random.random() >= part:
                continue
            if service.group == 8 and times.admitted is None:
                continue
            when = at if service.group != 8 or times.admitted is None else times.admitted + timedelta(hours=3)
            yield self._deed(service, when, self._random.randrange(15, 60), performer=self._staff.doctor)

    def bed(self, times: Times, bed: str) -> Deed:
        assert times.admitted is not None, "a bed belongs to a stay"
        service = self._offered(self._plan.bed) or SERVICE_BY_CODE["K02.1906"]
        return Deed(
            service=service,
            quantity=Decimal(times.days),
            ordered=times.admitted,
            done=times.admitted,
            resulted=None,
            performer=None,
            machine="",
            bed=bed,
            price=service.price_vnd,
        )

    def _deed(
        self,
        service: Service,
        at: datetime,
        minutes: int,
        *,
        performer: Clinician | None,
        found: tuple[Result, ...] = (),
    ) -> Deed:
        described = read(service.code, self._case.main.code) if service.code in READ else None
        resulted = at + timedelta(minutes=minutes) if found or described is not None else None
        serial = 1 + self._random.randrange(3)
        group = _MACHINES.get(service.code[:2], "")
        return Deed(
            service=service,
            quantity=Decimal(1),
            ordered=at,
            done=at + timedelta(minutes=minutes // 3),
            resulted=resulted,
            performer=performer if service.group in _PERFORMED else None,
            machine=f"{group}.1.{self._facility.code}.{serial:03d}" if group and service.group in (1, 2, 3) else "",
            bed="",
            price=self._price(service),
            results=found,
            description=described.description if described is not None else "",
            conclusion=described.conclusion if described is not None else "",
        )

    def _price(self, service: Service) -> Decimal:
        """A hospital's price on request lies above the fund's; the patient pays the difference."""
        if self._facility.kind == "hospital" and service.group in (2, 13) and self._random.random() < 0.08:
            return (service.price_vnd * Decimal("1.25")).quantize(Decimal(1))
        return service.price_vnd
