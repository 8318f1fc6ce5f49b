"""The values of one criterion → hashes, or what a side table is asked. The OR of its values is one lookup.

Dates     the ranges of the search text and of the resource are compared (R4 3.1.1.4.5): eq contains, gt and lt reach
          beyond, ge and le reach the text's own range or beyond, sa and eb begin after and end before, ap overlaps with
          a tenth of the time since
Numbers   eq within the digits given, ap within a tenth (R4 3.1.1.4.5, .11); other prefixes exact
Strings   begins with, folded; :contains anywhere (a walk over the parameter's values); :exact by hash
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, cast

from ehr.clock import moment_of
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.index.hashing import Hasher, code_form, token_form
from ehr.index.main_date import main_date
from ehr.index.normalize import VALUE_CHARACTERS_MAX, contact, fold
from ehr.index.ranges import SECOND_US
from ehr.search.near import near
from ehr.search.shape import (
    Begins,
    Compared,
    Contains,
    Listed,
    MainDate,
    Measured,
    Near,
    Never,
    Same,
    Values,
    Wanted,
)
from ehr.search.terms import (
    CompositeValue,
    Criterion,
    DateValue,
    NearValue,
    NumberValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    TypedIdentifierValue,
    UriValue,
    Value,
    WordValue,
)

_SHARED: Final = frozenset({"Organization", "Location", "Practitioner", "PractitionerRole", "HealthcareService"})
"""Targets that a great part of all rows may point to: such a reference is not narrow."""
_PLAIN: Final = frozenset(
    {"code", "boolean", "string", "id", "uri", "canonical", "oid", "uuid", "Deceased", "ContactPoint"}
)
"""Token elements that have no system a token could name."""
APPROXIMATE: Final = 0.1
LIKE_ESCAPE: Final = "/"


# -- hashes ------------------------------------------------------------------------------------------------------


def hashes(hasher: Hasher, criterion: Criterion, parts: Iterable[Parameter]) -> list[int]:
    """Every hash that satisfies the criterion; any one will do."""
    found: dict[int, None] = {}
    for part in parts:
        for value in criterion.values:
            found.update(dict.fromkeys(_hashes(hasher, part, criterion.modifier, value)))
    return list(found)


def by_hash(criterion: Criterion) -> bool:
    """Whether the tokens of a row answer it."""
    if criterion.parameter.kind in {"token", "reference", "uri"} or criterion.modifier == "exact":
        return True
    return bool(criterion.values) and isinstance(criterion.values[0], WordValue)


def _hashes(hasher: Hasher, part: Parameter, modifier: str, value: Value) -> list[int]:
    match value:
        case TokenValue():
            return _identifier(hasher, part.id, value) if modifier == "identifier" else _token(hasher, part, value)
        case UriValue(text):
            return [hasher.uri(part.id, one) for one in (_parents(text) if modifier == "above" else [text])]
        case ReferenceValue(locals_, uri):
            found = [hasher.reference(part.id, part.slot, *one) for one in locals_]
            return [*found, *([hasher.uri(part.id, uri)] if uri else [])]
        case _:
            return [_one_hash(hasher, part.id, value)]


def _one_hash(hasher: Hasher, param_id: int, value: Value) -> int:
    match value:
        case StringValue(text):
            return hasher.exact(param_id, text)
        case WordValue(word):
            return hasher.word(param_id, word)
        case TextValue(folded):
            return hasher.text(param_id, folded)
        case TypedIdentifierValue(system, code, text):
            return hasher.of_type(param_id, system or None, code, text)
    raise AssertionError(f"{type(value).__name__} is not matched by hash")


def _token(hasher: Hasher, part: Parameter, value: TokenValue) -> list[int]:
    types = {path.type for path in part.paths}
    system, code = value.system, value.code
    if code is None:
        return [hasher.system(part.id, system)] if system else []
    if system is None or (types <= _PLAIN and _is_of(part, system)):
        return [hasher.code(part.id, one) for one in _written(types, code)]
    return [] if types <= _PLAIN else [hasher.token(part.id, system or None, code)]


def _written(types: set[str], code: str) -> Iterable[str]:
    """A code as the index may have it: contacts are compared by their digits, what may stand beside them as it is."""
    if "ContactPoint" not in types:
        return (code,)
    return (contact(code),) if len(types) == 1 else dict.fromkeys((code, contact(code)))


def _identifier(hasher: Hasher, param_id: int, value: TokenValue) -> list[int]:
    if value.code is None:
        return []
    if value.system is None:
        return [hasher.identifier_value(param_id, value.code)]
    return [hasher.identifier(param_id, value.system or None, value.code)]


def _parents(uri: str) -> list[str]:
    """The uri itself and every one above it, by path segment."""
    scheme, mark, rest = uri.partition("://")
    parts = rest.split("/") if mark else [uri]
    start = scheme + mark if mark else ""
    found = [start + "/".join(parts[: count + 1]) for count in range(len(parts))]
    return [one for parent in found for one in (parent, parent + "/")]


def is_narrow(criterion: Criterion) -> bool:
    """Few rows have such a token, and the planner's statistics cannot know: identifiers and most references."""
    parameter = criterion.parameter
    if criterion.modifier == "identifier":
        return True
    if parameter.kind == "reference":
        named = {name for value in criterion.values for name, _ in getattr(value, "locals", ())}
        return not named & _SHARED
    types = {path.type for path in parameter.paths}
    return parameter.kind == "uri" or (bool(types) and types <= {"Identifier", "ContactPoint"})


# -- dates -------------------------------------------------------------------------------------------------------


def main_dates(to: Values, criterion: Criterion) -> MainDate:
    return MainDate(tuple(_range(to, value) for value in criterion.values if isinstance(value, DateValue)))


def _range(to: Values, value: DateValue) -> Compared:
    return Compared(value.prefix, to.add(value.low_us), to.add(value.high_us))


def updated(to: Values, value: DateValue) -> Compared:
    """_lastUpdated: a moment, known to the microsecond."""
    return Compared(value.prefix, to.add(moment(value.low_us)), to.add(moment(value.high_us)))


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a timestamp, kept within the years Python and FHIR know."""
    floor, ceiling = -62_135_596_800 * SECOND_US, 253_402_300_799 * SECOND_US
    return moment_of(min(max(us, floor), ceiling))


# -- side tables -------------------------------------------------------------------------------------------------


def listed(to: Values, hasher: Hasher, criterion: Criterion, parts: Sequence[Parameter]) -> Listed | Never | None:
    """Rows of one side table that satisfy the criterion; None where it is not one side table that answers."""
    kind = criterion.parameter.kind
    if kind == "string":
        return _strings(to, criterion, parts)
    if kind in {"number", "quantity", "special"}:
        return Listed("quantity", _ids(to, parts), tuple(_in_quantities(to, hasher, one) for one in criterion.values))
    if len(parts) > 1:
        return None
    if kind == "date" and parts[0].code != main_date(parts[0].type_name):
        ranges = tuple(_range(to, value) for value in criterion.values if isinstance(value, DateValue))
        return Listed("date", _ids(to, parts), ranges)
    return _listed_components(to, hasher, criterion, parts[0]) if kind == "composite" else None


def _listed_components(to: Values, hasher: Hasher, criterion: Criterion, part: Parameter) -> Listed | None:
    if part.is_spanned:
        return _spanned_components(to, hasher, criterion, part)
    measured = part.is_paired and part.components[1].kind == "quantity"
    return measured_components(to, hasher, criterion, part) if measured else None


def _ids(to: Values, parts: Sequence[Parameter]) -> Wanted:
    return _one_or_list(to, [part.id for part in parts])


def _one_or_list(to: Values, values: Sequence[int]) -> Wanted:
    return Wanted(to.add(values[0] if len(values) == 1 else values), len(values) != 1)


def _strings(to: Values, criterion: Criterion, parts: Sequence[Parameter]) -> Listed | Never:
    found: list[Begins | Contains | Same] = []
    for value in criterion.values:
        text = fold(cast("StringValue", value).text)[:VALUE_CHARACTERS_MAX]
        if criterion.modifier in {"contains", "ends"}:
            found.append(Contains(to.add(_escaped(text)), at_end=criterion.modifier == "ends"))
        elif text:
            found.append(Same(to.add(text)) if criterion.modifier == "same" else _begins(to, text))
    return Listed("string", _ids(to, parts), tuple(found)) if found else Never()


def _escaped(text: str) -> str:
    """What LIKE would take for more than itself."""
    for character in (LIKE_ESCAPE, "%", "_"):
        text = text.replace(character, LIKE_ESCAPE + character)
    return text


def _begins(to: Values, text: str, exact: str | None = None) -> Begins:
    """A range instead of LIKE: nothing to escape, and the index serves it as it is (collation C)."""
    beyond = after(text)
    return Begins(
        to.add(text),
        None if beyond is None else to.add(beyond),
        None if exact is None else to.add(exact),
    )


def after(text: str) -> str | None:
    """The least text above everything that begins with this one; None where there is none."""
    while text:
        last = ord(text[-1]) + 1
        if last == 0xD800:  # surrogates are not characters
            last = 0xE000
        if last <= 0x10FFFF:
            return text[:-1] + chr(last)
        text = text[:-1]
    return None


def below(to: Values, criterion: Criterion, parts: Sequence[Parameter]) -> Listed:
    """The uri itself, or one under it: a path segment further down."""
    texts = [cast("UriValue", value).text for value in criterion.values]
    return Listed("string", _ids(to, parts), tuple(_begins(to, text.rstrip("/") + "/", text) for text in texts))


def _in_quantities(to: Values, hasher: Hasher, value: Value) -> Measured | Near:
    if isinstance(value, NearValue):
        return near(to, value)
    assert isinstance(value, NumberValue), "a number, a quantity or a place"
    return _quantity(to, hasher, value)


def _quantity(to: Values, hasher: Hasher, value: NumberValue) -> Measured:
    return Measured(
        _number(to, value),
        None if value.code is None else to.add(hasher.unit(None, value.code)),
        None if value.system is None else _one_or_list(to, [hasher.unit(value.system, "")]),
    )


def _number(to: Values, value: NumberValue) -> Compared:
    """What first and last are is the prefix's. Of more digits than a float has, the range is one float wide."""
    first, last = value.number, value.number
    if value.prefix in {"eq", "ne", "ap"}:
        first, last = value.low, max(value.high, math.nextafter(value.number, math.inf))
    return Compared(value.prefix, to.add(first), to.add(last))


# -- composites --------------------------------------------------------------------------------------------------


def components(criterion: Criterion, part: Parameter) -> list[list[Criterion]]:
    """Of each value, one criterion a component."""
    known = parameters.of(part.type_name)
    return [
        [
            Criterion(part.type_name, known[component.code], "", (wanted,))
            for component, wanted in zip(part.components, value.parts, strict=True)
        ]
        for value in criterion.values
        if isinstance(value, CompositeValue)
    ]


def pairs(hasher: Hasher, criterion: Criterion, part: Parameter) -> list[int]:
    """Two components of one element, hashed together."""
    return [
        hasher.pair(part.id, first, second)
        for value in criterion.values
        if isinstance(value, CompositeValue)
        for first in _forms(hasher, part, 0, value)
        for second in _forms(hasher, part, 1, value)
    ]


def measured_components(to: Values, hasher: Hasher, criterion: Criterion, part: Parameter) -> Listed:
    """Rows of ehr.index.leaves.measured: system holds the token, code the unit with or without its system."""
    found = []
    for value in criterion.values:
        assert isinstance(value, CompositeValue), "the parameter is a composite"
        number = value.parts[1]
        assert isinstance(number, NumberValue), "its second component is a quantity"
        tokens = [hasher.unit(None, form) for form in _forms(hasher, part, 0, value)]
        code = None
        if number.code is not None:
            unit = hasher.unit(None, number.code)
            code = to.add(unit ^ hasher.unit(number.system, "") if number.system else unit)
        found.append(Measured(_number(to, number), code, _one_or_list(to, tokens)))
    return Listed("quantity", _ids(to, [part]), tuple(found))


def _spanned_components(to: Values, hasher: Hasher, criterion: Criterion, part: Parameter) -> Listed:
    """Rows of ehr.index.leaves.spanned."""
    found = []
    for value in criterion.values:
        assert isinstance(value, CompositeValue), "the parameter is a composite"
        tokens = [hasher.unit(None, form) for form in _forms(hasher, part, 0, value)]
        start, end = (_number(to, cast("NumberValue", one)) for one in value.parts[1:])
        found.append(Measured(start, end, _one_or_list(to, tokens)))
    return Listed("quantity", _ids(to, [part]), tuple(found))


def _forms(hasher: Hasher, part: Parameter, place: int, asked: CompositeValue) -> list[str]:
    """Of the component at a place."""
    component, value = part.components[place], asked.parts[place]
    if isinstance(value, TokenValue) and value.code is not None:
        if value.system is None:
            return [code_form(value.code)]
        if {path.type for path in component.paths} <= _PLAIN:
            known = parameters.of(part.type_name)[component.code]
            return [code_form(value.code)] if _is_of(known, value.system) else []
        return [token_form(value.system or None, value.code)]
    if isinstance(value, ReferenceValue):
        return [f"r{hasher.self_token(*one)}" for one in value.locals]
    return []


def _is_of(plain: Parameter, system: str) -> bool:
    """|code and the element's own system mean a code that has no system member."""
    return not system or system in plain.systems
