"""A card and an episode → MUC_HUONG, the percentage the fund pays inside its scope.

Source: Law on Health Insurance 25/2008 as amended, Art. 22 (levels, small bills, commune stations); the card's third
        character as in QĐ 1351/QĐ-BHXH 2015; QĐ 4750 XML2.MUC_HUONG. The base salary is that of NĐ 24/2023 and
        NĐ 73/2024.

A row that names its own MUC_HUONG keeps it: the facility may know what the record does not (co-payment waived, the
rate of an out-of-line attendance).
"""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Final

from ehr.errors import Invalid

CARD: Final = re.compile(r"[A-Z]{2}[1-5][0-9]{12}")
"""Object group, benefit digit, province, ten digits of the social insurance number."""

_LEVEL: Final[Mapping[str, Decimal]] = {
    "1": Decimal(100),
    "2": Decimal(100),
    "3": Decimal(95),
    "4": Decimal(80),
    "5": Decimal(100),
}
_BASE_SALARY: Final = ((date(2024, 7, 1), Decimal(2_340_000)), (date(2023, 7, 1), Decimal(1_800_000)))
_SMALL_BILL: Final = Decimal("0.15")
_FULL: Final = Decimal(100)


def level(card: str) -> Decimal:
    """The percentage of the card itself."""
    if not CARD.fullmatch(card):
        raise Invalid("the card number has not the form of a BHYT card", at="MA_THE_BHYT")
    return _LEVEL[card[2]]


def base_salary(on: date) -> Decimal:
    """Lương cơ sở of a day, đồng a month."""
    for since, amount in _BASE_SALARY:
        if on >= since:
            return amount
    raise Invalid("no base salary is known for this day", at="NGAY_RA")


def benefit(card: str, inside_scope: Decimal, discharged: date, attendance: str, *, at_station: bool) -> Decimal:
    """MUC_HUONG of an episode whose charges inside the scope sum to inside_scope đồng.

    attendance   MA_DOITUONG_KCB; 3.x is out of line, where the card's level is kept and its reduced rate must come
                 with the row, because it depends on the level of the hospital
    """
    own = level(card)
    if attendance.startswith("3"):
        return own
    if at_station or inside_scope < _SMALL_BILL * base_salary(discharged):
        return _FULL
    return own
