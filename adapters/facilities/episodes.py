"""Turn an arrival into a whole episode of care: who came, what was done, what was found, what it cost.

In:      seed, Population, Arrival
Out:     Episode; the same inputs always give the same episode
Order:   case → times → services and orders → medicines → money → outcome
Shape:   half of the visits and stays begin at the arrival's moment and half end there, as in a city that was running
         before we looked: a short run sees arrivals and departures alike
"""

from datetime import datetime, time, timedelta
from random import Random
from typing import Final

from adapters.facilities.arrivals import Arrival
from adapters.facilities.billing import Priced, attendance_of, price_medicines, price_services
from adapters.facilities.cases import Case, draw_case
from adapters.facilities.dice import dice
from adapters.facilities.episode import Allergy, Clinician, Diagnosis, Episode, Note, Outcome, Vaccine, Vitals
from adapters.facilities.measure import vitals
from adapters.facilities.money import totals
from adapters.facilities.plans import Plan, plan_of
from adapters.facilities.population import Citizen, Population
from adapters.facilities.prescribe import Prescription, prescribe
from adapters.facilities.registry import FACILITIES, Facility, centre_of
from adapters.facilities.staff import clinician, doctors, nurses
from adapters.facilities.vaccinate import due
from adapters.facilities.workup import Staff, Times, work_up

_ALLERGIES: Final = {
    "penicillin": Allergy("penicillin", "Dị ứng penicilin", "medication", "Mày đay"),
    "cephalosporin": Allergy("cephalosporin", "Dị ứng cephalosporin", "medication", "Phản vệ độ II"),
    "aspirin": Allergy("aspirin", "Dị ứng aspirin", "medication", "Khó thở"),
    "seafood": Allergy("seafood", "Dị ứng hải sản", "food", "Mày đay"),
    "peanut": Allergy("peanut", "Dị ứng lạc", "food", "Phù môi"),
}
_DEPARTMENTS: Final = {
    "K01": "Khoa Khám bệnh",
    "K02": "Khoa Nội",
    "K18": "Khoa Nhi",
    "K19": "Khoa Ngoại tổng hợp",
    "K27": "Khoa Phụ sản",
    "K48": "Khoa Hồi sức tích cực",
}
_HOSPITALS: Final = [facility for facility in FACILITIES if facility.kind == "hospital"]
_STAY_DAYS_MAX: Final = 30


def episode(seed: int, population: Population, arrival: Arrival) -> Episode:
    facility = arrival.facility
    random = dice(seed, "episode", facility.code, arrival.at.isoformat(), arrival.number)
    case = draw_case(population, arrival, random)
    plan = plan_of(case.main.code)
    times = _times(arrival, case, plan, random)
    head = clinician(seed, facility, 0)
    staff = Staff(
        clinician(seed, facility, random.choice(doctors(facility))),
        clinician(seed, facility, random.choice(nurses(facility))),
    )
    work = work_up(facility, case, times, staff, random)
    stay = arrival.care == "stay"
    ordered = _prescriptions(case, times, random, stay=stay)
    emergency = _emergency(arrival, random)
    estimate = work.insured_estimate + sum(line.quantity * line.medicine.price_vnd for line in ordered)
    attendance = attendance_of(arrival, case.citizen, random, emergency=emergency, estimate=estimate)
    priced = Priced(case.citizen.card is not None, attendance.benefit)
    services, orders = price_services(work, priced)
    medicines = price_medicines(ordered, times, priced)
    form = _form(case, stay=stay)
    department = plan.bed[:3] if stay else "K01"
    return Episode(
        link=f"{facility.code}.{arrival.at:%y%m%d%H}.{arrival.number:04d}",
        facility=facility,
        citizen=case.citizen,
        record_number=case.citizen.record_number(facility.number),
        chart_number=f"{arrival.at:%y}{'NT' if stay else 'KB'}{arrival.at:%m%d%H}{arrival.number:04d}",
        kind="inpatient" if stay else ("station" if facility.kind == "station" else "outpatient"),
        form=form,
        emergency=emergency,
        department=department,
        department_name=_DEPARTMENTS[department],
        bed=work.bed,
        arrival=times.arrival,
        admitted=times.admitted,
        end=times.end,
        paid=times.end + timedelta(minutes=random.randrange(5, 25)),
        reason=plan.reason,
        admission_reason=plan.reason if stay else "",
        main=Diagnosis(case.main.code, case.main.name_vi),
        secondary=tuple(Diagnosis(other.code, other.name_vi) for other in case.secondary),
        doctor=staff.doctor,
        nurse=staff.nurse,
        head=head,
        attendance=attendance,
        vitals=_vitals(case, plan, times, random),
        notes=_notes(case, plan, times, staff.doctor, random) if stay or form == "05" else (),
        orders=orders,
        services=services,
        medicines=medicines,
        vaccines=_vaccines(case, times.arrival + timedelta(minutes=30), random),
        allergies=tuple(_ALLERGIES[name] for name in case.citizen.allergies),
        outcome=_outcome(facility, case, plan, times, random),
        totals=totals((line.amounts for line in medicines), (line.amounts for line in services)),
    )


def _prescriptions(case: Case, times: Times, random: Random, *, stay: bool) -> list[Prescription]:
    age = case.citizen.age_at(times.arrival.date())
    days = times.days if stay else None
    return prescribe(case.citizen, case.main, case.secondary, random, age=age, stay_days=days)


def _emergency(arrival: Arrival, random: Random) -> bool:
    """A third of the stays of a hospital begin in its emergency room; nobody is referred into one."""
    taken = arrival.referred is None and arrival.facility.kind in ("hospital", "centre")
    return taken and random.random() < (0.35 if arrival.care == "stay" else 0.04)


def _times(arrival: Arrival, case: Case, plan: Plan, random: Random) -> Times:
    if arrival.care == "visit":
        length = timedelta(minutes=random.randrange(35, 190))
        start = arrival.at - length if arrival.referred is None and random.random() < 0.5 else arrival.at
        start = max(start, _born(case.citizen, start))
        return Times(start, None, start + length, 1)
    days = min(_STAY_DAYS_MAX, max(1, round(random.lognormvariate(0, 0.35) * plan.days)))
    start = arrival.at
    if random.random() < 0.5:
        start -= timedelta(days=days, minutes=random.randrange(60, 300))
    start = max(start, _born(case.citizen, start))
    admitted = start + timedelta(minutes=random.randrange(30, 120))
    # Discharges are written in the morning round, the bill after it.
    end = admitted.replace(hour=9, minute=random.randrange(60)) + timedelta(days=days)
    return Times(start, admitted, end, days)


def _born(citizen: Citizen, like: datetime) -> datetime:
    """An hour after the birth: nothing is done before."""
    return datetime.combine(citizen.birth_date, time(1), like.tzinfo)


def _form(case: Case, *, stay: bool) -> str:
    """MA_LOAI_KCB: inpatient, chronic outpatient with drugs, or examination."""
    if stay:
        return "03"
    return "05" if case.main.chronic and case.main.code in case.citizen.chronic else "01"


def _vitals(case: Case, plan: Plan, times: Times, random: Random) -> tuple[Vitals, ...]:
    age = case.citizen.age_at(times.arrival.date())
    first = times.arrival + timedelta(minutes=8)
    moments = [first]
    if times.admitted is not None:
        moments += [first + timedelta(days=day) for day in range(1, times.days) if day % 2 == 0]
    last = max(1, times.days)
    return tuple(vitals(case.citizen, age, plan, at, random, healing=(at - first).days / last) for at in moments)


def _notes(case: Case, plan: Plan, times: Times, doctor: Clinician, random: Random) -> tuple[Note, ...]:
    """One note a day: the first says what was found, the last that the patient may go. A visit has one."""
    age = case.citizen.age_at(times.arrival.date())
    first = times.admitted or times.arrival + timedelta(minutes=20)
    notes: list[Note] = []
    for day in range(times.days + 1 if times.admitted is not None else 1):
        at = first if day == 0 else first.replace(hour=8, minute=30) + timedelta(days=day)
        if at >= times.end:
            break
        signs = vitals(case.citizen, age, plan, at, random, healing=day / max(1, times.days))
        text = plan.finding if day == 0 else "Tỉnh, đỡ mệt, tiếp tục điều trị theo y lệnh"
        notes.append(Note(at, f"{text}. {signs.line}", doctor))
    return tuple(notes)


def _vaccines(case: Case, at: datetime, random: Random) -> tuple[Vaccine, ...]:
    if case.main.code != "Z23":
        return ()
    born = case.citizen.birth_date
    dose = due((at.year - born.year) * 12 + at.month - born.month, random)
    return (
        Vaccine(
            code=dose.code,
            name=dose.name,
            lot=f"{dose.code}{random.randrange(10_000):04d}A",
            expires=at.date() + timedelta(days=random.randrange(60, 500)),
            number=dose.number,
            route=dose.route,
            site=dose.site,
            at=at,
        ),
    )


def _outcome(facility: Facility, case: Case, plan: Plan, times: Times, random: Random) -> Outcome:
    stay = times.admitted is not None
    referred = _referred_to(facility, random)
    if stay and not referred and case.main.code[0] in "ICJ" and random.random() < 0.006:
        return Outcome("5", "1", "", "", None, plan.treatment)
    chronic = case.main.chronic
    days = 28 if chronic else 7
    revisit = (times.end + timedelta(days=days)).date() if chronic or random.random() < 0.05 else None
    return Outcome(
        result="4" if referred else ("1" if not chronic and random.random() < 0.5 else "2"),
        discharge="2" if referred else ("4" if stay and random.random() < 0.02 else "1"),
        referred_to=referred,
        advice="Uống thuốc theo đơn, tái khám khi có dấu hiệu bất thường",
        revisit=None if referred else revisit,
        treatment=plan.treatment,
    )


def _referred_to(facility: Facility, random: Random) -> str:
    """A station refers to its centre, a centre or polyclinic to a city hospital."""
    part = {"station": 0.03, "centre": 0.012, "other": 0.02, "hospital": 0.0}[facility.kind]
    if random.random() >= part:
        return ""
    return centre_of(facility.commune).code if facility.kind == "station" else random.choice(_HOSPITALS).code
