"""A value against fixed[x], pattern[x], minValue[x], maxValue[x] and maxLength.

Out:     whether it holds
Source:  FHIR R4 elementdefinition.html: fixed is exact, extensions and ids included; pattern is what must be in it,
         an array holding each item of the pattern somewhere
"""

from decimal import Decimal
from typing import Any

from ehr.fhir.profiles.partial import compared


def is_fixed(fixed: Any, value: Any) -> bool:
    """Deep equality; numbers with their digits, because 1.0 and 1.00 are not the same decimal."""
    if isinstance(fixed, dict):
        return (
            isinstance(value, dict)
            and fixed.keys() == value.keys()
            and all(is_fixed(fixed[name], value[name]) for name in fixed)
        )
    if isinstance(fixed, list):
        return (
            isinstance(value, list)
            and len(fixed) == len(value)
            and all(is_fixed(one, other) for one, other in zip(fixed, value, strict=True))
        )
    if _is_number(fixed) and _is_number(value):
        return str(fixed) == str(value)
    return type(fixed) is type(value) and bool(fixed == value)


def has_pattern(pattern: Any, value: Any) -> bool:
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            name in value and has_pattern(wanted, value[name]) for name, wanted in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(has_pattern(one, other) for other in value) for one in pattern)
    return is_fixed(pattern, value)


def is_at_least(bound: Any, value: Any) -> bool:
    """Not known to be below the bound."""
    order = compared(value, bound)
    return order is None or order >= 0


def is_at_most(bound: Any, value: Any) -> bool:
    order = compared(value, bound)
    return order is None or order <= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
