"""_filter=… → one condition.

Grammar  filter   test, not (filter), (filter); joined by "and" and "or" from left to right, neither before the other
         test     path operator value
         path     a parameter; reference.path; reference[filter].path; _has:Type:reference:path
         value    a JSON string, or anything without blanks, ")" and "]"
Means    each operator is said by what search says already: eq by the prefix or the plain value, co by :contains, ss by
         :below (the value subsumes the resource's concept), in by :in, pr by :missing, re by the reference
Errors:  BadSearch      what is not in the grammar, with the place
         NotSupported   an operator that means nothing for the parameter; ne where an element repeats, because the index
                        cannot see that another entry differs; parameters that are not served
         TooMuch        deeper than DEPTH_MAX, more tests than limits.search_values_max
Source:  FHIR R4 3.1.3 _filter
"""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ehr import limits
from ehr.errors import BadSearch, NotSupported, TooMuch
from ehr.fhir.parameters import Parameter, Parameters
from ehr.search import conditions
from ehr.search.terms import AllOf, AnyOf, Condition, Not

DEPTH_MAX: Final = 16
_TOKEN: Final = re.compile(r'\s*(?P<token>[()\[\]]|"(?:[^"\\]|\\.)*"|[^\s()\[\]"][^\s)\]\[(]*)')
_PATH: Final = re.compile(r"_has:[A-Za-z]+:[A-Za-z_][\w\-]*:[A-Za-z_][\w\-.:]*|[A-Za-z_][\w\-]*(?::[A-Z][A-Za-z]*)?")
_ORDERED: Final = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})
_MODIFIERS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "string": {"eq": "same", "co": "contains", "sw": "", "ew": "ends"},
        "token": {"eq": "", "in": "in", "ni": "not-in", "ss": "below", "sb": "above"},
        "uri": {"eq": "", "sw": "", "ss": "below", "sb": "above"},
        "reference": {"eq": "", "re": ""},
        "special": {"eq": ""},
        "composite": {"eq": ""},
    }
)
"""Kind of parameter → operator → the modifier that says the same."""


def filtered(table: Parameters, type_name: str, text: str, at: str) -> Condition:
    reader = _Reader(table, text, at)
    found = reader.either(type_name)
    reader.end()
    return found


class _Reader:
    def __init__(self, table: Parameters, text: str, at: str) -> None:
        self._table, self._at = table, at
        self._tokens: list[tuple[str, int]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None:
                raise BadSearch(f"cannot be read from character {position + 1} on", at=at)
            self._tokens.append((found["token"], found.start("token") + 1))
            position = found.end()
        if len(self._tokens) > 4 * limits.search_values_max:
            raise TooMuch(f"more than {limits.search_values_max} tests", at=at)
        self._place = self._depth = 0

    def end(self) -> None:
        if self._place < len(self._tokens):
            raise self._wrong("the end, and, or")

    def _wrong(self, expected: str) -> BadSearch:
        if self._place >= len(self._tokens):
            return BadSearch(f"ends where {expected} is expected", at=self._at)
        return BadSearch(f"at character {self._tokens[self._place][1]}: expected {expected}", at=self._at)

    def _peek(self) -> str:
        return self._tokens[self._place][0] if self._place < len(self._tokens) else ""

    def _take(self, expected: str) -> str:
        if not self._peek():
            raise self._wrong(expected)
        self._place += 1
        return self._tokens[self._place - 1][0]

    def either(self, type_name: str) -> Condition:
        """Tests joined from left to right."""
        found = self._one(type_name)
        while (joined := self._peek()) in {"and", "or"}:
            self._place += 1
            other = self._one(type_name)
            found = AllOf((found, other)) if joined == "and" else AnyOf((found, other))
        return found

    def _one(self, type_name: str) -> Condition:
        if self._peek() == "not":
            self._place += 1
            return Not(self._within(type_name, "(", ")"))
        if self._peek() == "(":
            return self._within(type_name, "(", ")")
        return self._path(type_name, self._take("a path"))

    def _within(self, type_name: str, opening: str, closing: str) -> Condition:
        if self._peek() != opening:
            raise self._wrong(opening)
        self._place += 1
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise TooMuch(f"deeper than {DEPTH_MAX} parentheses", at=self._at)
        found = self.either(type_name)
        if self._peek() != closing:
            raise self._wrong(closing)
        self._place += 1
        self._depth -= 1
        return found

    def _path(self, type_name: str, path: str, depth: int = 0) -> Condition:
        """A test, told of the type where its path ends."""
        if depth > limits.search_chain_max:
            raise TooMuch(f"more than {limits.search_chain_max} links in a chain", at=self._at)
        if path.startswith("_has:") and _PATH.fullmatch(path):
            _, source, code, inner = path.split(":", 3)
            own = self._place

            def link(of: str) -> Condition:
                self._place = own
                return self._path(of, inner, depth + 1)

            return conditions.has(self._table, type_name, (source, code), self._at, link)
        name, dot, rest = path.partition(".")
        if _PATH.fullmatch(name) is None:
            self._place -= 1
            raise self._wrong("a path")
        code, _, target = name.partition(":")
        if not dot and self._peek() != "[":
            if target:
                raise BadSearch(f"{name} is followed by a path of the other resource", at=self._at)
            return self._test(conditions.known(self._table, type_name, code, self._at), type_name)
        return self._chain(type_name, code, target, rest, depth)

    def _chain(self, type_name: str, code: str, target: str, rest: str, depth: int) -> Condition:
        """The rest is read once for each type at the other end: those that know its parameters all end at one place."""
        parameter = conditions.known(self._table, type_name, code, self._at)
        begun, deep, ended = self._place, self._depth, self._place

        def link(name: str) -> Condition:
            nonlocal ended
            self._place, self._depth = begun, deep
            path, inner = rest, []
            if not rest:
                inner.append(self._within(name, "[", "]"))
                path = self._take("a path after the brackets").removeprefix(".")
            inner.append(self._path(name, path, depth + 1))
            ended = self._place
            return inner[0] if len(inner) == 1 else AllOf(tuple(inner))

        found = conditions.chain(type_name, parameter, target, self._at, link)
        self._place, self._depth = ended, deep
        return found

    def _test(self, parameter: Parameter, type_name: str) -> Condition:
        operator, value = self._take("an operator"), self._value()
        code = parameter.code
        if operator == "pr":
            if value not in {"true", "false"}:
                raise BadSearch("pr is followed by true or false", at=self._at)
            return self._asked(type_name, f"{code}:missing", "false" if value == "true" else "true")
        if parameter.kind in {"date", "number", "quantity"} and operator in _ORDERED:
            return self._asked(type_name, code, operator + _escaped(value, parameter))
        if parameter.kind == "date" and operator == "po":
            return self._asked(type_name, code, operator + _escaped(value, parameter))
        if operator == "ne":
            return self._unequal(parameter, type_name, value)
        modifier = _MODIFIERS.get(parameter.kind, {}).get(operator)
        if modifier is None:
            raise NotSupported(f"the operator {operator[:8]} is not served for {code}", at=self._at)
        return self._asked(type_name, f"{code}:{modifier}" if modifier else code, _escaped(value, parameter))

    def _unequal(self, parameter: Parameter, type_name: str, value: str) -> Condition:
        """There is a value, and it is another one: exact where there is at most one."""
        types = {path.type for path in parameter.paths}
        many = len(parameter.paths) != 1 or any(step.many for path in parameter.paths for step in path.steps)
        if many or types & {"CodeableConcept", "HumanName", "Address"} or parameter.kind in {"special", "composite"}:
            raise NotSupported(f"the operator ne is not served for {parameter.code}, which repeats", at=self._at)
        modifier = ":same" if parameter.kind == "string" else ""
        equal = self._asked(type_name, parameter.code + modifier, _escaped(value, parameter))
        return AllOf((self._asked(type_name, f"{parameter.code}:missing", "false"), Not(equal)))

    def _asked(self, type_name: str, name: str, value: str) -> Condition:
        return conditions.condition(self._table, type_name, name, value, at=self._at, internal=True)

    def _value(self) -> str:
        token = self._take("a value")
        if not token.startswith('"'):
            if token in {"(", ")", "[", "]"}:
                self._place -= 1
                raise self._wrong("a value")
            return token
        try:
            found = json.loads(token)
        except ValueError as error:
            raise BadSearch("a string is not closed, or an escape in it is not JSON", at=self._at) from error
        return str(found)


def _escaped(value: str, parameter: Parameter) -> str:
    """One value: a comma in it separates nothing; | and $ keep their meaning where values have parts."""
    marks = "\\," if parameter.kind in {"token", "quantity", "special", "composite"} else "\\,|$"
    return "".join("\\" + sign if sign in marks else sign for sign in value)
