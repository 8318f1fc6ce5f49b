"""Quantities: a decimal with a unit, calculated with and compared.

In:      a FHIR Quantity, or {value, unit} of a literal (`4 days`, `10 'mg'`)
Out:     Amount; comparisons give None where the units do not decide
Source:  FHIRPath 2.0.0 sections 6.1 and 6.2 (quantities), 5.5.7 toQuantity; FHIR R4 2.9.1 on UCUM
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from ehr.fhir.fhirpath.moments import SECONDS
from ehr.fhir.fhirpath.numbers import calculated, exact, plain, rounded
from terminology.ucum import unit_of

UCUM: Final = "http://unitsofmeasure.org"
_CALENDAR_CODES: Final = {"wk": "week", "d": "day", "h": "hour", "min": "minute", "s": "second", "ms": "millisecond"}
_INEXACT: Final = {"a": "year", "mo": "month"}
_SECOND: Final = (("s", 1),)
_CALENDAR: Final = {
    "year": (Decimal(12), "calendar month"),
    "month": (Decimal(1), "calendar month"),
    "millisecond": (Decimal("0.001"), _SECOND),
}


@dataclass(frozen=True, slots=True)
class Amount:
    """unit: a UCUM code, or a calendar word in the singular where is_calendar."""

    value: Decimal
    unit: str
    is_calendar: bool = False

    @property
    def text(self) -> str:
        """As it is written in FHIRPath."""
        if not self.is_calendar:
            return f"{plain(self.value)} '{self.unit}'"
        return f"{plain(self.value)} {self.unit}" + ("" if self.value == 1 else "s")


def amount(tree: Mapping[str, Any]) -> Amount:
    """Of a Quantity that has a value."""
    value = exact(tree["value"])
    if tree.get("system") == UCUM and "code" in tree:
        return Amount(value, str(tree["code"]))
    unit = str(tree.get("unit") or tree.get("code") or "1")
    if "system" not in tree and unit.removesuffix("s") in (*SECONDS, "millisecond", "month", "year"):
        return Amount(value, unit.removesuffix("s"), is_calendar=True)
    return Amount(value, unit if "system" not in tree or "code" not in tree else f"{tree['system']}|{tree['code']}")


def tree_of(found: Amount) -> dict[str, Any]:
    """The plain value of a System.Quantity."""
    if found.is_calendar:
        return {"value": found.value, "unit": found.unit}
    return {"value": found.value, "unit": found.unit, "system": UCUM, "code": found.unit}


def calendar_unit(found: Amount) -> str | None:
    """The calendar word for a unit of time that always has the same length, and for what is written as a word."""
    if found.is_calendar:
        return found.unit
    word = found.unit.removesuffix("s") if len(found.unit) > 3 else ""
    return word if word in (*SECONDS, "millisecond", "month", "year") else _CALENDAR_CODES.get(found.unit)


def _measured(found: Amount) -> tuple[Decimal, object] | None:
    """Its value in base units, and what must be the same in another to compare with it; None for an unknown unit."""
    word = calendar_unit(found)
    if word is None:
        return _in_base_units(found.value, found.unit)
    factor, dimension = _CALENDAR.get(word) or (Decimal(SECONDS[word]), _SECOND)
    value = calculated(lambda context: context.multiply(found.value, factor))
    return None if value is None else (value, dimension)


def _in_base_units(value: Decimal, code: str) -> tuple[Decimal, object] | None:
    unit = unit_of(code)
    if unit is None:
        return None
    (above, below), offset = unit.factor.as_integer_ratio(), unit.offset
    moved = calculated(lambda c: c.divide(Decimal(offset.numerator), Decimal(offset.denominator)))
    whole = calculated(
        lambda c: c.add(c.divide(c.multiply(value, Decimal(above)), Decimal(below)), moved or Decimal(0)).normalize(c)
    )
    return None if whole is None else (whole, unit.dimensions)


def equal(left: Amount, right: Amount) -> bool | None:
    order = compare(left, right)
    if order is None and not {left.unit, right.unit} & {*_INEXACT, *_INEXACT.values()}:
        return False if _measured(left) and _measured(right) else None
    return None if order is None else order == 0


def compare(left: Amount, right: Amount) -> int | None:
    """None where the units measure different things, or one of them is not known."""
    if left.unit != right.unit or left.is_calendar != right.is_calendar:
        first, second = _measured(left), _measured(right)
        if first is None or second is None or first[1] != second[1]:
            return None
        return (first[0] > second[0]) - (first[0] < second[0])
    return (left.value > right.value) - (left.value < right.value)


def equivalent(left: Amount, right: Amount) -> bool:
    """To the digits of the less precise of the two; a calendar year is a UCUM year here."""
    first, second = _measured(_calendar(left)), _measured(_calendar(right))
    if first is None or second is None or first[1] != second[1]:
        return left == right
    if not first[0] or not second[0]:
        return first[0] == second[0]
    digits = min(len(side.value.normalize().as_tuple().digits) for side in (left, right))
    one, other = _to_digits(first[0], digits), _to_digits(second[0], digits)
    return first[0] == second[0] if one is None or other is None else one == other


def _calendar(found: Amount) -> Amount:
    return Amount(found.value, _INEXACT[found.unit], is_calendar=True) if found.unit in _INEXACT else found


def _to_digits(value: Decimal, digits: int) -> Decimal | None:
    return rounded(value, digits - 1 - value.adjusted(), ROUND_HALF_EVEN)


def canonical(found: Amount) -> object:
    """Equal for quantities that are equal."""
    measured = _measured(found)
    return ("quantity", *measured) if measured else ("quantity", found.value, found.unit)


def are_comparable(left: Amount, right: Amount) -> bool:
    first, second = _measured(left), _measured(right)
    return first is not None and second is not None and first[1] == second[1]


def product(left: Amount, right: Amount, *, is_quotient: bool) -> Amount | None:
    """None where a unit is not known, or the divisor is zero."""
    unit = _unit_of_two(left.unit, right.unit, "/" if is_quotient else ".")
    value = calculated(
        lambda c: c.divide(left.value, right.value) if is_quotient else c.multiply(left.value, right.value)
    )
    return None if value is None else Amount(value, unit)


def _unit_of_two(left: str, right: str, sign: str) -> str:
    if right == "1":
        return left
    if left == "1" and sign == ".":
        return right
    return f"{left}{sign}({right})" if "/" in right or "." in right else f"{left}{sign}{right}"


def negative(found: Amount) -> Amount:
    return Amount(found.value.copy_negate(), found.unit, found.is_calendar)


def total(left: Amount, right: Amount) -> Amount | None:
    """In the unit of the left one; None where the two cannot be added, as degrees of two scales cannot."""
    more: Amount | None = right
    if left.unit != right.unit or left.is_calendar != right.is_calendar:
        more = None if _zero(left) or _zero(right) else _converted(right, left)
    if more is None:
        return None
    added = more.value
    value = calculated(lambda context: context.add(left.value, added))
    return None if value is None else Amount(value, left.unit, left.is_calendar)


def _zero(found: Amount) -> Decimal:
    """Where the scale of its unit begins, in base units: not at 0 for degrees."""
    measured = _measured(Amount(Decimal(0), found.unit, found.is_calendar))
    return Decimal(0) if measured is None else measured[0]


def _converted(found: Amount, unit: Amount) -> Amount | None:
    """The same amount in the unit of another; None where that measures something else."""
    measured, one = _measured(found), _measured(Amount(Decimal(1), unit.unit, unit.is_calendar))
    if measured is None or one is None or measured[1] != one[1]:
        return None
    zero, whole, step = _zero(unit), measured[0], one[0]
    value = calculated(lambda c: c.divide(c.subtract(whole, zero), c.subtract(step, zero)).normalize(c))
    return None if value is None else Amount(value, unit.unit, unit.is_calendar)


def in_unit(found: Amount, unit: str) -> Amount | None:
    """The same amount in another unit; None where it measures something else."""
    word = unit.removesuffix("s") if len(unit) > 3 else unit
    is_calendar = word in (*SECONDS, *_CALENDAR)
    wanted = Amount(Decimal(1), word if is_calendar else unit, is_calendar)
    return found if found.unit == wanted.unit else _converted(found, wanted)
