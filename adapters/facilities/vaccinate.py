"""Choose the vaccine that is due: the national programme for children, tetanus or influenza for others.

Out:     the dose of the schedule next after an age in months
Source:  Expanded Programme on Immunization of Viet Nam (schedule of TT 10/2024/TT-BYT, doses by age); CVX codes of CDC
"""

from dataclasses import dataclass
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Dose:
    """One dose of a schedule. code: CVX; month: age at which it is due."""

    month: int
    code: str
    name: str
    number: int
    route: str
    site: str


CHILD: Final = (
    Dose(0, "08", "Viêm gan B sơ sinh", 1, "IM", "LT"),
    Dose(0, "19", "BCG phòng lao", 1, "ID", "LA"),
    Dose(2, "198", "DPT-VGB-Hib", 1, "IM", "RT"),
    Dose(2, "178", "Bại liệt uống bOPV", 1, "PO", ""),
    Dose(3, "198", "DPT-VGB-Hib", 2, "IM", "RT"),
    Dose(3, "178", "Bại liệt uống bOPV", 2, "PO", ""),
    Dose(4, "198", "DPT-VGB-Hib", 3, "IM", "RT"),
    Dose(4, "178", "Bại liệt uống bOPV", 3, "PO", ""),
    Dose(5, "10", "Bại liệt tiêm IPV", 1, "IM", "LT"),
    Dose(9, "05", "Sởi", 1, "SC", "LA"),
    Dose(12, "134", "Viêm não Nhật Bản", 1, "SC", "RA"),
    Dose(13, "134", "Viêm não Nhật Bản", 2, "SC", "RA"),
    Dose(18, "04", "Sởi - Rubella", 1, "SC", "LA"),
    Dose(18, "01", "DPT nhắc lại", 4, "IM", "RT"),
    Dose(24, "134", "Viêm não Nhật Bản", 3, "SC", "RA"),
)
TETANUS: Final = Dose(0, "35", "Uốn ván", 1, "IM", "LA")
INFLUENZA: Final = Dose(0, "150", "Cúm mùa", 1, "IM", "LA")


def due(months: int, random: Random) -> Dose:
    """The dose a child of that age comes for, or what others are given."""
    if months < 30:
        past = [dose for dose in CHILD if dose.month <= months]
        latest = past[-1].month
        return random.choice([dose for dose in past if dose.month == latest])
    return TETANUS if random.random() < 0.5 else INFLUENZA
