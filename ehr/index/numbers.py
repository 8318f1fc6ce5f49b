"""Numbers of JSON → the floats that an index compares.

Quantity  what lies beyond a number (comparator) is the first float beyond it: a result of "<50" is below 50 and not at
          it, though nobody knows how far
Source:   FHIR R4 datatypes.html#Quantity (comparator is a modifier: whoever reads the value must heed it)
"""

import math
from collections.abc import Mapping
from typing import Any, Final

_BEYOND: Final = {"<": -math.inf, ">": math.inf}


def number_of(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number - number == 0 else None  # not NaN, not infinite


def quantity_number(quantity: Mapping[str, Any]) -> float | None:
    number = number_of(quantity.get("value"))
    if number is not None and "comparator" in quantity and (comparator := quantity["comparator"]).__class__ is str:
        return number_of(math.nextafter(number, _BEYOND.get(comparator, number)))
    return number
