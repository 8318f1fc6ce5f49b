"""Numbers as FHIRPath has them: Integer of 32 bits, and Decimal, never binary fractions.

In:      int, Decimal, or float where a quick reader of JSON made one
Out:     int or Decimal; None where the result cannot be written in either, which FHIRPath calls empty
Source:  FHIRPath 2.0.0 sections 5.7 math, 6.6 math operators
"""

from collections.abc import Callable
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Final

Number = int | Decimal

ARITHMETIC: Final = Context(prec=38, Emax=9_999, Emin=-9_999, traps=[DivisionByZero, InvalidOperation, Overflow])
PLACES: Final = 8
"""Decimal places of a quotient that never ends, and of the bounds of a decimal."""

_INTEGER_MAX: Final = 2**31 - 1


def exact(value: float | Decimal) -> Decimal:
    """The digits as they are written: 0.1 is one tenth."""
    if isinstance(value, Decimal):
        return value
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def calculated(operation: Callable[[Context], Decimal]) -> Decimal | None:
    """None where there is no result: division by zero, the root of -1, more than 9,999 digits."""
    try:
        return operation(ARITHMETIC)
    except (DivisionByZero, InvalidOperation, Overflow):
        return None


def integer(value: Number | None) -> int | None:
    """None where it does not fit in 32 bits."""
    return None if value is None or not -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX else int(value)


def plain(value: Decimal) -> str:
    """Without an exponent, unless it would be a line of zeros."""
    return format(value, "f") if -20 < value.adjusted() < 40 else str(value)


def places_of(value: Decimal) -> int:
    """Digits after the decimal point."""
    return max(0, -int(value.as_tuple().exponent))


def rounded(value: Decimal, places: int, rounding: str) -> Decimal | None:
    return calculated(lambda context: value.quantize(Decimal(1).scaleb(-places), rounding, context))
