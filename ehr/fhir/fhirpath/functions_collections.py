"""Functions on collections: existence, filtering, subsetting, combining, navigation.

Source:  FHIRPath 2.0.0 sections 5.1 to 5.4, 5.8 tree navigation, 7 aggregates; sort and coalesce of its next release
"""

import functools

from ehr.fhir.fhirpath import comparison
from ehr.fhir.fhirpath.compiler import Argument, Arguments, function
from ehr.fhir.fhirpath.context import Context, Items
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import Item, children, computed
from ehr.fhir.fhirpath.operators import FALSE, TRUE, integer_of, said, single, truth, union


@function("empty")
def _empty(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return FALSE if items else TRUE


@function("exists", 0, 1)
def _exists(context: Context, items: Items, arguments: Arguments) -> Items:
    return said(bool(_where(context, items, arguments) if arguments else items))


@function("not")
def _not(_context: Context, items: Items, _arguments: Arguments) -> Items:
    found = truth(items)
    return [] if found is None else said(not found)


@function("all", 1)
def _all(context: Context, items: Items, arguments: Arguments) -> Items:
    return said(all(truth(found) is True for found in arguments[0].each(context, items)))


def _truths(items: Items) -> list[bool]:
    if any(item.value.__class__ is not bool for item in items):
        raise ExpressionError("FHIRPath: allTrue(), anyTrue(), allFalse() and anyFalse() take Booleans")
    return [bool(item.value) for item in items]


@function("allTrue")
def _all_true(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return said(all(_truths(items)))


@function("anyTrue")
def _any_true(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return said(any(_truths(items)))


@function("allFalse")
def _all_false(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return said(not any(_truths(items)))


@function("anyFalse")
def _any_false(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return said(not all(_truths(items)))


@function("count")
def _count(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return [computed(len(items), "Integer")]


@function("distinct")
def _distinct(context: Context, items: Items, _arguments: Arguments) -> Items:
    return comparison.distinct(items, context)


@function("isDistinct")
def _is_distinct(context: Context, items: Items, _arguments: Arguments) -> Items:
    return said(len(comparison.distinct(items, context)) == len(items))


def _keys(context: Context, items: Items) -> set[object]:
    context.spend(len(items))
    return {comparison.key(item, context) for item in items}


@function("subsetOf", 1)
def _subset(context: Context, items: Items, arguments: Arguments) -> Items:
    return said(_keys(context, items) <= _keys(context, arguments[0].value(context)))


@function("supersetOf", 1)
def _superset(context: Context, items: Items, arguments: Arguments) -> Items:
    return said(_keys(context, items) >= _keys(context, arguments[0].value(context)))


@function("where", 1)
def _where(context: Context, items: Items, arguments: Arguments) -> Items:
    criteria = arguments[0].each(context, items)
    return [item for item, found in zip(items, criteria, strict=True) if truth(found)]


@function("select", 1)
def _select(context: Context, items: Items, arguments: Arguments) -> Items:
    return [found for each in arguments[0].each(context, items) for found in each]


@function("repeat", 1)
def _repeat(context: Context, items: Items, arguments: Arguments) -> Items:
    """Until nothing new is found. What is equal to an item found before is not new, and is not looked into again."""
    found: list[Item] = []
    seen: set[object] = set()
    waiting = items
    while waiting:
        below = _select(context, waiting, arguments)
        waiting = []
        for item in below:
            key = comparison.key(item, context)
            if key not in seen:
                seen.add(key)
                waiting.append(item)
        found += waiting
    return found


@function("aggregate", 1, 2)
def _aggregate(context: Context, items: Items, arguments: Arguments) -> Items:
    outer = context.total
    context.total = arguments[1].value(context) if len(arguments) > 1 else []
    outer_index = context.index
    for index, item in enumerate(items):
        context.index = [computed(index, "Integer")]
        context.total = arguments[0].on(context, item)
    found = context.total
    context.total, context.index = outer, outer_index
    return found


@function("iif", 2, 3)
def _iif(context: Context, items: Items, arguments: Arguments) -> Items:
    """Its arguments begin at its own input, where it has one, and only the branch that is chosen is looked at."""
    item = single(items, "iif()")
    asked = single(_branch(context, item, arguments[0]), "the condition of iif()")
    if asked is not None and asked.value.__class__ is not bool:
        raise ExpressionError("FHIRPath: the condition of iif() must be a Boolean")
    if asked is not None and asked.value:
        return _branch(context, item, arguments[1])
    return _branch(context, item, arguments[2]) if len(arguments) > 2 else []


def _branch(context: Context, item: Item | None, argument: Argument) -> Items:
    return argument.value(context) if item is None else argument.on(context, item)


@function("single")
def _single(_context: Context, items: Items, _arguments: Arguments) -> Items:
    single(items, "single()")
    return items


@function("first")
def _first(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return items[:1]


@function("last")
def _last(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return items[-1:]


@function("tail")
def _tail(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return items[1:]


@function("skip", 1)
def _skip(context: Context, items: Items, arguments: Arguments) -> Items:
    return items[max(0, integer_of(arguments[0].value(context), "skip()") or 0) :]


@function("take", 1)
def _take(context: Context, items: Items, arguments: Arguments) -> Items:
    return items[: max(0, integer_of(arguments[0].value(context), "take()") or 0)]


@function("intersect", 1)
def _intersect(context: Context, items: Items, arguments: Arguments) -> Items:
    other = _keys(context, arguments[0].value(context))
    return [item for item in comparison.distinct(items, context) if comparison.key(item, context) in other]


@function("exclude", 1)
def _exclude(context: Context, items: Items, arguments: Arguments) -> Items:
    other = _keys(context, arguments[0].value(context))
    context.spend(len(items))
    return [item for item in items if comparison.key(item, context) not in other]


@function("union", 1)
def _union(context: Context, items: Items, arguments: Arguments) -> Items:
    return union(items, arguments[0].value(context), context)


@function("combine", 1, 2)
def _combine(context: Context, items: Items, arguments: Arguments) -> Items:
    other = arguments[0].value(context)
    context.spend(len(items) + len(other))
    return [*items, *other]


@function("coalesce", 1, 16)
def _coalesce(context: Context, _items: Items, arguments: Arguments) -> Items:
    for argument in arguments:
        found = argument.value(context)
        if found:
            return found
    return []


@function("sort", 0, 16)
def _sort(context: Context, items: Items, arguments: Arguments) -> Items:
    """By each argument in turn, downwards where it begins with a minus; what has none of it comes first in both."""
    context.spend(len(items) * 8)
    keys: list[list[Items]] = [[[item]] for item in items]
    if arguments:
        columns = [[_key(found) for found in argument.each(context, items)] for argument in arguments]
        keys = [[column[place] for column in columns] for place in range(len(items))]
    downs = [argument.is_down for argument in arguments] or [False]

    def order(one: int, other: int) -> int:
        return _order(keys[one], keys[other], downs)

    return [items[place] for place in sorted(range(len(items)), key=functools.cmp_to_key(order))]


def _key(items: Items) -> Items:
    single(items, "a key of sort()")
    return items


def _order(left: list[Items], right: list[Items], downs: list[bool]) -> int:
    for first, second, is_down in zip(left, right, downs, strict=True):
        if not first or not second:
            order = len(first) - len(second)
        else:
            order = (comparison.compare(first[0], second[0]) or 0) * (-1 if is_down else 1)
        if order:
            return order
    return 0


@function("children")
def _children(context: Context, items: Items, _arguments: Arguments) -> Items:
    found = [child for item in items for child in children(item)]
    context.spend(len(found) + 1)
    return found


@function("descendants")
def _descendants(context: Context, items: Items, arguments: Arguments) -> Items:
    found: Items = []
    waiting = items
    while waiting:
        waiting = _children(context, waiting, arguments)
        found += waiting
    return found
