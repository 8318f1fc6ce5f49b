"""Two values of one primitive or Quantity → -1, 0, 1, or None where their order is not known.

Keeps:   partial dates are compared as far as both go, times with a zone as moments, quantities of one unit only
Source:  FHIR R4 elementdefinition.html minValue[x], maxValue[x]; datatypes.html#date
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

_DATE: Final = re.compile(r"\d{4}(-\d\d(-\d\d(T.+)?)?)?")
_TIME: Final = re.compile(r"\d\d:\d\d:\d\d(\.\d+)?")


def compared(one: Any, other: Any) -> int | None:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _quantities(one, other)
    if isinstance(one, str) and isinstance(other, str):
        return _texts(one, other)
    if isinstance(one, bool) or isinstance(other, bool):
        return None
    if isinstance(one, int | float | Decimal) and isinstance(other, int | float | Decimal):
        return _order(Decimal(str(one)), Decimal(str(other)))
    return None


def _quantities(one: Mapping[str, Any], other: Mapping[str, Any]) -> int | None:
    units = {(each.get("system"), each.get("code", each.get("unit"))) for each in (one, other)}
    if len(units) != 1 or "value" not in one or "value" not in other:
        return None
    return compared(one["value"], other["value"])


def _texts(one: str, other: str) -> int | None:
    if _TIME.fullmatch(one) and _TIME.fullmatch(other):
        return _order(one.ljust(len(other), "0"), other.ljust(len(one), "0"))
    if not (_DATE.fullmatch(one) and _DATE.fullmatch(other)):
        return None
    if "T" in one and "T" in other:
        return _moments(one, other)
    length = min(len(one.partition("T")[0]), len(other.partition("T")[0]))
    order = _order(one[:length], other[:length])
    return order if order or len(one) == len(other) else None


def _moments(one: str, other: str) -> int | None:
    try:
        first, second = datetime.fromisoformat(one), datetime.fromisoformat(other)
    except ValueError:  # a leap second, or more digits than a moment of Python has
        return None
    if (first.tzinfo is None) != (second.tzinfo is None):
        return None
    return _order(first, second)


def _order(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)
