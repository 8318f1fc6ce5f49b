"""Operators, and the rules by which a collection becomes the one value an operator or function needs.

In:      codes of the operands
Out:     code of the whole
Errors:  ExpressionError  several items where one is needed, or a type the operator does not take
Source:  FHIRPath 2.0.0 sections 4.5 singleton evaluation, 6 operations
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from ehr.fhir.fhirpath import comparison, moments, quantities
from ehr.fhir.fhirpath.context import Code, Context, Items, made_text
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import Item, computed
from ehr.fhir.fhirpath.numbers import calculated, exact, integer
from ehr.fhir.fhirpath.type_names import kind_of

TRUE: Final[Items] = [computed(True, "Boolean")]
FALSE: Final[Items] = [computed(False, "Boolean")]

_NUMBERS: Final = ("Integer", "Decimal")
_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"
_VALUE_SET: Final = "http://hl7.org/fhir/ValueSet/"
_CONSTANTS: Final = {"ucum": quantities.UCUM, "sct": "http://snomed.info/sct", "loinc": "http://loinc.org"}


def said(truth: bool | None) -> Items:
    return [] if truth is None else TRUE if truth else FALSE


def single(items: Items, where: str) -> Item | None:
    """The one item, None where there is none."""
    if len(items) > 1:
        raise ExpressionError(f"FHIRPath: {where} takes one item, not {len(items)}")
    return items[0] if items else None


def truth(items: Items) -> bool | None:
    """A Boolean, or whether there is something: one item that is no Boolean is true."""
    if not items:
        return None
    item = single(items, "a condition")
    assert item is not None
    return bool(item.value) if item.value.__class__ is bool else True


def text_of(items: Items, where: str) -> str | None:
    item = single(items, where)
    if item is None or item.value is None:
        return None
    if not isinstance(item.value, str):
        raise ExpressionError(f"FHIRPath: {where} takes a String, not {kind_of(item) or item.type}")
    return item.value


def integer_of(items: Items, where: str) -> int | None:
    item = single(items, where)
    if item is None:
        return None
    if kind_of(item) != "Integer":
        raise ExpressionError(f"FHIRPath: {where} takes an Integer, not {kind_of(item) or item.type}")
    return int(item.value)


def number_of(items: Items, where: str) -> int | Decimal | None:
    item = single(items, where)
    if item is None or item.value is None:
        return None
    kind = kind_of(item)
    if kind not in _NUMBERS:
        raise ExpressionError(f"FHIRPath: {where} takes a number, not {kind or item.type}")
    return int(item.value) if kind == "Integer" else exact(item.value)


def variable(name: str) -> Code:
    """%resource and the like; %vs-name and %ext-name stand for canonicals of HL7's own."""
    match name:
        case "resource":
            return lambda context, _items: [context.resource]
        case "rootResource":
            return lambda context, _items: [context.root]
        case "context":
            return lambda context, _items: [context.start]

    def given(context: Context, _items: Items) -> Items:
        variables = context.environment.variables
        if name in variables:
            return as_items(variables[name])
        if name in _CONSTANTS:
            return [computed(_CONSTANTS[name], "String")]
        for prefix, base in (("vs-", _VALUE_SET), ("ext-", _EXTENSION)):
            if name.startswith(prefix):
                return [computed(base + name.removeprefix(prefix), "String")]
        raise ExpressionError(f"FHIRPath: %{name[:64]} is not defined")

    return given


def as_items(value: Any) -> Items:
    """A value of the caller's as items: lists as collections, None as empty."""
    if isinstance(value, list | tuple):
        return [item for one in value for item in as_items(one)]
    if value is None:
        return []
    if isinstance(value, Item):
        return [value]
    if isinstance(value, Mapping):
        return [Item(value, value.get("resourceType"))]
    kinds: dict[type, str] = {bool: "Boolean", int: "Integer", str: "String"}
    return [computed(value, kinds.get(value.__class__, "Decimal"))]


def polarity(sign: str, code: Code) -> Code:
    def signed(context: Context, items: Items) -> Items:
        item = single(code(context, items), f"the sign {sign}")
        if item is None or sign == "+":
            return [] if item is None else [item]
        if kind_of(item) == "Quantity":
            return [computed({**item.value, "value": exact(item.value["value"]).copy_negate()}, "Quantity")]
        value = number_of([item], "the sign -")
        assert value is not None
        return [computed(-value if isinstance(value, int) else value.copy_negate(), kind_of(item) or "")]

    return signed


def binary(operator: str, left: Code, right: Code) -> Code:
    if operator in _LOGIC:
        return _logic(_LOGIC[operator], _DECIDED.get(operator), left, right)
    if operator in comparison.COMPARISONS:
        return _ordered(comparison.COMPARISONS[operator], operator, left, right)
    both = _COLLECTIONS.get(operator) or _arithmetic(operator)
    return lambda context, items: both(left(context, items), right(context, items), context)


Logic = Callable[[bool | None, bool | None], bool | None]


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: bool | None, right: bool | None) -> bool | None:
    if left or right:
        return True
    return None if left is None or right is None else False


_LOGIC: Final[Mapping[str, Logic]] = {
    "and": _and,
    "or": _or,
    "xor": lambda left, right: None if left is None or right is None else left != right,
    "implies": lambda left, right: _or(None if left is None else not left, right),
}
_DECIDED: Final = {"and": False, "or": True, "implies": False}
"""The left side that decides alone."""


def _logic(decide: Logic, decided: bool | None, left: Code, right: Code) -> Code:
    def logic(context: Context, items: Items) -> Items:
        first = truth(left(context, items))
        if first is not None and first is decided:
            return said(decide(first, None))
        return said(decide(first, truth(right(context, items))))

    return logic


def _ordered(holds: comparison.Comparison, operator: str, left: Code, right: Code) -> Code:
    def ordered(context: Context, items: Items) -> Items:
        first = single(left(context, items), operator)
        second = single(right(context, items), operator)
        if first is None or second is None or first.value is None or second.value is None:
            return []
        order = comparison.compare(first, second)
        return [] if order is None else said(holds(order))

    return ordered


def _not(truth_found: bool | None) -> bool | None:
    return None if truth_found is None else not truth_found


def union(left: Items, right: Items, context: Context) -> Items:
    return comparison.distinct([*left, *right], context)


def _in(left: Items, right: Items, context: Context) -> Items:
    item = single(left, "in")
    if item is None:
        return []
    context.spend(len(right))
    wanted = comparison.key(item, context)
    return said(any(comparison.key(other, context) == wanted for other in right))


_Both = Callable[[Items, Items, Context], Items]

_COLLECTIONS: Final[Mapping[str, _Both]] = {
    "=": lambda left, right, context: said(comparison.all_equal(left, right, context)),
    "!=": lambda left, right, context: said(_not(comparison.all_equal(left, right, context))),
    "~": lambda left, right, context: said(comparison.all_equivalent(left, right, context)),
    "!~": lambda left, right, context: said(not comparison.all_equivalent(left, right, context)),
    "|": union,
    "in": _in,
    "contains": lambda left, right, context: _in(right, left, context),
    "&": lambda left, right, _context: [
        computed(made_text((text_of(left, "&") or "") + (text_of(right, "&") or "")), "String")
    ],
}


def _arithmetic(operator: str) -> _Both:
    def calculate(left: Items, right: Items, _context: Context) -> Items:
        first, second = single(left, operator), single(right, operator)
        if first is None or second is None or first.value is None or second.value is None:
            return []
        found = _calculated(operator, first, second)
        return [] if found is None else [found]

    return calculate


def _calculated(operator: str, left: Item, right: Item) -> Item | None:
    kinds = (kind_of(left) or left.type, kind_of(right) or right.type)
    if kinds[0] in _NUMBERS and kinds[1] in _NUMBERS:
        is_integer = kinds == ("Integer", "Integer") and operator != "/"
        return _number(operator, exact(left.value), exact(right.value), is_integer=is_integer)
    if kinds == ("String", "String") and operator == "+":
        return computed(made_text(left.value + right.value), "String")
    if kinds[0] in ("Date", "DateTime", "Time") and kinds[1] == "Quantity" and operator in ("+", "-"):
        return _moved(left, quantities.amount(right.value), operator)
    if "Quantity" in kinds and all(kind in ("Quantity", *_NUMBERS) for kind in kinds):
        return _quantity(operator, comparison.amount_of(left), comparison.amount_of(right))
    raise ExpressionError(f"FHIRPath: {operator} does not take {kinds[0]} and {kinds[1]}")


def _number(operator: str, left: Decimal, right: Decimal, *, is_integer: bool) -> Item | None:
    match operator:
        case "+":
            value = calculated(lambda context: context.add(left, right))
        case "-":
            value = calculated(lambda context: context.subtract(left, right))
        case "*":
            value = calculated(lambda context: context.multiply(left, right))
        case "/":
            value = calculated(lambda context: context.divide(left, right))
        case "div":
            value = calculated(lambda context: context.divide_int(left, right))
            is_integer = True
        case _:
            value = calculated(lambda context: context.remainder(left, right))
    if value is None:
        return None
    if not is_integer:
        return computed(value, "Decimal")
    whole = integer(value)
    return None if whole is None else computed(whole, "Integer")


def _moved(item: Item, amount: quantities.Amount, operator: str) -> Item | None:
    unit = quantities.calendar_unit(amount)
    moment = comparison.moment_of(item)
    if unit is None:
        raise ExpressionError(f"FHIRPath: {amount.unit} is no unit a date or time can be moved by")
    if moment is None:
        return None
    moved = moments.add(moment, amount.value if operator == "+" else -amount.value, unit)
    return None if moved is None else computed(moved.text, moved.kind)


def _quantity(operator: str, left: quantities.Amount, right: quantities.Amount) -> Item | None:
    if operator in ("*", "/"):
        found = quantities.product(left, right, is_quotient=operator == "/")
    elif operator in ("+", "-"):
        found = quantities.total(left, right if operator == "+" else quantities.negative(right))
    else:
        raise ExpressionError(f"FHIRPath: {operator} does not take quantities")
    return None if found is None else computed(quantities.tree_of(found), "Quantity")
