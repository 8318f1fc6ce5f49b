"""The values of one criterion → hashes, or a condition on a side table. The OR of its values is one lookup.

Dates     the ranges of the search text and of the resource are compared (R4 3.1.1.4.7): eq contains, gt and lt reach
          beyond, sa and eb begin after and end before, ap overlaps with a tenth of the time since
Numbers   eq within the digits given, ap within a tenth (R4 3.1.1.4.5, .11); other prefixes exact
Strings   begins with, folded; :contains anywhere (a walk over the parameter's values); :exact by hash
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import BigInteger, ColumnElement, FromClause, Numeric, Select, and_, extract, false, func, or_, select
from sqlalchemy import cast as sql_cast

from ehr.database.tables import date_index, quantity_index, string_index
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.index.hashing import Hasher, code_form, token_form
from ehr.index.main_date import main_date
from ehr.index.normalize import VALUE_CHARACTERS_MAX, contact, fold
from ehr.index.ranges import SECOND_US
from ehr.search.terms import (
    CompositeValue,
    Criterion,
    DateValue,
    NumberValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
    Value,
)

if TYPE_CHECKING:
    from ehr.search.compile import Clause, Compiler

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHARED: Final = frozenset({"Organization", "Location", "Practitioner", "PractitionerRole", "HealthcareService"})
"""Targets that a great part of all rows may point to: such a reference is not narrow."""
_PLAIN: Final = frozenset({"code", "boolean", "string", "id", "uri", "canonical", "oid", "uuid", "Deceased"})
"""Token elements that have no system member."""
APPROXIMATE: Final = 0.1


# -- hashes ------------------------------------------------------------------------------------------------------


def hashes(hasher: Hasher, criterion: Criterion, parts: list[Parameter]) -> list[int]:
    """Every hash that satisfies the criterion; any one will do."""
    found: dict[int, None] = {}
    for part in parts:
        for value in criterion.values:
            found.update(dict.fromkeys(_hashes(hasher, part, criterion.modifier, value)))
    return list(found)


def _hashes(hasher: Hasher, part: Parameter, modifier: str, value: Value) -> list[int]:
    match value:
        case TokenValue() if modifier == "identifier":
            return _identifier(hasher, part.id, value)
        case TokenValue():
            return _token(hasher, part, value)
        case StringValue(text):
            return [hasher.exact(part.id, text)]
        case UriValue(text) if modifier == "above":
            return [hasher.uri(part.id, parent) for parent in _parents(text)]
        case UriValue(text):
            return [hasher.uri(part.id, text)]
        case ReferenceValue(locals_, uri):
            found = [hasher.reference(part.id, part.slot, *one) for one in locals_]
            return [*found, *([hasher.uri(part.id, uri)] if uri else [])]
    raise AssertionError(f"{type(value).__name__} is not matched by hash")


def _token(hasher: Hasher, part: Parameter, value: TokenValue) -> list[int]:
    types = {path.type for path in part.paths}
    system, code = value.system, value.code
    if code is not None and "ContactPoint" in types:
        code = contact(code)
    if code is None:
        return [hasher.system(part.id, system)] if system else []
    if system is None:
        return [hasher.code(part.id, code)]
    if types <= _PLAIN:  # no system member: |code and the element's own system mean the code alone
        return [hasher.code(part.id, code)] if not system or system in part.systems else []
    return [hasher.token(part.id, system or None, code)]


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
    return parameter.kind == "uri" or any(path.type in {"Identifier", "ContactPoint"} for path in parameter.paths)


# -- side tables -------------------------------------------------------------------------------------------------


def rids(hasher: Hasher, criterion: Criterion, parts: list[Parameter]) -> Select[Any] | None:
    """Rows of one side table that satisfy the criterion; None where it is not one side table that answers."""
    kind = criterion.parameter.kind
    if kind == "string":
        return _string(criterion, parts)
    if kind in {"number", "quantity"}:
        return _quantity(hasher, criterion, parts)
    if len(parts) > 1:
        return None
    if kind == "date" and parts[0].code != main_date(parts[0].type_name):
        return _date(criterion, parts[0])
    if kind == "composite" and parts[0].bases[0] and parts[0].components[1].kind == "quantity":
        return _token_quantity(hasher, criterion, parts[0])
    return None


def clause(compiler: "Compiler", row: FromClause, criterion: Criterion, parts: list[Parameter]) -> "Clause":
    """The main date, and composites."""
    if criterion.parameter.kind == "date":
        low, high = row.c.date_lo_us, row.c.date_hi_us
        values = [value for value in criterion.values if isinstance(value, DateValue)]
        return and_(low.is_not(None), or_(*(_dated(low, high, value) for value in values)))
    return or_(*(_composite(compiler, row, criterion, part) for part in parts))


def _date(criterion: Criterion, part: Parameter) -> Select[Any]:
    table = date_index.c
    values = [value for value in criterion.values if isinstance(value, DateValue)]
    found = or_(*(_dated(table.lo_us, table.hi_us, value) for value in values))
    return select(table.rid).where(table.param_id == part.id, found)


def _dated(low: ColumnElement[int], high: ColumnElement[int], value: DateValue) -> "Clause":
    """A resource's range against the search's; each begins with a bound an index can use."""
    first, last = value.low_us, value.high_us
    found: Clause
    match value.prefix:
        case "eq":
            found = and_(low >= first, low <= last, high <= last)
        case "ne":
            found = or_(low < first, high > last)
        case "gt":
            found = high > last
        case "ge":
            found = or_(low >= first, high > last)
        case "lt":
            found = low < first
        case "le":
            found = and_(low <= last, or_(low < first, high <= last))
        case "sa":
            found = low > last
        case "eb":
            found = high < first
        case "ap":
            now_us = sql_cast(extract("epoch", func.now()) * SECOND_US, BigInteger)
            near = sql_cast(func.abs(now_us - first) * sql_cast(APPROXIMATE, Numeric), BigInteger)
            found = and_(low <= last + near, high >= first - near)
    return found


def updated(column: ColumnElement[Any], value: DateValue) -> "Clause":
    """_lastUpdated: a moment, known to the microsecond."""
    first, last = moment(value.low_us), moment(value.high_us)
    found: Clause
    match value.prefix:
        case "eq":
            found = and_(column >= first, column <= last)
        case "ne":
            found = or_(column < first, column > last)
        case "gt" | "sa":
            found = column > last
        case "ge":
            found = column >= first
        case "lt" | "eb":
            found = column < first
        case "le":
            found = column <= last
        case "ap":
            near = func.abs(extract("epoch", func.now() - first)) * APPROXIMATE * timedelta(seconds=1)
            found = and_(column >= first - near, column <= last + near)
    return found


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a timestamp, kept within the years Python and FHIR know."""
    floor, ceiling = -62_135_596_800 * SECOND_US, 253_402_300_799 * SECOND_US
    return _EPOCH + timedelta(microseconds=min(max(us, floor), ceiling))


def _string(criterion: Criterion, parts: list[Parameter]) -> Select[Any]:
    table = string_index.c
    found = []
    for value in criterion.values:
        text = fold(cast("StringValue", value).text)[:VALUE_CHARACTERS_MAX]
        if criterion.modifier == "contains":
            found.append(table.value.contains(text, autoescape=True))
        elif text:
            found.append(_begins(table.value, text))
    which = [part.id for part in parts]
    return select(table.rid).where(table.param_id.in_(which), or_(false(), *found))


def _begins(column: ColumnElement[str], text: str) -> "Clause":
    """A range instead of LIKE: nothing to escape, and the index serves it as it is (collation C)."""
    after = _after(text)
    return and_(column >= text, column < after) if after is not None else column >= text


def _after(text: str) -> str | None:
    """The least text above everything that begins with this one; None where there is none."""
    while text:
        last = ord(text[-1]) + 1
        if last == 0xD800:  # surrogates are not characters
            last = 0xE000
        if last <= 0x10FFFF:
            return text[:-1] + chr(last)
        text = text[:-1]
    return None


def below(criterion: Criterion, parts: list[Parameter]) -> Select[Any]:
    """The uri itself, or one under it: a path segment further down."""
    table, found = string_index.c, []
    for value in criterion.values:
        text = cast("UriValue", value).text
        found.append(or_(table.value == text, _begins(table.value, text.rstrip("/") + "/")))
    return select(table.rid).where(table.param_id.in_([part.id for part in parts]), or_(*found))


def _quantity(hasher: Hasher, criterion: Criterion, parts: list[Parameter]) -> Select[Any]:
    table = quantity_index.c
    found = []
    for value in criterion.values:
        assert isinstance(value, NumberValue)
        wanted = [measured(table.value, value)]
        if value.code is not None:
            wanted.append(table.code == hasher.unit(None, value.code))
        if value.system is not None:
            wanted.append(table.system == hasher.unit(value.system, ""))
        found.append(and_(*wanted))
    which = [part.id for part in parts]
    return select(table.rid).where(table.param_id.in_(which), or_(*found))


def measured(column: ColumnElement[float], value: NumberValue) -> "Clause":
    number = value.number
    found: Clause
    match value.prefix:
        case "eq":
            found = and_(column >= value.low, column < value.high)
        case "ne":
            found = or_(column < value.low, column >= value.high)
        case "gt" | "sa":
            found = column > number
        case "ge":
            found = column >= number
        case "lt" | "eb":
            found = column < number
        case "le":
            found = column <= number
        case "ap":
            near = abs(number) * APPROXIMATE
            found = and_(column >= number - near, column <= number + near)
    return found


# -- composites --------------------------------------------------------------------------------------------------


def _composite(compiler: "Compiler", row: FromClause, criterion: Criterion, part: Parameter) -> "Clause":
    values = [value for value in criterion.values if isinstance(value, CompositeValue)]
    if not part.bases[0]:  # over the resource itself: each component is a single element, so an AND is exact
        return or_(*(_both(compiler, row, part, value) for value in values))
    if part.components[1].kind == "quantity":
        return row.c.rid.in_(_token_quantity(compiler.hasher, criterion, part))
    pairs = [
        compiler.hasher.pair(part.id, first, second)
        for value in values
        for first in _forms(compiler.hasher, value.parts[0])
        for second in _forms(compiler.hasher, value.parts[1])
    ]
    return row.c.tokens.overlap(pairs) if pairs else false()


def _both(compiler: "Compiler", row: FromClause, part: Parameter, value: CompositeValue) -> "Clause":
    known = parameters.of(part.type_name)
    clauses: list[Clause] = []
    for component, wanted in zip(part.components, value.parts, strict=True):
        criterion = Criterion(part.type_name, known[component.code], "", (wanted,))
        clauses += compiler.inner(part.type_name, criterion, row)
    return and_(*clauses)


def _token_quantity(hasher: Hasher, criterion: Criterion, part: Parameter) -> Select[Any]:
    """Rows of ehr.index.leaves.measured: system holds the token, code the unit with or without its system."""
    table, found = quantity_index.c, []
    for value in criterion.values:
        assert isinstance(value, CompositeValue)
        number = value.parts[1]
        assert isinstance(number, NumberValue)
        tokens = [hasher.unit(None, form) for form in _forms(hasher, value.parts[0])]
        wanted = [table.system.in_(tokens), measured(table.value, number)]
        if number.code is not None:
            unit = hasher.unit(None, number.code)
            wanted.append(table.code == (unit ^ hasher.unit(number.system, "") if number.system else unit))
        found.append(and_(*wanted))
    return select(table.rid).where(table.param_id == part.id, or_(*found))


def _forms(hasher: Hasher, value: Value) -> list[str]:
    if isinstance(value, TokenValue) and value.code is not None:
        return [code_form(value.code) if value.system is None else token_form(value.system or None, value.code)]
    if isinstance(value, ReferenceValue):
        return [f"r{hasher.self_token(*one)}" for one in value.locals]
    return []
