"""Quantity, prices and rates of one charge → the six amounts of its row, to the hundredth of a đồng.

Source: QĐ 4750/QĐ-BYT, tables XML2 and XML3: THANH_TIEN_BV, THANH_TIEN_BH, T_BHTT, T_BNCCT, T_BNTT, T_NGUONKHAC
        (case a: another source helps this one patient). XML3.THANH_TIEN_BV lacks "/100" in the text; the examples
        mean percent.

Always bv = bntt + bncct + bhtt + other, and with no other source bh = bncct + bhtt.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final

from ehr.errors import Invalid

HUNDREDTH: Final = Decimal("0.01")
THOUSANDTH: Final = Decimal("0.001")
HUNDRED: Final = Decimal(100)
NOTHING: Final = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Amounts:
    """bv whole at hospital price · bh inside the insurance scope · bhtt the fund · bncct co-payment ·
    bntt the patient outside the scope · other the sum of other sources."""

    bv: Decimal
    bh: Decimal
    bntt: Decimal
    bncct: Decimal
    bhtt: Decimal
    other: Decimal


ZERO: Final = Amounts(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)


def hundredths(value: Decimal) -> Decimal:
    """Rounded to two decimals, half up as on every Vietnamese bill (Python's own rounding is to even)."""
    return _rounded(value, HUNDREDTH)


def thousandths(value: Decimal) -> Decimal:
    """Rounded to three decimals, half up: quantities and unit prices."""
    return _rounded(value, THOUSANDTH)


def _rounded(value: Decimal, step: Decimal) -> Decimal:
    try:
        return value.quantize(step, ROUND_HALF_UP)
    except InvalidOperation as error:
        raise Invalid("an amount has more digits than a claim can carry") from error


def drug(quantity: Decimal, price: Decimal, rate_insured: Decimal) -> tuple[Decimal, Decimal]:
    """(THANH_TIEN_BV, THANH_TIEN_BH) of an XML2 row."""
    return hundredths(quantity * price), hundredths(quantity * price * rate_insured / HUNDRED)


def service(
    quantity: Decimal, price_bv: Decimal, price_bh: Decimal, rate_service: Decimal, rate_insured: Decimal
) -> tuple[Decimal, Decimal]:
    """(THANH_TIEN_BV, THANH_TIEN_BH) of an XML3 row."""
    bv = hundredths(quantity * price_bv * rate_service / HUNDRED)
    bh = hundredths(quantity * price_bh * rate_service / HUNDRED * rate_insured / HUNDRED)
    return bv, bh


def split(bv: Decimal, bh: Decimal, benefit: Decimal, other: Decimal = NOTHING, *, at: str = "") -> Amounts:
    """Who pays what of a row. Another source pays first what the patient would, then what the fund would."""
    if bh > bv:
        raise Invalid("THANH_TIEN_BH is greater than THANH_TIEN_BV", at=at)
    if not NOTHING <= other <= bv:
        raise Invalid("T_NGUONKHAC is not between 0 and THANH_TIEN_BV", at=at)
    bhtt = hundredths(bh * benefit / HUNDRED)
    bncct, bntt = bh - bhtt, bv - bh
    left = other
    taken = min(left, bntt)
    bntt, left = bntt - taken, left - taken
    taken = min(left, bncct)
    bncct, left = bncct - taken, left - taken
    return Amounts(bv, bh, bntt, bncct, bhtt - left, other)


def total(rows: Iterable[Amounts]) -> Amounts:
    """The sums that XML1 carries."""
    sums = ZERO
    for row in rows:
        sums = Amounts(
            sums.bv + row.bv,
            sums.bh + row.bh,
            sums.bntt + row.bntt,
            sums.bncct + row.bncct,
            sums.bhtt + row.bhtt,
            sums.other + row.other,
        )
    return sums
