"""An invariant → a quick answer read from the JSON itself, wherever it can be given.

In:      syntax tree of the invariant, type of the object it is of
Out:     Shortcut: object, resource around it → True, False, None for empty, or UNKNOWN: then FHIRPath has to be asked
Why:     most invariants ask whether elements are there, and which code one of them has. That takes a microsecond in
         Python, and thirty by way of Items. What is not understood is UNKNOWN where it is reached, so that
         `value.empty() or …` is quick for all that have no value. A test changes objects at random and demands that
         no shortcut says other than FHIRPath
Source:  FHIRPath 2.0.0, as ehr.fhir.fhirpath has it
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

from ehr.fhir.fhirpath.parser import Node
from ehr.fhir.invariant_paths import Answer, Path, Shortcut, Tree, Values, members, path_of
from ehr.fhir.structure import PRIMITIVES

UNKNOWN: Final = object()


def shortcut(node: Node, kind: str) -> Shortcut:
    """Quick answer of a condition on an object of this type."""
    if node.kind == "2":
        return _operator(node, kind)
    if node.kind == ".":
        found = _function(node.parts[0], node.parts[1], kind)
        if found is not None:
            return found
    if node.kind == "value" and node.type == "Boolean":
        truth = node.text == "true"
        return lambda _tree, _root: truth
    path = path_of(node, kind)
    if path is not None and path.type == "boolean":
        return _boolean(path.values)
    return _unknown


def shortcut_at(names: Sequence[str], node: Node, kind: str) -> Shortcut:
    """Quick answer of a condition on every element of an object at these names; on the object itself where there are
    none."""
    if not names:
        return shortcut(node, kind)
    return _all(members(names, kind), node) or _unknown


def _unknown(_tree: Tree, _root: Tree) -> Answer:
    return UNKNOWN


def _boolean(values: Values) -> Shortcut:
    def boolean(tree: Tree, root: Tree) -> Answer:
        found = values(tree, root)
        if not found:
            return None
        return found[0] if len(found) == 1 and found[0].__class__ is bool else UNKNOWN

    return boolean


def _operator(node: Node, kind: str) -> Shortcut:
    left, right = node.parts
    if node.text in _LOGIC:
        return _LOGIC[node.text](shortcut(left, kind), shortcut(right, kind))
    if node.text in ("=", "!=") and _is_condition(left) and _is_condition(right):
        return _same(shortcut(left, kind), shortcut(right, kind), is_equal=node.text == "=")
    texts = _texts(right)
    if texts and (node.text == "in" or (node.text in ("=", "!=") and len(texts) == 1)):
        return _one_of(path_of(left, kind), texts, is_equal=node.text != "!=")
    if node.text in _ORDERS:
        return _order(_ORDERS[node.text], _number(left, kind), _number(right, kind))
    return _unknown


def _and(left: Shortcut, right: Shortcut) -> Shortcut:
    def both(tree: Tree, root: Tree) -> Answer:
        first = left(tree, root)
        if first is False:
            return False
        second = right(tree, root)
        if second is False:
            return False
        if first is UNKNOWN or second is UNKNOWN:
            return UNKNOWN
        return None if first is None or second is None else True

    return both


def _or(left: Shortcut, right: Shortcut) -> Shortcut:
    def either(tree: Tree, root: Tree) -> Answer:
        first = left(tree, root)
        if first is True:
            return True
        second = right(tree, root)
        if second is True:
            return True
        if first is UNKNOWN or second is UNKNOWN:
            return UNKNOWN
        return None if first is None or second is None else False

    return either


def _implies(left: Shortcut, right: Shortcut) -> Shortcut:
    return _or(_not(left), right)


def _xor(left: Shortcut, right: Shortcut) -> Shortcut:
    return _same(left, right, is_equal=False)


_LOGIC: Final = {"and": _and, "or": _or, "implies": _implies, "xor": _xor}
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


def _not(condition: Shortcut) -> Shortcut:
    def negated(tree: Tree, root: Tree) -> Answer:
        found = condition(tree, root)
        return found if found is None or found is UNKNOWN else not found

    return negated


def _same(left: Shortcut, right: Shortcut, *, is_equal: bool) -> Shortcut:
    """Two conditions: `=`, or `!=` and xor."""

    def same(tree: Tree, root: Tree) -> Answer:
        first, second = left(tree, root), right(tree, root)
        if first is UNKNOWN or second is UNKNOWN:
            return UNKNOWN
        return None if first is None or second is None else (first is second) is is_equal

    return same


def _is_condition(node: Node) -> bool:
    """Whether what a node gives is a Boolean, or nothing."""
    if node.kind == "2":
        return node.text in ("and", "or", "xor", "implies", "=", "!=", "in")
    if node.kind == ".":
        return node.parts[1].kind == "call" and node.parts[1].text in ("exists", "empty", "not", "all", "hasValue")
    return node.kind == "value" and node.type == "Boolean"


def _texts(node: Node) -> frozenset[Any] | None:
    """The texts or truths of `'a'`, or `'a' | 'b'`."""
    if node.kind == "value" and node.type in ("String", "Boolean"):
        return frozenset({node.text == "true" if node.type == "Boolean" else node.text})
    if node.kind == "2" and node.text == "|":
        left, right = (_texts(part) for part in node.parts)
        return left | right if left and right else None
    return None


def _one_of(path: Path | None, wanted: frozenset[Any], *, is_equal: bool) -> Shortcut:
    is_boolean = bool in {value.__class__ for value in wanted}
    if path is None or path.type not in (_BOOLEANS if is_boolean else _TEXTS):
        return _unknown
    values = path.values

    def one_of(tree: Tree, root: Tree) -> Answer:
        found = values(tree, root)
        if len(found) == 1 and found[0] is not None:
            return (found[0] in wanted) is is_equal
        return UNKNOWN if found else None

    return one_of


_BOOLEANS: Final = frozenset({"boolean"})
_TEXTS: Final = frozenset({"code", "string", "uri", "id", "canonical", "url", "markdown"})


def _order(holds: Callable[[Any, Any], bool], left: Shortcut | None, right: Shortcut | None) -> Shortcut:
    if left is None or right is None:
        return _unknown

    def ordered(tree: Tree, root: Tree) -> Answer:
        first, second = left(tree, root), right(tree, root)
        if first is UNKNOWN or second is UNKNOWN:
            return UNKNOWN
        return None if first is None or second is None else holds(first, second)

    return ordered


def _number(node: Node, kind: str) -> Shortcut | None:
    """Integers, counts, sums of them, and elements that are numbers; None for anything else."""
    if node.kind == "value" and node.type == "Integer":
        number = int(node.text)
        return lambda _tree, _root: number
    if node.kind == "2" and node.text == "+":
        left, right = (_number(part, kind) for part in node.parts)
        return None if left is None or right is None else lambda tree, root: left(tree, root) + right(tree, root)
    if node.kind == "." and (node.parts[1].kind, node.parts[1].text) == ("call", "count"):
        return _count(path_of(node.parts[0], kind))
    path = path_of(node, kind)
    if path is None or path.type not in ("integer", "decimal", "positiveInt", "unsignedInt"):
        return None
    return _single(path.values)


def _count(path: Path | None) -> Shortcut | None:
    if path is None:
        return None
    values = path.values
    return lambda tree, root: len(values(tree, root))


def _single(values: Values) -> Shortcut:
    def single(tree: Tree, root: Tree) -> Answer:
        found = values(tree, root)
        return found[0] if len(found) == 1 and found[0] is not None else UNKNOWN if found else None

    return single


def _function(before: Node, call: Node, kind: str) -> Shortcut | None:
    """before.call(…) where it is a condition."""
    if call.kind != "call":
        return None
    match call.text, len(call.parts):
        case "not", 0:
            return _not(shortcut(before, kind))
        case (("exists" | "empty"), _):
            there = _exists(before, call.parts, kind)
            return there if there is None or call.text == "exists" else _not(there)
        case "all", 1:
            return _all(path_of(before, kind), call.parts[0])
        case "hasValue", 0:
            return _has_value(path_of(before, kind))
        case _:
            return None


def _exists(before: Node, criteria: tuple[Node, ...], kind: str) -> Shortcut | None:
    """exists(…), where(…).exists() and path.exists()."""
    if criteria:
        return _any(path_of(before, kind), criteria[0])
    if before.kind == "." and before.parts[1].kind == "call" and before.parts[1].text == "where":
        return _any(path_of(before.parts[0], kind), before.parts[1].parts[0])
    if before.kind == "call" and before.text == "where":
        return _is_true(shortcut(before.parts[0], kind))
    path = path_of(before, kind)
    return None if path is None else path.exists


def _is_true(condition: Shortcut) -> Shortcut:
    """Whether where() lets the object itself pass."""

    def is_true(tree: Tree, root: Tree) -> Answer:
        answer = condition(tree, root)
        return answer if answer is UNKNOWN else answer is True

    return is_true


def _has_value(path: Path | None) -> Shortcut | None:
    if path is None or path.type not in PRIMITIVES:
        return None
    values = path.values

    def has_value(tree: Tree, root: Tree) -> Answer:
        found = values(tree, root)
        return len(found) == 1 and found[0] is not None

    return has_value


def _any(path: Path | None, criterion: Node) -> Shortcut | None:
    """Whether there is one that meets the criterion."""
    if path is None or path.type is None or path.type in PRIMITIVES:
        return None
    values, condition = path.values, shortcut(criterion, path.type)

    def some(tree: Tree, root: Tree) -> Answer:
        answers = [condition(below, root) for below in values(tree, root)]
        return True if True in answers else UNKNOWN if UNKNOWN in answers else False

    return some


def _all(path: Path | None, criterion: Node) -> Shortcut | None:
    if path is None or path.type is None or path.type in PRIMITIVES:
        return None
    values, condition = path.values, shortcut(criterion, path.type)

    def every(tree: Tree, root: Tree) -> Answer:
        answers = [condition(below, root) for below in values(tree, root)]
        if False in answers or None in answers:
            return False
        return UNKNOWN if UNKNOWN in answers else True

    return every
