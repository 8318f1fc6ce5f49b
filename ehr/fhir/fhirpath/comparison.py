"""Whether two items are equal, equivalent, or which comes first.

In:      items
Out:     True, False, or None where the precision of a date or the units of quantities do not decide
         key: hashable, equal exactly for items that are equal; for distinct, union and their kind
Source:  FHIRPath 2.0.0 sections 6.1 equality, 6.2 comparison
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from ehr.fhir.fhirpath import moments, quantities
from ehr.fhir.fhirpath.context import Context
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import Item
from ehr.fhir.fhirpath.numbers import exact, places_of, rounded
from ehr.fhir.fhirpath.type_names import kind_of

_MOMENTS: Final = ("Date", "DateTime", "Time")
_NUMBERS: Final = ("Integer", "Decimal")


def moment_of(item: Item) -> moments.Moment | None:
    """The date or time an item is; None where it is none, or not a valid one."""
    kind = kind_of(item)
    return moments.read(item.value, kind) if kind in _MOMENTS and isinstance(item.value, str) else None


def key(item: Item, context: Context) -> object:
    kind = kind_of(item)
    if kind in _NUMBERS:
        return ("number", exact(item.value))
    if kind in _MOMENTS and (moment := moment_of(item)) is not None:
        return moments.canonical(moment)
    if kind == "Quantity":
        return quantities.canonical(quantities.amount(item.value))
    if kind is not None:
        return (item.value.__class__, item.value)
    return _frozen(item.value if item.value is not None else item.extra, context)


def _frozen(value: Any, context: Context) -> object:
    """A JSON value as something that can be in a set; objects are equal whatever the order of their members."""
    context.spend(1)
    if isinstance(value, Mapping):
        return frozenset((name, _frozen(below, context)) for name, below in value.items())
    if isinstance(value, list):
        return tuple(_frozen(below, context) for below in value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return ("number", exact(value))
    return (value.__class__, value)


def distinct(items: Sequence[Item], context: Context) -> list[Item]:
    """Each once, the first of those that are equal."""
    if len(items) < 2:
        return list(items)
    context.spend(len(items))
    found: dict[object, Item] = {}
    for item in items:
        found.setdefault(key(item, context), item)
    return list(found.values())


def equal(left: Item, right: Item, context: Context) -> bool | None:
    kinds = (kind_of(left), kind_of(right))
    if kinds[0] in _MOMENTS and kinds[1] in _MOMENTS:
        return _equal_moments(left, right)
    if kinds == ("Quantity", "Quantity"):
        return quantities.equal(quantities.amount(left.value), quantities.amount(right.value))
    if "Quantity" in kinds and (kinds[0] in _NUMBERS or kinds[1] in _NUMBERS):
        return quantities.equal(amount_of(left), amount_of(right))
    return key(left, context) == key(right, context)


def _equal_moments(left: Item, right: Item) -> bool | None:
    first, second = moment_of(left), moment_of(right)
    if first is None or second is None:
        return bool(left.value == right.value)
    if (first.kind == "Time") != (second.kind == "Time"):
        return False
    order = moments.compare(first, second)
    return None if order is None else order == 0


def amount_of(item: Item) -> quantities.Amount:
    """A number is a quantity of unit 1."""
    return quantities.amount(item.value if kind_of(item) == "Quantity" else {"value": item.value, "unit": "1"})


def all_equal(left: Sequence[Item], right: Sequence[Item], context: Context) -> bool | None:
    """Two collections: as many items, and each equal to the one at its place."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    context.spend(len(left))
    found = [equal(one, other, context) for one, other in zip(left, right, strict=True)]
    return False if False in found else None if None in found else True


def equivalent(left: Item, right: Item, context: Context) -> bool:
    """Without case and space in texts, to the digits of the less precise number, and never unknown."""
    kinds = (kind_of(left), kind_of(right))
    if kinds[0] in _NUMBERS and kinds[1] in _NUMBERS:
        return _equivalent_numbers(exact(left.value), exact(right.value))
    if kinds == ("String", "String"):
        return _folded(left.value) == _folded(right.value)
    if kinds == ("Quantity", "Quantity"):
        return quantities.equivalent(quantities.amount(left.value), quantities.amount(right.value))
    if kinds[0] is None and kinds[1] is None:
        return _folded_tree(left.value, context) == _folded_tree(right.value, context)
    return equal(left, right, context) is True


def _equivalent_numbers(left: Decimal, right: Decimal) -> bool:
    places = min(places_of(left.normalize()), places_of(right.normalize()))
    one, other = rounded(left, places, ROUND_HALF_UP), rounded(right, places, ROUND_HALF_UP)
    return left == right if one is None or other is None else one == other


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _folded_tree(value: Any, context: Context) -> object:
    """Ids are no part of what something means, and the order of a list is none."""
    context.spend(1)
    if isinstance(value, Mapping):
        return frozenset((name, _folded_tree(below, context)) for name, below in value.items() if name != "id")
    if isinstance(value, list):
        return frozenset(_folded_tree(below, context) for below in value)
    if isinstance(value, str):
        return _folded(value)
    return _frozen(value, context)


def all_equivalent(left: Sequence[Item], right: Sequence[Item], context: Context) -> bool:
    """Two collections: as many items, each with an equivalent of its own, in any order."""
    if len(left) != len(right):
        return False
    waiting = list(right)
    for item in left:
        context.spend(len(waiting))
        found = next((place for place, other in enumerate(waiting) if equivalent(item, other, context)), None)
        if found is None:
            return False
        del waiting[found]
    return True


def compare(left: Item, right: Item) -> int | None:
    """-1, 0 or 1; None where it is not known. ExpressionError where there is no order between the two."""
    kinds = (kind_of(left), kind_of(right))
    if kinds[0] in _NUMBERS and kinds[1] in _NUMBERS:
        return _order(exact(left.value), exact(right.value))
    if kinds == ("String", "String"):
        return _order(left.value, right.value)
    if kinds[0] in _MOMENTS and kinds[1] in _MOMENTS and (kinds[0] == "Time") == (kinds[1] == "Time"):
        first, second = moment_of(left), moment_of(right)
        return None if first is None or second is None else moments.compare(first, second)
    if "Quantity" in kinds and all(kind in ("Quantity", *_NUMBERS) for kind in kinds):
        return quantities.compare(amount_of(left), amount_of(right))
    if all(item.type in ("Quantity", "SimpleQuantity") or kind_of(item) == "Quantity" for item in (left, right)):
        return None  # one of them has no value
    raise ExpressionError(f"FHIRPath: {_named(left)} and {_named(right)} have no order")


def _order(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


def _named(item: Item) -> str:
    return kind_of(item) or item.type or "JSON"


Comparison = Callable[[int], bool]

COMPARISONS: Final[dict[str, Comparison]] = {
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}
