"""Functions that make one type of another.

Source:  FHIRPath 2.0.0 section 5.5 conversion
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from ehr.fhir.fhirpath import moments, quantities
from ehr.fhir.fhirpath.compiler import Arguments, function
from ehr.fhir.fhirpath.context import Context, Items
from ehr.fhir.fhirpath.items import Item, computed
from ehr.fhir.fhirpath.numbers import exact, integer, plain
from ehr.fhir.fhirpath.operators import said, single, text_of
from ehr.fhir.fhirpath.parser import CALENDAR
from ehr.fhir.fhirpath.type_names import kind_of

_TRUE: Final = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0", "0.0"})
_INTEGER: Final = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?\d{1,40}(?:\.\d{1,40})?", re.ASCII)
_QUANTITY: Final = re.compile(
    r"(?P<value>[+-]?\d{1,40}(?:\.\d{1,40})?)\s*(?:'(?P<unit>[^']+)'|(?P<word>[a-zA-Z]+))?", re.ASCII
)


def _boolean(item: Item, kind: str) -> bool | None:
    if kind == "Boolean":
        return bool(item.value)
    if kind in ("Integer", "Decimal"):
        return {0: False, 1: True}.get(item.value)
    if kind != "String":
        return None
    word = item.value.lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _integer(item: Item, kind: str) -> int | None:
    if kind in ("Integer", "Boolean"):
        return int(item.value)
    return integer(int(item.value)) if kind == "String" and _INTEGER.fullmatch(item.value) else None


def _decimal(item: Item, kind: str) -> Decimal | None:
    if kind in ("Integer", "Decimal"):
        return exact(item.value)
    if kind == "Boolean":
        return Decimal(int(item.value))
    return Decimal(item.value) if kind == "String" and _DECIMAL.fullmatch(item.value) else None


def text_form(item: Item, kind: str) -> str:
    """As toString() writes it."""
    match kind:
        case "Boolean":
            return "true" if item.value else "false"
        case "Integer":
            return str(item.value)
        case "Decimal":
            return plain(exact(item.value))
        case "Quantity":
            return quantities.amount(item.value).text
        case _:
            return str(item.value)


def _moment(wanted: str) -> "Conversion":
    def convert(item: Item, kind: str) -> str | None:
        if kind not in ("String", "Date", "DateTime", "Time"):
            return None
        text: str = item.value
        if wanted == "Date" and kind == "DateTime":
            text = text.partition("T")[0]
        moment = moments.read(text, wanted)
        return None if moment is None else text.removesuffix("T")

    return convert


def _quantity(item: Item, kind: str) -> dict[str, Any] | None:
    if kind == "Quantity":
        return quantities.tree_of(quantities.amount(item.value))
    if kind in ("Integer", "Decimal", "Boolean"):
        return quantities.tree_of(quantities.Amount(exact(item.value), "1"))
    match = _QUANTITY.fullmatch(item.value) if kind == "String" else None
    if match is None or (match["word"] and match["word"] not in CALENDAR):
        return None
    value = Decimal(match["value"])
    if match["word"]:
        return quantities.tree_of(quantities.Amount(value, match["word"].removesuffix("s"), is_calendar=True))
    return quantities.tree_of(quantities.Amount(value, match["unit"] or "1"))


Conversion = Callable[[Item, str], Any]

_CONVERSIONS: Final[dict[str, Conversion]] = {
    "Boolean": _boolean,
    "Integer": _integer,
    "Decimal": _decimal,
    "String": text_form,
    "Date": _moment("Date"),
    "DateTime": _moment("DateTime"),
    "Time": _moment("Time"),
    "Quantity": _quantity,
}


def _converts(wanted: str, convert: Conversion) -> None:
    """to… and convertsTo… of one type; a Quantity may be asked for in a unit."""

    def converted(context: Context, items: Items, arguments: Arguments) -> tuple[bool, Any]:
        item = single(items, f"to{wanted}()")
        if item is None:
            return False, None
        kind = kind_of(item)
        value = None if kind is None else convert(item, kind)
        unit = text_of(arguments[0].value(context), f"to{wanted}()") if arguments else None
        if value is not None and unit is not None:
            changed = quantities.in_unit(quantities.amount(value), unit)
            value = None if changed is None else quantities.tree_of(changed)
        return True, value

    def to(context: Context, items: Items, arguments: Arguments) -> Items:
        _, value = converted(context, items, arguments)
        return [] if value is None else [computed(value, wanted)]

    def converts(context: Context, items: Items, arguments: Arguments) -> Items:
        is_there, value = converted(context, items, arguments)
        return said(value is not None) if is_there else []

    most = 1 if wanted == "Quantity" else 0
    function(f"to{wanted}", 0, most)(to)
    function(f"convertsTo{wanted}", 0, most)(converts)


for _name, _conversion in _CONVERSIONS.items():
    _converts(_name, _conversion)
