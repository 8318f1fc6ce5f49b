"""Functions on numbers, and the bounds and precision of whatever is written with some.

Source:  FHIRPath 2.0.0 section 5.7 math; lowBoundary, highBoundary, precision and comparable of its next release
"""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Final

from ehr.fhir.fhirpath import comparison, moments, quantities
from ehr.fhir.fhirpath.compiler import Arguments, function
from ehr.fhir.fhirpath.context import Context, Items
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import computed
from ehr.fhir.fhirpath.numbers import ARITHMETIC, PLACES, calculated, exact, integer, places_of, rounded
from ehr.fhir.fhirpath.operators import integer_of, number_of, said, single
from ehr.fhir.fhirpath.type_names import kind_of

_PLACES_MAX: Final = 28


def _decimal(value: Decimal | None) -> Items:
    return [] if value is None else [computed(value, "Decimal")]


def _whole(value: Decimal | None) -> Items:
    found = integer(value)
    return [] if found is None else [computed(found, "Integer")]


@function("abs")
def _abs(_context: Context, items: Items, _arguments: Arguments) -> Items:
    item = single(items, "abs()")
    if item is not None and kind_of(item) == "Quantity":
        return [computed({**item.value, "value": exact(item.value["value"]).copy_abs()}, "Quantity")]
    value = number_of(items, "abs()")
    if value is None:
        return []
    return [computed(abs(value), "Integer")] if isinstance(value, int) else _decimal(value.copy_abs())


def _rounds(name: str, rounding: str) -> None:
    def rounds(_context: Context, items: Items, _arguments: Arguments) -> Items:
        value = number_of(items, f"{name}()")
        return [] if value is None else _whole(rounded(exact(value), 0, rounding))

    function(name)(rounds)


_rounds("ceiling", ROUND_CEILING)
_rounds("floor", ROUND_FLOOR)
_rounds("truncate", ROUND_DOWN)


@function("round", 0, 1)
def _round(context: Context, items: Items, arguments: Arguments) -> Items:
    value = number_of(items, "round()")
    places = (integer_of(arguments[0].value(context), "round()") if arguments else 0) or 0
    if places < 0:
        raise ExpressionError("FHIRPath: round() takes a precision of 0 or more")
    return [] if value is None else _decimal(rounded(exact(value), min(places, _PLACES_MAX), ROUND_HALF_UP))


def _computes(name: str, compute: Callable[[Decimal], Decimal]) -> None:
    def computes(_context: Context, items: Items, _arguments: Arguments) -> Items:
        value = number_of(items, f"{name}()")
        return [] if value is None else _decimal(calculated(lambda _arithmetic: compute(exact(value))))

    function(name)(computes)


_computes("sqrt", ARITHMETIC.sqrt)
_computes("exp", ARITHMETIC.exp)
_computes("ln", ARITHMETIC.ln)


@function("log", 1)
def _log(context: Context, items: Items, arguments: Arguments) -> Items:
    value, base = number_of(items, "log()"), number_of(arguments[0].value(context), "log()")
    if value is None or base is None:
        return []
    found = calculated(lambda arithmetic: arithmetic.divide(arithmetic.ln(exact(value)), arithmetic.ln(exact(base))))
    return _decimal(None if found is None else rounded(found, _PLACES_MAX, ROUND_HALF_UP))


@function("power", 1)
def _power(context: Context, items: Items, arguments: Arguments) -> Items:
    value, exponent = number_of(items, "power()"), number_of(arguments[0].value(context), "power()")
    if value is None or exponent is None:
        return []
    found = calculated(lambda arithmetic: arithmetic.power(exact(value), exact(exponent)))
    both_whole = isinstance(value, int) and isinstance(exponent, int) and exponent >= 0
    return _whole(found) if both_whole else _decimal(found)


def _bounds(name: str, *, is_high: bool) -> None:
    def bound(context: Context, items: Items, arguments: Arguments) -> Items:
        item = single(items, f"{name}()")
        precision = integer_of(arguments[0].value(context), f"{name}()") if arguments else None
        if item is None or item.value is None:
            return []
        kind = kind_of(item)
        if kind in ("Integer", "Decimal"):
            return _decimal(_number_bound(exact(item.value), precision, is_high=is_high))
        if kind == "Quantity":
            value = _number_bound(exact(item.value["value"]), precision, is_high=is_high)
            return [] if value is None else [computed({**item.value, "value": value}, "Quantity")]
        moment = comparison.moment_of(item)
        if moment is None:
            raise ExpressionError(f"FHIRPath: {name}() takes a number, quantity, date or time")
        found = moments.bound(moment, precision, is_high=is_high)
        return [] if found is None else [computed(found.text, found.kind)]

    function(name, 0, 1)(bound)


_bounds("lowBoundary", is_high=False)
_bounds("highBoundary", is_high=True)


def _number_bound(value: Decimal, places: int | None, *, is_high: bool) -> Decimal | None:
    """Half of the last digit below or above; what is asked for in fewer places is rounded outwards."""
    places = PLACES if places is None else places
    if not 0 <= places <= _PLACES_MAX:
        return None
    half = Decimal(5 if is_high else -5).scaleb(-places_of(value) - 1)
    end = calculated(lambda context: context.add(value, half))
    return None if end is None else rounded(end, places, ROUND_CEILING if is_high else ROUND_FLOOR)


@function("precision")
def _precision(_context: Context, items: Items, _arguments: Arguments) -> Items:
    """Digits of a decimal, with those after the point; of a date or time, those that are known."""
    item = single(items, "precision()")
    if item is None or item.value is None:
        return []
    moment = comparison.moment_of(item)
    if moment is not None:
        return [computed(moments.precision_of(moment), "Integer")]
    if kind_of(item) not in ("Integer", "Decimal"):
        raise ExpressionError("FHIRPath: precision() takes a number, date or time")
    return [computed(places_of(exact(item.value)), "Integer")]


@function("comparable", 1)
def _comparable(context: Context, items: Items, arguments: Arguments) -> Items:
    left, right = single(items, "comparable()"), single(arguments[0].value(context), "comparable()")
    if left is None or right is None:
        return []
    if (kind_of(left), kind_of(right)) != ("Quantity", "Quantity"):
        raise ExpressionError("FHIRPath: comparable() takes quantities")
    return said(quantities.are_comparable(quantities.amount(left.value), quantities.amount(right.value)))
