"""Sort keys of a request → SQL expressions, and the condition that a row lies beyond a place.

Order:   the request's keys, then rid in the direction of the last key: a total order, so pages never overlap
Nulls:   rows without a value come last in either direction; a single main date does it in two phases (rows with a
         date, then rows without), so that both walk an index
Values:  several values of one row: the least when ascending, the greatest when descending
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, FromClause, Integer, and_, case, func, literal, or_, select, tuple_

from ehr.database.tables import date_index, quantity_index, string_index
from ehr.index.main_date import main_date
from ehr.search.compile import Clause, parts_of
from ehr.search.plan import SearchPlan
from ehr.search.terms import Direction, SortKey

WITH_DATE: Final = 0
WITHOUT_DATE: Final = 1
_NO_NUMBER: Final[ColumnElement[Any]] = literal(0, BigInteger)


@dataclass(frozen=True, slots=True)
class Key:
    """One expression to order by. moment: its value is a timestamp, which JSON holds as text."""

    expression: ColumnElement[Any]
    descending: bool
    moment: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """keys end with rid. phases: which kinds of rows there are, in order; None: rows are not divided."""

    keys: tuple[Key, ...]
    phases: tuple[int | None, ...] = (None,)

    def of_phase(self, phase: int | None) -> tuple[Key, ...]:
        """Rows without a date are ordered by rid alone."""
        return self.keys[-1:] if phase == WITHOUT_DATE else self.keys

    def values(self, phase: int | None, row: Sequence[Any]) -> list[Any]:
        """What a cursor remembers of a row, given its key columns."""
        keys = self.of_phase(phase)[:-1]
        return [value.isoformat() if key.moment else value for key, value in zip(keys, row, strict=False)]


def order_of(plan: SearchPlan, row: FromClause) -> Order:
    sort = plan.request.sort
    if len(sort) == 1 and _is_main(plan, sort[0]):
        down = sort[0].direction == "desc"
        keys = (Key(row.c.date_lo_us, down), Key(row.c.rid, down))
        return Order(keys, (WITH_DATE, WITHOUT_DATE))
    made: list[Key] = []
    for one in sort:
        made += _keys(plan, one, row)
    last_down = bool(made) and made[-1].descending
    return Order((*made, Key(row.c.rid, last_down)))


def _is_main(plan: SearchPlan, key: SortKey) -> bool:
    return plan.type_name == key.parameter.type_name and key.parameter.code == main_date(plan.type_name)


def _keys(plan: SearchPlan, sort: SortKey, row: FromClause) -> list[Key]:
    down = sort.direction == "desc"
    if sort.parameter.code == "_id":
        return [Key(row.c.id, down)]
    if sort.parameter.code == "_lastUpdated":
        return [Key(row.c.updated, down, moment=True)]
    value: ColumnElement[Any]
    none: ColumnElement[Any]
    if _is_main(plan, sort):
        value, none = row.c.date_lo_us, _NO_NUMBER
    else:
        value, none = _value(sort, row)
    absent = case((value.is_(None), 1), else_=0).cast(Integer)
    return [Key(absent, descending=False), Key(func.coalesce(value, none), down)]


def _value(sort: SortKey, row: FromClause) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The row's value to sort by, and what stands in its place where there is none."""
    which = [part.id for part in parts_of(sort.parameter)]
    column: ColumnElement[Any]
    none: ColumnElement[Any]
    match sort.parameter.kind:
        case "string":
            table, column, none = string_index, string_index.c.value, literal("")
        case "date":
            table, column, none = date_index, date_index.c.lo_us, _NO_NUMBER
        case _:
            table, column, none = quantity_index, quantity_index.c.value, _NO_NUMBER
    first = func.max(column) if sort.direction == "desc" else func.min(column)
    found = select(first).where(table.c.rid == row.c.rid, table.c.param_id.in_(which)).correlate(row)
    return found.scalar_subquery(), none


def ordering(keys: tuple[Key, ...], columns: Sequence[ColumnElement[Any]], *, forward: bool) -> list[Any]:
    """ORDER BY; the other way round for the page before."""
    return [
        column.desc() if key.descending == forward else column.asc() for key, column in zip(keys, columns, strict=True)
    ]


def beyond(
    keys: tuple[Key, ...], columns: Sequence[ColumnElement[Any]], values: Sequence[Any], *, forward: bool
) -> Clause:
    """The row comes after the place (before it, when going back)."""
    bound = [datetime.fromisoformat(value) if key.moment else value for key, value in zip(keys, values, strict=True)]
    if len({key.descending for key in keys}) == 1:  # one direction: a row comparison, which an index can serve
        left, right = (
            tuple_(*columns),
            tuple_(*(literal(value, column.type) for value, column in zip(bound, columns, strict=True))),
        )
        return left < right if keys[0].descending == forward else left > right
    alternatives = []
    for position, key in enumerate(keys):
        column, value = columns[position], bound[position]
        equal = [columns[before] == bound[before] for before in range(position)]
        alternatives.append(and_(*equal, column < value if key.descending == forward else column > value))
    return or_(*alternatives)


__all__ = ["Direction", "Key", "Order", "beyond", "order_of", "ordering"]
