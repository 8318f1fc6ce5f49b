"""Compute what one line of care costs and who pays it.

In:      quantity, unit prices, rates in percent
Out:     Amounts of a line, Totals of an episode; all of them Decimal with 2 decimals
Order:   each amount is rounded once, half up; differences are taken between rounded amounts, so that
         BV = BH + BNTT and BH = BHTT + BNCCT hold to the last digit in every line and every total
Source:  QĐ 4750/QĐ-BYT, annex, XML1 to XML3: THANH_TIEN_BV, THANH_TIEN_BH, T_BHTT, T_BNCCT, T_BNTT
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

CENT: Final = Decimal("0.01")
NOTHING: Final = Decimal("0.00")
_HUNDRED: Final = Decimal(100)

BASE_SALARY: Final = Decimal(2_340_000)
"""Monthly base salary since 2024-07-01 (Decree 73/2024)."""

SMALL_BILL: Final = BASE_SALARY * 15 / 100
"""Below this the fund pays in full (Law on Health Insurance, Article 22)."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """One line. rate: TYLE_TT_BH; benefit: MUC_HUONG; hospital BV, insured BH, fund BHTT, copay BNCCT, patient BNTT."""

    rate: int
    benefit: int
    hospital: Decimal
    insured: Decimal
    fund: Decimal
    copay: Decimal
    patient: Decimal


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the lines of one episode (XML1 fields 45 to 53). T_NGUONKHAC is 0: no other source pays here."""

    medicines: Decimal
    supplies: Decimal
    hospital: Decimal
    insured: Decimal
    fund: Decimal
    copay: Decimal
    patient: Decimal


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


def bill(
    quantity: Decimal, price: Decimal, price_insured: Decimal, *, service_rate: int, rate: int, benefit: int
) -> Amounts:
    """Amounts of a line; rate 0 (not insured, or outside the scope) leaves everything to the patient."""
    hospital = _cents(quantity * price * service_rate / _HUNDRED)
    insured = _cents(quantity * price_insured * service_rate / _HUNDRED * rate / _HUNDRED)
    assert insured <= hospital, "the fund's price is never above the hospital's"
    fund = _cents(insured * benefit / _HUNDRED)
    return Amounts(rate, benefit if rate else 0, hospital, insured, fund, insured - fund, hospital - insured)


def totals(medicines: Iterable[Amounts], services: Iterable[Amounts]) -> Totals:
    drugs, care = list(medicines), list(services)
    lines = drugs + care
    return Totals(
        medicines=sum((line.hospital for line in drugs), NOTHING),
        supplies=NOTHING,
        hospital=sum((line.hospital for line in lines), NOTHING),
        insured=sum((line.insured for line in lines), NOTHING),
        fund=sum((line.fund for line in lines), NOTHING),
        copay=sum((line.copay for line in lines), NOTHING),
        patient=sum((line.patient for line in lines), NOTHING),
    )
