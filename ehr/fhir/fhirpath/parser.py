"""The text of an expression → its syntax tree.

In:      FHIRPath text
Out:     Node
Errors:  ExpressionError  not FHIRPath, with the position of what was not expected
         TooMuch          longer or nested deeper than ehr.limits allows
Why:     operator precedence is a table of numbers, read by one loop (a Pratt parser)
Source:  FHIRPath 2.0.0, section 6.8 operator precedence, and its grammar
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ehr import limits
from ehr.errors import TooMuch
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.lexer import Token, tokens

BINARY: Final = {
    "implies": 1,
    "or": 2,
    "xor": 2,
    "and": 3,
    "in": 4,
    "contains": 4,
    "=": 5,
    "~": 5,
    "!=": 5,
    "!~": 5,
    "<": 6,
    ">": 6,
    "<=": 6,
    ">=": 6,
    "|": 7,
    "is": 8,
    "as": 8,
    "+": 9,
    "-": 9,
    "&": 9,
    "*": 10,
    "/": 10,
    "div": 10,
    "mod": 10,
}
_UNARY: Final = 11
_NAMES: Final = ("name", "quoted")
_LITERALS: Final = {"string": "String", "date": "Date", "datetime": "DateTime", "time": "Time"}

CALENDAR: Final = frozenset(
    form
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for form in (unit, f"{unit}s")
)
"""Words that stand after a number as its unit, without quotes."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression.

    kind   what it is                text                    parts
    ────   ──────────                ────                    ─────
    empty  {}
    value  a literal                 its text                type: String, Integer, …; unit of a Quantity in `unit`
    name   a member, or type         its name
    call   a function                its name                arguments
    %      an environment variable   its name
    $      $this, $index, $total     this, index, total
    .      invocation                                        input, what is invoked on it
    [      indexer                                           input, position
    type   is, as                    is, as                  input, type specifier
    1      polarity                  + or -                  operand
    2      an operator               the operator            left, right
    """

    kind: str
    text: str = ""
    parts: tuple["Node", ...] = ()
    type: str = ""
    unit: str = ""
    is_calendar: bool = False
    depth: int = 1
    size: int = 1


def parse(expression: str) -> Node:
    if len(expression) > limits.fhirpath_characters_max:
        raise TooMuch(f"FHIRPath: the expression has over {limits.fhirpath_characters_max} characters")
    parser = _Parser(tokens(expression))
    tree = parser.expression(0)
    parser.expect("end")
    return tree


def _node(kind: str, text: str, *parts: Node) -> Node:
    depth = 1 + max((part.depth for part in parts), default=0)
    if depth > limits.fhirpath_depth_max:
        raise TooMuch(f"FHIRPath: the expression is nested deeper than {limits.fhirpath_depth_max}")
    return Node(kind, text, parts, depth=depth, size=1 + sum(part.size for part in parts))


class _Parser:
    """Reads tokens from left to right; `open` counts the brackets around the place it is at."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.position = 0
        self.open = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.next
        self.position += 1
        return token

    def takes(self, operator: str) -> bool:
        if self.next.kind == "operator" and self.next.text == operator:
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        token = self.next
        if token.kind == "end" == text:
            return
        if token.kind != "operator" or token.text != text:
            raise self.unexpected(token)
        self.position += 1

    def unexpected(self, token: Token) -> ExpressionError:
        shown = "its end" if token.kind == "end" else repr(token.text[:40])
        return ExpressionError(f"FHIRPath: {shown} is not expected at position {token.at + 1}")

    def expression(self, least: int) -> Node:
        """What binds at least as strongly as `least`."""
        self.open += 1
        if self.open > limits.fhirpath_depth_max:
            raise TooMuch(f"FHIRPath: the expression is nested deeper than {limits.fhirpath_depth_max}")
        left = self.operand()
        while (strength := self.strength()) >= max(least, 1):
            operator = self.take().text
            if operator in ("is", "as"):
                left = _node("type", operator, left, self.type_specifier())
            else:
                left = _node("2", operator, left, self.expression(strength + 1))
        self.open -= 1
        return left

    def strength(self) -> int:
        return BINARY.get(self.next.text, 0) if self.next.kind in ("operator", "name") else 0

    def operand(self) -> Node:
        if self.next.kind == "operator" and self.next.text in "+-":
            return _node("1", self.take().text, self.expression(_UNARY))
        return self.invocations(self.term())

    def invocations(self, left: Node) -> Node:
        while True:
            if self.takes("."):
                left = _node(".", "", left, self.invocation())
            elif self.takes("["):
                left = _node("[", "", left, self.expression(0))
                self.expect("]")
            else:
                return left

    def invocation(self) -> Node:
        token = self.take()
        if token.kind == "dollar":
            return self.special(token)
        if token.kind not in _NAMES:
            raise self.unexpected(token)
        if token.kind == "name" and self.takes("("):
            return _node("call", token.text, *self.arguments())
        return _node("name", token.text)

    def arguments(self) -> list[Node]:
        if self.takes(")"):
            return []
        found = [self.expression(0)]
        while self.takes(","):
            found.append(self.expression(0))
        self.expect(")")
        return found

    def term(self) -> Node:
        token = self.next
        if token.kind == "number":
            return self.number()
        if token.kind in _LITERALS or (token.kind == "name" and token.text in ("true", "false")):
            self.position += 1
            return Node("value", token.text, type=_LITERALS.get(token.kind, "Boolean"))
        return self.bracketed() or self.invocation()

    def bracketed(self) -> Node | None:
        """(…), {} and %name; None where none of them begins."""
        if self.takes("("):
            inner = self.expression(0)
            self.expect(")")
            return inner
        if self.takes("{"):
            self.expect("}")
            return Node("empty")
        if self.takes("%"):
            name = self.take()
            if name.kind not in (*_NAMES, "string"):
                raise self.unexpected(name)
            return _node("%", name.text)
        return None

    def number(self) -> Node:
        token = self.take()
        unit = self.next
        if unit.kind == "string" or (unit.kind == "name" and unit.text in CALENDAR):
            self.position += 1
            return Node("value", token.text, type="Quantity", unit=unit.text, is_calendar=unit.kind == "name")
        return Node("value", token.text, type="Decimal" if "." in token.text else _integer(token))

    def special(self, token: Token) -> Node:
        if token.text not in ("$this", "$index", "$total"):
            raise self.unexpected(token)
        return _node("$", token.text[1:])

    def type_specifier(self) -> Node:
        token = self.take()
        if token.kind not in _NAMES:
            raise self.unexpected(token)
        name = _node("name", token.text)
        if self.takes("."):
            token = self.take()
            if token.kind not in _NAMES:
                raise self.unexpected(token)
            return _node(".", "", name, _node("name", token.text))
        return name


def _integer(token: Token) -> str:
    if Decimal(token.text) > 2**31 - 1:
        raise ExpressionError(f"FHIRPath: the integer at position {token.at + 1} has more than 32 bits")
    return "Integer"
