"""A syntax tree → Python closures, each of which takes a context and its input, and gives its output.

In:      Node; names of the caller's own functions
Out:     Code
Errors:  ExpressionError  an unknown function, or a wrong number of arguments
Why:     the tree is looked at once. Each closure does only what its part of the expression needs, so that an
         invariant takes a few microseconds; calling them is a tenth of the cost of walking the tree each time
Source:  FHIRPath 2.0.0 sections 4 expressions, 5 functions
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from ehr.fhir.fhirpath import operators, quantities
from ehr.fhir.fhirpath.context import Code, Context, Items
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import Item, computed, members
from ehr.fhir.fhirpath.parser import Node
from ehr.fhir.fhirpath.type_names import is_exactly, is_of, lineage, specified


class Argument:
    """An argument of a function: its code, and what it costs to run it once.

    is_down  a key of sort() that began with a minus, which is no sign there: texts are sorted downwards too
    """

    __slots__ = ("code", "is_down", "size")

    def __init__(self, node: Node, code: Code, *, is_down: bool = False) -> None:
        self.code = code
        self.size = node.size
        self.is_down = is_down

    def value(self, context: Context) -> Items:
        """Of an argument that is a value: it begins at $this, not at the input of the function."""
        return self.code(context, context.this)

    def on(self, context: Context, item: Item) -> Items:
        """Of an argument that is an expression, with an item as $this; $index stays."""
        outer = context.this
        context.spend(self.size)
        context.this = [item]
        found = self.code(context, context.this)
        context.this = outer
        return found

    def each(self, context: Context, items: Items) -> "list[Items]":
        """Of an argument that is an expression: what it gives for each item, as $this."""
        outer, outer_index = context.this, context.index
        context.spend(self.size * len(items))
        found: list[Items] = []
        for index, item in enumerate(items):
            context.this = [item]
            context.index = [computed(index, "Integer")]
            found.append(self.code(context, context.this))
        context.this, context.index = outer, outer_index
        return found


Arguments = Sequence[Argument]
Builder = Callable[[Context, Items, Arguments], Items]
"""A function: its context, its input and its arguments → its output."""

FUNCTIONS: Final[dict[str, tuple[Builder, int, int]]] = {}
"""Name → what it does, and the fewest and most arguments it takes. Filled by the modules of functions."""


def function(name: str, least: int = 0, most: int | None = None) -> Callable[[Builder], Builder]:
    """Register a function of FHIRPath."""

    def register(builder: Builder) -> Builder:
        assert name not in FUNCTIONS, name
        FUNCTIONS[name] = (builder, least, least if most is None else most)
        return builder

    return register


def compiled(node: Node, own: frozenset[str], *, is_first: bool = True) -> Code:
    """Code of a node. is_first: nothing stands before it, so that a name may be the type of the input."""
    if node.kind == "name":
        return _first_name(node.text) if is_first else _member(node.text)
    return _COMPILERS[node.kind](node, own)


def _binary(node: Node, own: frozenset[str]) -> Code:
    left, right = (compiled(part, own) for part in node.parts)
    return operators.binary(node.text, left, right)


def literal(node: Node) -> Item:
    match node.type:
        case "Integer":
            return computed(int(node.text), "Integer")
        case "Decimal":
            return computed(Decimal(node.text), "Decimal")
        case "Boolean":
            return computed(node.text == "true", "Boolean")
        case "Quantity":
            unit = node.unit.removesuffix("s") if node.is_calendar else node.unit
            amount = quantities.Amount(Decimal(node.text), unit, node.is_calendar)
            return computed(quantities.tree_of(amount), "Quantity")
        case "DateTime":
            return computed(node.text.removesuffix("T"), "DateTime")
        case kind:
            return computed(node.text, kind)


def _constant(value: Items) -> Code:
    return lambda _context, _items: value


def _special(name: str) -> Code:
    match name:
        case "this":
            return lambda context, _items: context.this
        case "index":
            return lambda context, _items: context.index
        case _:
            return lambda context, _items: context.total


def _chained(node: Node, own: frozenset[str]) -> Code:
    first, then = compiled(node.parts[0], own), compiled(node.parts[1], own, is_first=False)
    if _is_fixed(node):
        return _once(first, then)
    return lambda context, items: then(context, first(context, items))


def _is_fixed(node: Node) -> bool:
    """Elements of a variable: %resource.snapshot.element is the same for every item that asks for it."""
    if node.kind == ".":
        return _is_fixed(node.parts[0]) and node.parts[1].kind == "name"
    return node.kind == "%"


def _once(first: Code, then: Code) -> Code:
    """Evaluated once in an evaluation: an invariant that compares each element with the first would take its square."""
    key = object()

    def once(context: Context, items: Items) -> Items:
        if key not in context.kept:
            context.kept[key] = then(context, first(context, items))
        return context.kept[key]

    return once


def _member(name: str) -> Code:
    def step(context: Context, items: Items) -> Items:
        found: Items = []
        for item in items:
            below = members(item, name)
            if below:
                found += below
            elif below is None and context.environment.is_strict:
                raise ExpressionError(f"FHIRPath: {item.type} has no element {name[:64]}")
        context.spend(len(found) + 1)
        return found

    return step


def _first_name(name: str) -> Code:
    step = _member(name)
    if not name[:1].isupper():
        return step

    def type_or_member(context: Context, items: Items) -> Items:
        if len(items) == 1 and items[0].type and name in lineage(items[0].type):
            return items
        return step(context, items)

    return type_or_member


def _indexed(node: Node, own: frozenset[str]) -> Code:
    code, position = compiled(node.parts[0], own), Argument(node.parts[1], compiled(node.parts[1], own))

    def index(context: Context, items: Items) -> Items:
        found = code(context, items)
        at = operators.integer_of(position.value(context), "an index")
        return found[at : at + 1] if at is not None and at >= 0 else []

    return index


def _typed(node: Node, own: frozenset[str]) -> Code:
    code, wanted = compiled(node.parts[0], own), specified(node.parts[1])
    test = type_test if node.text == "is" else type_cast
    return lambda context, items: test(code(context, items), wanted)


def type_test(items: Items, wanted: str) -> Items:
    item = operators.single(items, "is")
    return [] if item is None else [computed(is_of(item, wanted), "Boolean")]


def type_cast(items: Items, wanted: str) -> Items:
    item = operators.single(items, "as")
    return [] if item is None or not is_exactly(item, wanted) else [item]


def _call(node: Node, own: frozenset[str]) -> Code:
    name = node.text
    if name in ("is", "as", "ofType") and len(node.parts) == 1:
        return _type_function(name, specified(node.parts[0]))
    arguments = [_argument(part, own, is_key=name == "sort") for part in node.parts]
    if name in own:
        return _own(name, arguments)
    if name not in FUNCTIONS:
        raise ExpressionError(f"FHIRPath: there is no function {name[:64]}()")
    builder, least, most = FUNCTIONS[name]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ExpressionError(f"FHIRPath: {name}() takes {wanted} arguments, not {len(arguments)}")
    return lambda context, items: builder(context, items, arguments)


def _argument(node: Node, own: frozenset[str], *, is_key: bool) -> Argument:
    if is_key and (node.kind, node.text) == ("1", "-"):
        return Argument(node, compiled(node.parts[0], own), is_down=True)
    return Argument(node, compiled(node, own))


def _type_function(name: str, wanted: str) -> Code:
    match name:
        case "is":
            return lambda _context, items: type_test(items, wanted)
        case "as":
            return lambda _context, items: type_cast(items, wanted)
        case _:
            return lambda _context, items: [item for item in items if is_exactly(item, wanted)]


def _own(name: str, arguments: Sequence[Argument]) -> Code:
    def call(context: Context, items: Items) -> Items:
        found = context.environment.functions.get(name)
        if found is None:
            raise ExpressionError(f"FHIRPath: {name}() is not available here")
        return list(found(items, [argument.value(context) for argument in arguments]))

    return call


_COMPILERS: Final[dict[str, Callable[[Node, frozenset[str]], Code]]] = {
    "empty": lambda _node, _own: _constant([]),
    "value": lambda node, _own: _constant([literal(node)]),
    "call": _call,
    "%": lambda node, _own: operators.variable(node.text),
    "$": lambda node, _own: _special(node.text),
    ".": _chained,
    "[": _indexed,
    "type": _typed,
    "1": lambda node, own: operators.polarity(node.text, compiled(node.parts[0], own)),
    "2": _binary,
}
"""Kind of node → how it is compiled."""
