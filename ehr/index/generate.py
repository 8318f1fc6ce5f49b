"""Search parameters of one type → the source of a straight-line Python function that extracts them all.

In:      type name; constants (salts of references) from a Hasher
Out:     source of  extract(tree, hashes, strings, dates, numbers) -> (lo, hi) of the main date parameter; its globals
         are those of Leaves.namespace
Why:     each member is looked up once, whatever the number of parameters that read it: about 40 times faster than
         evaluating FHIRPath expressions one by one
Not in:  _id and _lastUpdated (columns), parameters that a union of others answers (but for their presence)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ehr.fhir import parameters
from ehr.fhir.parameters import ElementPath, Parameter, Parameters, Step
from ehr.index.hashing import Hasher
from ehr.index.main_date import main_date
from ehr.index.outline import stated
from ehr.index.references import Asked

NO_TEXT = frozenset({"_profile", "_source"})
"""uri parameters of every resource, without :below: their texts would be a row for each resource."""

TOKEN_CALLS = {
    "Identifier": "identifier",
    "ContactPoint": "contact_point",
    "boolean": "boolean",
    "Deceased": "deceased",
}
STRING_CALLS = {"HumanName": "human_name", "Address": "address"}
DATE_CALLS = {"Period": "period", "Timing": "timing"}
QUANTITY_CALLS = {"Money": "money", "Range": "range"}
OWN_CALLS = {
    "Phonetic": "phonetic(update, {value}, {number})",
    "Narrative": "narrative(update, {value}, {number})",
    "Position": "position(numbers, {value}, {number})",
}
"""Paths under types of our own (ehr.fhir.r4.compile_search), whatever the kind of parameter."""


@dataclass
class Node:
    """One member of the tree of paths: what ends here, and what goes on below."""

    leaves: list[tuple[Parameter, ElementPath]] = field(default_factory=list)
    pairs: list[Parameter] = field(default_factory=list)
    below: dict[Step, "Node"] = field(default_factory=dict)

    def reach(self, steps: tuple[Step, ...]) -> "Node":
        node = self
        for step in steps:
            node = node.below.setdefault(step, Node())
        return node


def source(type_name: str, hasher: Hasher, known: Parameters = parameters.R4) -> str:
    root = Node()
    bits = {}
    for number, parameter in enumerate(stated(known, type_name)):
        bits[parameter.id] = 1 << number
        if parameter.kind == "composite":
            if parameter.is_paired or parameter.is_spanned:
                root.reach(parameter.bases[0]).pairs.append(parameter)
            continue
        for path in parameter.paths:
            if not parameter.union or path.only:
                root.reach(path.steps).leaves.append((parameter, path))
    writer = _Writer(hasher, main_date(type_name), bits)
    body = list(writer.node(root, "tree", 1))
    head = ["def extract(tree, hashes, strings, dates, numbers):", "    update = hashes.extend"]
    first = ["    lo = hi = None", "    have = 0"]
    last = ["    if have:", "        hashes.append(outline(have))", "    return lo, hi", ""]
    return "\n".join([*head, *first, *body, *last])


class _Writer:
    def __init__(self, hasher: Hasher, main: str | None, bits: Mapping[int, int]) -> None:
        self._hasher = hasher
        self._main = main
        self._bits = bits
        self._count = 0

    def node(self, node: Node, variable: str, depth: int) -> Iterator[str]:
        """Everything read from the object or value in a variable."""
        references = [leaf for leaf in node.leaves if leaf[0].kind == "reference" and leaf[1].type == "Reference"]
        yield from self._references(references, variable, depth)
        for parameter, path in node.leaves:
            if (parameter, path) not in references:
                yield from self._leaf(parameter, path, variable, depth)
        for parameter in node.pairs:
            yield from (self._spans if parameter.is_spanned else self._pairs)(parameter, variable, depth)
        if not node.below:
            return
        pad = "    " * depth
        if depth > 1:
            yield f"{pad}if {variable}.__class__ is dict:"
            depth, pad = depth + 1, pad + "    "
        for step, below in node.below.items():
            yield from self._step(step, below, variable, depth)

    def _step(self, step: Step, below: Node, variable: str, depth: int) -> Iterator[str]:
        pad, value = "    " * depth, self._fresh()
        there = f"{pad}if {step.name!r} in {variable} and ({value} := {variable}[{step.name!r}])"
        if step.many or step.first:
            yield f"{there}.__class__ is list:"
            item = self._fresh()
            yield f"{pad}    for {item} in {value}{'[:1]' if step.first else ''}:"
            value, depth = item, depth + 2
        else:
            yield f"{there} is not None:"
            depth += 1
        if step.where:
            key, wanted = step.where
            pad = "    " * depth
            yield f"{pad}if {value}.__class__ is dict and {value}.get({key!r}) == {wanted!r}:"
            depth += 1
        yield from self.node(below, value, depth)

    def _references(self, leaves: list[tuple[Parameter, ElementPath]], value: str, depth: int) -> Iterator[str]:
        """All parameters that read one reference; what a local one names has mostly been met."""
        if not leaves:
            return
        pad = "    " * depth
        asked = [self._asked(parameter, path) for parameter, path in leaves]
        usual = f"{value}.__class__ is dict and 'identifier' not in {value}"
        yield f"{pad}literal = {value}.get('reference') if {usual} else None"
        yield f"{pad}target = targets.get(literal) if literal.__class__ is str else None"
        yield f"{pad}if target is None:"
        yield f"{pad}    have |= references.read(hashes, {value}, {tuple(asked)})"
        yield f"{pad}else:"
        for bit, only, number, mixed in asked:
            inner = pad + "    "
            if only is not None:
                yield f"{inner}if literal.startswith({only + '/'!r}):"
                inner += "    "
            yield f"{inner}have |= {bit}"
            if number:
                yield f"{inner}hashes.append(target ^ {mixed})"

    def _asked(self, parameter: Parameter, path: ElementPath) -> Asked:
        mixed = self._hasher.mixed(parameter.id, parameter.slot)
        return self._bits[parameter.id], path.only, 0 if parameter.union else parameter.id, mixed

    def _leaf(self, parameter: Parameter, path: ElementPath, value: str, depth: int) -> Iterator[str]:
        pad = "    " * depth
        if path.only:
            yield f"{pad}if references.points_to({value}, {path.only!r}):"
            pad += "    "
        yield f"{pad}have |= {self._bits[parameter.id]}"
        if not parameter.union:
            yield from (pad + line for line in self._call(parameter, path.type, value))

    def _call(self, parameter: Parameter, type_name: str, value: str) -> Iterator[str]:
        number = parameter.id
        if type_name in OWN_CALLS:
            yield "leaves." + OWN_CALLS[type_name].format(value=value, number=number)
            return
        match parameter.kind:
            case "token" if type_name in {"CodeableConcept", "Coding"}:
                yield from self._codings(type_name, value, number)
            case "token" if type_name in TOKEN_CALLS:
                yield f"leaves.{TOKEN_CALLS[type_name]}(update, {value}, {number})"
            case "token":
                yield "try:"
                yield f"    hashes += known[{number}, None, {value}, 0]"
                yield "except (KeyError, TypeError):"
                yield f"    leaves.code(update, {value}, {number})"
            case "reference" if type_name == "Resource":
                yield f"references.resource(hashes, {value}, {self._hasher.mixed(number, parameter.slot)})"
            case "uri" if parameter.code not in NO_TEXT:
                yield f"leaves.uri(update, strings, {value}, {number})"
            case "reference" | "uri":
                leaf = "profile" if parameter.code == "_profile" else "canonical"
                yield f"leaves.{leaf}(update, {value}, {number})"
            case "string":
                yield f"leaves.{STRING_CALLS.get(type_name, 'string')}(update, strings, {value}, {number})"
            case "date" if type_name not in DATE_CALLS:
                yield f"found = date_range({value}) if {value}.__class__ is str else None"
                yield from self._found(parameter)
            case "date":
                yield f"found = leaves.{DATE_CALLS.get(type_name, 'date')}({value})"
                yield from self._found(parameter)
            case "number":
                yield f"leaves.number(numbers, {value}, {number})"
            case "quantity":
                yield f"leaves.{QUANTITY_CALLS.get(type_name, 'quantity')}(numbers, {value}, {number})"

    def _codings(self, type_name: str, value: str, number: int) -> Iterator[str]:
        """Without a call where the hashes are known; what was added before something that is not, is added twice."""
        yield "try:"
        if type_name == "CodeableConcept":
            yield f"    for coding in {value}['coding'] if 'coding' in {value} else ():"
            yield f"        hashes += known[{_coding_key(number, 'coding')}]"
            yield f"    if 'text' in {value}:"
            yield f"        hashes += known[{number}, None, None, {value}['text']]"
        else:
            yield f"    hashes += known[{_coding_key(number, value)}]"
        yield "except (AttributeError, KeyError, TypeError):"
        yield f"    leaves.{'concept' if type_name == 'CodeableConcept' else 'coding'}(update, {value}, {number})"

    def _found(self, parameter: Parameter) -> Iterator[str]:
        yield "if found is not None:"
        if parameter.code == self._main:
            yield "    lo, hi = found"
        else:
            yield f"    dates.add(({parameter.id}, *found))"

    def _pairs(self, parameter: Parameter, base: str, depth: int) -> Iterator[str]:
        pad, number = "    " * depth, parameter.id
        first, second = parameter.components
        yield f"{pad}if {base}.__class__ is dict:"
        pad += "    "
        yield f"{pad}firsts = {_forms(first.paths, base)}"
        if second.kind == "quantity":
            yield f"{pad}rows = set()"
            for path in second.paths:
                call = QUANTITY_CALLS.get(path.type, "quantity")
                yield f"{pad}leaves.{call}(rows, {base}.get({path.steps[0].name!r}), 0)"
            yield f"{pad}if firsts and rows:"
            yield f"{pad}    have |= {self._bits[number]}"
            yield f"{pad}    leaves.measured(numbers, firsts, rows, {number})"
        else:
            yield f"{pad}seconds = {_forms(second.paths, base)}"
            yield f"{pad}if firsts and seconds:"
            yield f"{pad}    have |= {self._bits[number]}"
            yield f"{pad}    leaves.pairs(update, firsts, seconds, {number})"

    def _spans(self, parameter: Parameter, base: str, depth: int) -> Iterator[str]:
        pad, number = "    " * depth, parameter.id
        (token,), (first,), (last,) = (part.paths for part in parameter.components)
        value = "tree" + "".join(f"[{step.name!r}]" for step in token.steps)
        start, end = (f"{base}.get({path.steps[0].name!r})" for path in (first, last))
        yield f"{pad}try:"
        yield f"{pad}    firsts = leaves.forms({value}, {token.type!r})"
        yield f"{pad}    if leaves.spanned(numbers, firsts, {start}, {end}, {number}):"
        yield f"{pad}        have |= {self._bits[number]}"
        yield f"{pad}except (AttributeError, KeyError, TypeError):"
        yield f"{pad}    pass"

    def _fresh(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _coding_key(number: int, coding: str) -> str:
    return f"{number}, {coding}.get('system'), {coding}.get('code'), {coding}.get('display')"


def _forms(paths: tuple[ElementPath, ...], base: str) -> str:
    assert all(len(path.steps) == 1 and not path.steps[0].many for path in paths), paths
    calls = [f"leaves.forms({base}.get({path.steps[0].name!r}), {path.type!r})" for path in paths]
    return " + ".join(calls) if calls else "[]"
