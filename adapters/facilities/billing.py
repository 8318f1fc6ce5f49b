"""Price what was done and decide what the insurance pays.

In:      Workup, prescriptions, the card
Out:     Attendance (MA_DOITUONG_KCB, MUC_HUONG), priced Services, Orders and Medicines
Source:  QĐ 4750/QĐ-BYT (MUC_HUONG: 80, 95 or 100 in line; times 40 % out of line at a city hospital; 100 for a bill
         under 15 % of the base salary and at a commune station); categories of QĐ 824/QĐ-BYT
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Final

from adapters.facilities.arrivals import Arrival
from adapters.facilities.episode import Attendance, Medicine, Order, Service
from adapters.facilities.money import SMALL_BILL, bill
from adapters.facilities.population import Citizen
from adapters.facilities.prescribe import ROUTES, Prescription
from adapters.facilities.registry import Facility, centre_of
from adapters.facilities.workup import Deed, Times, Workup

UNINSURED: Final = "9"
"""MA_DOITUONG_KCB of those who pay themselves."""

_OUT_OF_LINE_PERCENT: Final = 40


@dataclass(frozen=True, slots=True)
class Priced:
    insured: bool
    benefit: int

    @property
    def rate(self) -> int:
        """TYLE_TT_BH: nothing here is paid at a rate of its own."""
        return 100 if self.insured else 0


def attendance_of(
    arrival: Arrival, citizen: Citizen, random: Random, *, emergency: bool, estimate: Decimal
) -> Attendance:
    card = citizen.card
    if card is None:
        return Attendance(UNINSURED, 0, "", "")
    facility, sent = arrival.facility, arrival.referred
    category, came_from, paper = (
        _category(facility, citizen, emergency, random) if sent is None else ("1.3", sent.by, sent.paper)
    )
    benefit = card.benefit_percent
    if facility.kind == "station" or (estimate < SMALL_BILL and category != "3.3"):
        benefit = 100
    if category == "3.3":
        benefit = benefit * _OUT_OF_LINE_PERCENT // 100
    return Attendance(category, benefit, came_from, paper)


def _category(facility: Facility, citizen: Citizen, emergency: bool, random: Random) -> tuple[str, str, str]:
    assert citizen.card is not None, "only the insured have a category"
    if emergency:
        return "2", "", ""
    if citizen.card.registered == facility.code:
        return "1.1", "", ""
    if facility.kind in ("station", "centre", "other"):
        return "1.2", "", ""
    number = f"{random.randrange(1, 9_000)}/2026/GCT"
    draw = random.random()
    if draw < 0.62:
        return "1.3", centre_of(citizen.commune).code, number
    return ("1.5", facility.code, number.replace("GCT", "GHK")) if draw < 0.86 else ("3.3", "", "")


def price_services(work: Workup, priced: Priced) -> tuple[tuple[Service, ...], tuple[Order, ...]]:
    """Every deed is a billed service; those with an answer are orders too."""
    services: list[Service] = []
    orders: list[Order] = []
    for number, deed in enumerate(work.deeds, start=1):
        service = _service(deed, priced)
        services.append(service)
        if deed.resulted is not None:
            orders.append(Order(f"{number:03d}", service, deed.results, deed.description, deed.conclusion))
    return tuple(services), tuple(orders)


def _service(deed: Deed, priced: Priced) -> Service:
    insured_price = deed.service.price_vnd if priced.insured else Decimal(0)
    return Service(
        code=deed.service.code,
        name=deed.service.name_vi,
        icd9=deed.service.icd9_code or "",
        group=str(deed.service.group),
        unit="Ngày" if deed.bed else "Lần",
        quantity=deed.quantity,
        price=deed.price,
        price_insured=insured_price,
        rate=100,
        ordered=deed.ordered,
        done=deed.done,
        resulted=deed.resulted,
        performer=deed.performer,
        machine=deed.machine,
        bed=deed.bed,
        amounts=bill(
            deed.quantity,
            deed.price,
            insured_price,
            service_rate=100,
            rate=priced.rate,
            benefit=priced.benefit,
        ),
    )


def price_medicines(ordered: Iterable[Prescription], times: Times, priced: Priced) -> tuple[Medicine, ...]:
    """A visit's medicines are ordered at its end, a stay's at admission."""
    at = times.end - timedelta(minutes=15) if times.admitted is None else times.admitted + timedelta(minutes=20)
    return tuple(_medicine(line, at, priced) for line in ordered)


def _medicine(line: Prescription, at: datetime, priced: Priced) -> Medicine:
    medicine = line.medicine
    route, route_name = ROUTES[medicine.route]
    digits = "".join(filter(str.isdigit, medicine.code)).rjust(5, "0")[-5:]
    return Medicine(
        code=medicine.code,
        name=medicine.name,
        ingredient=medicine.ingredient,
        atc=medicine.atc or "",
        strength=medicine.strength,
        unit=medicine.unit_vi,
        route=route,
        route_name=route_name,
        form=medicine.form_vi,
        registration=f"VD-{digits}-24",
        tender="120/QĐ-SYT;G1;N3;2026",
        each=line.each,
        times=line.times,
        days=line.days,
        whole_pack=line.whole_pack,
        instructions=f"{route_name}, {line.times} lần/ngày",
        quantity=line.quantity,
        price=medicine.price_vnd,
        ordered=at,
        given=at + timedelta(minutes=10),
        amounts=bill(
            line.quantity,
            medicine.price_vnd,
            medicine.price_vnd if priced.insured else Decimal(0),
            service_rate=100,
            rate=priced.rate,
            benefit=priced.benefit,
        ),
    )
