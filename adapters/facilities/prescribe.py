"""Prescribe for a case: which medicines, how much of each, and how the dose is written.

In:      the diagnoses, terminology.lists.MEDICINES
Out:     Prescription: what episodes.py prices
Shape:   up to three medicines for the main disease, one for each known chronic one; visits get what is taken at home;
         a bottle, tube or inhaler of many doses is dispensed once
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from random import Random
from typing import Final

from adapters.facilities.population import Citizen
from terminology.lists import MEDICINES, Diagnosis, Medicine, Route

ROUTES: Final[dict[Route, tuple[str, str]]] = {
    "oral": ("1.01", "Uống"),
    "intramuscular": ("2.05", "Tiêm bắp"),
    "subcutaneous": ("2.06", "Tiêm dưới da"),
    "intravenous": ("2.10", "Tiêm, truyền tĩnh mạch"),
    "topical": ("3.05", "Bôi ngoài da"),
    "vaginal": ("4.03", "Đặt âm đạo"),
    "inhalation": ("5.05", "Hít, khí dung"),
    "ophthalmic": ("6.01", "Nhỏ mắt"),
}
"""Route → DUONG_DUNG in the form of QĐ 5937/2021 and its Vietnamese name."""

_AT_HOME: Final = frozenset({"oral", "topical", "ophthalmic", "inhalation", "vaginal", "subcutaneous"})
_ALLERGIC_TO: Final = {"penicillin": "J01C", "cephalosporin": "J01D", "aspirin": "B01AC06"}
"""Substance → beginning of the ATC codes that must not be given."""


@dataclass(frozen=True, slots=True)
class Prescription:
    """each, times and days as ordered; quantity in units of price."""

    medicine: Medicine
    each: Decimal
    times: int
    days: int
    quantity: Decimal
    whole_pack: bool


def prescribe(
    citizen: Citizen,
    main: Diagnosis,
    others: Iterable[Diagnosis],
    random: Random,
    *,
    age: int,
    stay_days: int | None,
) -> list[Prescription]:
    """stay_days None: a visit."""
    forbidden = tuple(_ALLERGIC_TO[name] for name in citizen.allergies if name in _ALLERGIC_TO)
    chosen: dict[str, Medicine] = {}
    for diagnosis, most in [(main, 3), *((other, 1) for other in others)]:
        fitting = [medicine for medicine in _for(diagnosis.code) if _may(medicine, age, stay_days, forbidden)]
        random.shuffle(fitting)
        taken = 0
        for medicine in fitting:
            group = _group(medicine)
            if taken < most and group not in chosen:
                chosen[group] = medicine
                taken += 1
    return [_prescription(medicine, stay_days) for medicine in list(chosen.values())[:8]]


@cache
def _for(code: str) -> tuple[Medicine, ...]:
    return tuple(medicine for medicine in MEDICINES if code in medicine.indications)


def _group(medicine: Medicine) -> str:
    """What is not given twice: one medicine of a therapeutic class (ATC level 2), of diabetes drugs one a kind."""
    atc = medicine.atc or medicine.code
    return atc[:5] if atc.startswith("A10") else atc[:3]


def _may(medicine: Medicine, age: int, stay_days: int | None, forbidden: tuple[str, ...]) -> bool:
    if forbidden and (medicine.atc or "").startswith(forbidden):
        return False
    if medicine.route == "oral" and (
        (medicine.unit_vi == "chai" and age >= 8) or (medicine.unit_vi == "viên" and age < 2)
    ):
        return False  # syrups are for children, tablets are not for infants
    return stay_days is not None or (medicine.route in _AT_HOME and medicine.unit_vi != "lít")


def _prescription(medicine: Medicine, stay_days: int | None) -> Prescription:
    days = medicine.days if stay_days is None else min(medicine.days, stay_days)
    each = Decimal(medicine.dose)
    if _many_doses(medicine):
        return Prescription(medicine, each, medicine.times_a_day, days, Decimal(1), whole_pack=True)
    return Prescription(
        medicine, each, medicine.times_a_day, days, each * medicine.times_a_day * days, whole_pack=False
    )


def _many_doses(medicine: Medicine) -> bool:
    """One pack lasts for the whole course: creams, drops, syrups, inhalers, insulin vials."""
    if medicine.route in ("topical", "ophthalmic"):
        return True
    if medicine.route == "inhalation":
        return "liều" in medicine.strength
    if medicine.route == "oral":
        return medicine.unit_vi == "chai"
    return medicine.route == "subcutaneous" and medicine.unit_vi == "lọ"
