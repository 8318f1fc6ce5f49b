"""Values of a shape → bound parameters, comparisons of ranges, and rows of side tables; partitions by name."""

from datetime import timedelta
from functools import cache
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    Integer,
    MetaData,
    Numeric,
    Select,
    Table,
    and_,
    any_,
    bindparam,
    cast,
    extract,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

from ehr.database.partitions import LONG_US
from ehr.database.tables import C_TEXT, MOMENT, date_index, quantity_index, resource, string_index
from ehr.index.leaves import MICRODEGREES
from ehr.index.ranges import SECOND_US
from ehr.search import shape
from ehr.search.lower_values import APPROXIMATE, LIKE_ESCAPE
from ehr.search.near import EARTH_METRES

Condition: TypeAlias = ColumnElement[bool]
LONG: Final = literal_column(str(LONG_US), BigInteger)
"""Not a bound value: the planner must see that the condition is the index's."""
CODE: Final = literal_column("2", Integer)
"""The place of the main code among tokens (ehr.index.main_code). Part of the text, as it is of the index."""
SIDE: Final = {"string": string_index, "date": date_index, "quantity": quantity_index}


@cache
def partition(name: str) -> Table:
    """Written as a table by itself, so that the server need not look for it among all."""
    return resource.to_metadata(MetaData(), name=name)


def value(at: shape.Slot, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    """The value at a slot, of a type."""
    return bindparam(f"v{at}", type_=type_)


def wanted(column: ColumnElement[Any], asked: shape.Wanted) -> Condition:
    """The column is the one value, or one of the list."""
    if asked.many:
        return column == any_(value(asked.at, ARRAY(column.type)))
    return column == value(asked.at, column.type)


def listed(asked: shape.Listed) -> Select[Any]:
    """Rids of the rows a side table lists."""
    table = SIDE[asked.table]
    found = [_listed(asked.table, one) for one in asked.values]
    return select(table.c.rid).where(wanted(table.c.param_id, asked.parameters), or_(*found))


Side = shape.Begins | shape.Contains | shape.Same | shape.Compared | shape.Measured | shape.Near


def _listed(table: str, asked: Side) -> Condition:
    match asked:
        case shape.Begins():
            return _begins(string_index.c.value, asked)
        case shape.Contains(pattern, at_end):
            column, part = string_index.c.value, value(pattern, C_TEXT)
            return column.endswith(part, escape=LIKE_ESCAPE) if at_end else column.contains(part, escape=LIKE_ESCAPE)
        case shape.Same(text):
            same: Condition = string_index.c.value == value(text, C_TEXT)
            return same
        case shape.Compared():
            assert table == "date", "numbers come as Measured"
            return dated(date_index.c.lo_us, date_index.c.hi_us, asked)
        case shape.Measured():
            return _measured(asked)
        case shape.Near():
            return _near(asked)


def _begins(column: ColumnElement[str], asked: shape.Begins) -> Condition:
    found: Condition = column >= value(asked.first, C_TEXT)
    if asked.after is not None:
        found = and_(found, column < value(asked.after, C_TEXT))
    return found if asked.exact is None else or_(column == value(asked.exact, C_TEXT), found)


def _measured(asked: shape.Measured) -> Condition:
    table = quantity_index.c
    found = [_number(table.value, asked.number)]
    if isinstance(asked.code, shape.Compared):
        found.append(_number(cast(table.code, Float(53)), asked.code))
    elif asked.code is not None:
        found.append(table.code == value(asked.code, BigInteger()))
    if asked.system is not None:
        found.append(wanted(table.system, asked.system))
    return and_(*found)


def _near(asked: shape.Near) -> Condition:
    """The box by the index, the circle by the haversine formula; ehr.index.leaves.position says where both lie."""
    latitude, longitude = quantity_index.c.value, quantity_index.c.code
    south, north = (value(at, Float(53)) for at in asked.latitudes)
    west, east = (value(at, BigInteger()) for at in asked.longitudes)
    here, there = func.radians(value(asked.latitude, Float(53))), func.radians(latitude)
    along = func.radians(longitude / float(MICRODEGREES) - value(asked.longitude, Float(53)))
    chord = func.sin((there - here) / 2) * func.sin((there - here) / 2) + func.cos(here) * func.cos(there) * (
        func.sin(along / 2) * func.sin(along / 2)
    )
    metres = 2 * EARTH_METRES * func.asin(func.sqrt(func.least(1.0, chord)))
    return and_(longitude.between(west, east), latitude.between(south, north), metres <= value(asked.metres, Float(53)))


def _number(column: ColumnElement[float], asked: shape.Compared) -> Condition:
    first, last = value(asked.first, Float(53)), value(asked.last, Float(53))
    found: Condition
    match asked.prefix:
        case "eq":
            found = and_(column >= first, column < last)
        case "ne":
            found = or_(column < first, column >= last)
        case "gt" | "sa":
            found = column > first
        case "ge":
            found = column >= first
        case "lt" | "eb":
            found = column < first
        case "le":
            found = column <= first
        case "ap":
            found = and_(column >= first, column <= last)
        case "po":
            raise AssertionError("numbers do not overlap")
    return found


def dated(low: ColumnElement[int], high: ColumnElement[int], asked: shape.Compared, *, main: bool = False) -> Condition:
    """A resource's range against the search's; each begins with a bound an index can use.

    main  of a type's main date, whose ends are indexed of long ranges only
    """
    first, last = value(asked.first, BigInteger()), value(asked.last, BigInteger())
    after = _ends_after_main if main else _ends_after
    found: Condition
    match asked.prefix:
        case "eq":
            found = and_(low >= first, low <= last, high <= last)
        case "ne":
            found = or_(low < first, after(low, high, last))
        case "gt":
            found = after(low, high, last)
        case "ge":
            found = after(low, high, first - 1)
        case "lt":
            found = low < first
        case "le":
            found = low <= last
        case "sa":
            found = low > last
        case "eb":
            found = and_(low < first, high < first) if main else high < first
        case "po":
            found = and_(low <= last, after(low, high, first - 1))
        case "ap":
            now_us = cast(extract("epoch", func.now()) * SECOND_US, BigInteger)
            near = cast(func.abs(now_us - first) * cast(APPROXIMATE, Numeric), BigInteger)
            found = and_(low <= last + near, after(low, high, first - near - 1))
    return found


def _ends_after(_: ColumnElement[int], high: ColumnElement[int], bound: ColumnElement[int]) -> Condition:
    return high > bound


def _ends_after_main(low: ColumnElement[int], high: ColumnElement[int], bound: ColumnElement[int]) -> Condition:
    """By its beginning, which is at most LONG_US earlier; or by the index of those that last longer."""
    return or_(and_(low > bound - LONG, high > bound), and_(high - low > LONG, high > bound))


def begun(low: ColumnElement[int], high: ColumnElement[int], asked: shape.Compared) -> tuple[Condition, Condition]:
    """Of ge and gt the same in two parts that share no row: what began near the bound or later, and what began before
    and lasts long. In the order of beginnings each is a walk of its own; their OR would be one from the first row."""
    bound = value(asked.first, BigInteger()) - 1 if asked.prefix == "ge" else value(asked.last, BigInteger())
    near = bound - LONG
    return and_(low > near, high > bound), and_(low <= near, high - low > LONG, high > bound)


def updated(column: ColumnElement[Any], asked: shape.Compared) -> Condition:
    """A moment, known to the microsecond."""
    first, last = value(asked.first, MOMENT), value(asked.last, MOMENT)
    found: Condition
    match asked.prefix:
        case "eq" | "po":
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
