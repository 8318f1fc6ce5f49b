"""Shape → SQL text, compiled once for all searches of that shape; values are bound to it a request.

In:      a Shape with its Values
Out:     text with $1 … $n and the arguments in that order
Limits:  STATEMENTS_MAX texts are kept, the least recently used one goes first
Why:     building and compiling a statement costs 1 to 3 ms, running it 0.2. The text is the key of asyncpg's prepared
         statements too, so equal shapes are parsed once a connection; the planner still sees the values, because
         the connection plans each execution anew (ehr.database.engine)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union_all,
)

from ehr.database.connection import Connection, Row
from ehr.database.engine import compiled
from ehr.database.tables import PgSnapshot, change, resource, resource_history
from ehr.search import shape
from ehr.search.compile import conditions, visible
from ehr.search.compile_audit import noted
from ehr.search.compile_contained import inside
from ehr.search.compile_values import SIDE, Condition, listed, value, wanted
from ehr.search.found import COLUMNS, CONTAINER
from ehr.search.shape_statements import (
    CountOf,
    EstimateOf,
    IdsOf,
    IncludedOf,
    Key,
    MovedOf,
    PageOf,
    PlacesOf,
    RidsOf,
    Shape,
    SideValue,
    SinceOf,
)

STATEMENTS_MAX: Final = 2_048
"""About 4 KiB each. Simple searches need some dozens; chains and long lists of dates make more."""

ROW: Final = resource.alias("r")
ROWS: Final = {"own": ROW, "contained": inside("contained").subquery("r"), "both": inside("both").subquery("r")}
CHANGE: Final = change.alias("c")
HISTORY: Final = resource_history.alias("h")
REPLACED: Final = and_(
    HISTORY.c.type_id == CHANGE.c.type_id,
    HISTORY.c.rid == CHANGE.c.rid,
    HISTORY.c.version == CHANGE.c.version - 1,
    HISTORY.c.op != "D",
)
"""A change, and the version that it left behind."""
NOW: Final = literal_column("pg_current_snapshot()::text", Text)
RID_MAX: Final = literal_column("(select last_value from resource_rid)", BigInteger)


@dataclass(frozen=True, slots=True)
class Sql:
    """order: the slots of $1 … $n; below zero, the statement's own constants, counted from the end."""

    text: str
    order: tuple[int, ...]
    constants: tuple[Any, ...]

    def arguments(self, values: shape.Values) -> list[Any]:
        given = [*values.all, *self.constants]
        return [given[slot] for slot in self.order]


@lru_cache(STATEMENTS_MAX)
def sql_of(asked: Shape) -> Sql:
    made = compiled(_statement(asked))
    constants = list(made.constants)
    order = [
        constants.index(name) - len(constants) if name in made.constants else int(name.removeprefix("v"))
        for name in made.names
    ]
    prefix = "EXPLAIN (FORMAT JSON) " if isinstance(asked, EstimateOf) else ""
    return Sql(prefix + made.sql, tuple(order), tuple(made.constants.values()))


async def fetch(connection: Connection, asked: Shape, to: shape.Values) -> Sequence[Row]:
    """Its rows, for these values."""
    sql = sql_of(asked)
    return await connection.fetch(sql.text, *sql.arguments(to))


def _statement(asked: Shape) -> Select[Any]:
    match asked:
        case PageOf() | MovedOf():
            return _page(asked) if isinstance(asked, PageOf) else _moved(asked)
        case CountOf() | SinceOf():
            return _count(asked) if isinstance(asked, CountOf) else _since(asked)
        case EstimateOf(clauses, of):
            return select(ROWS[of].c.rid).where(*conditions(ROWS[of], clauses))
        case IdsOf(clauses, narrow, count):
            found = _gathered(select(ROW.c.rid, ROW.c.id).where(*conditions(ROW, clauses)), narrow=narrow)
            return select(found.c.id).order_by(found.c.rid).limit(value(count, Integer()))
        case RidsOf() | PlacesOf():
            return _numbers(asked)
        case IncludedOf():
            return _included(asked)


def _included(asked: IncludedOf) -> Select[Any]:
    row = ROWS[asked.of]
    places = row.c.type_id, row.c.rid
    rows = select(*_shown(row)).where(*conditions(row, asked.clauses))
    if asked.place is not None:
        beyond = [value(at, column.type) for at, column in zip(asked.place, places, strict=True)]
        rows = rows.where(tuple_(*places) > tuple_(*beyond))
    return rows.order_by(*places).limit(value(asked.count, Integer()))


def _numbers(asked: RidsOf | PlacesOf) -> Select[Any]:
    if isinstance(asked, RidsOf):
        span = ROW.c.rid > value(asked.after, BigInteger()), ROW.c.rid <= value(asked.upto, BigInteger())
        return select(ROW.c.rid).where(*conditions(ROW, asked.clauses), *span)
    row = ROWS[asked.of]
    found = _gathered(select(row.c.type_id, row.c.rid).where(*conditions(row, asked.clauses)), narrow=asked.narrow)
    places = select(found.c.type_id, found.c.rid, RID_MAX.label("rid_max"), NOW.label("snapshot"))
    return places.order_by(found.c.rid).limit(value(asked.count, Integer()))


def _count(asked: CountOf) -> Select[Any]:
    if isinstance(asked.clauses, shape.Listed):
        rows = _counted(asked.clauses)
    else:
        row = ROWS[asked.of]
        rows = select(literal_column("1").label("one")).select_from(row).where(*conditions(row, asked.clauses))
    if asked.count_max is not None:
        rows = rows.limit(value(asked.count_max, Integer()))
    said: list[ColumnElement[Any]] = [func.count(), *([NOW.label("snapshot")] if asked.dated else ())]
    return select(*said).select_from(rows.subquery())


def _since(asked: SinceOf) -> Select[Any]:
    """One row at least: what came is in each, beside a version that went where there is one."""
    came = select(func.count()).where(*conditions(ROW, asked.clauses), *_new(ROW, asked.since)).scalar_subquery()
    went = (
        select(HISTORY.c.type_id, HISTORY.c.id, HISTORY.c.body)
        .select_from(CHANGE)
        .join(HISTORY, REPLACED)
        .where(*conditions(CHANGE, [asked.types]), *_new(CHANGE, asked.since), visible(HISTORY.c.xid, asked.since))
        .limit(value(asked.count, Integer()))
        .subquery("went")
    )
    now = select(came.label("came"), NOW.label("snapshot")).subquery("now")
    return select(now, went).select_from(now.outerjoin(went, true()))


def _new(row: FromClause, since: shape.Slot) -> list[Condition]:
    """Written by transactions that a snapshot did not see."""
    return [row.c.xid >= func.pg_snapshot_xmin(cast(value(since, Text()), PgSnapshot())), ~visible(row.c.xid, since)]


def _counted(asked: shape.Listed) -> Select[Any] | CompoundSelect[Any]:
    """Range after range, so that a LIMIT ends it: an OR of them would be looked through whole before the first row."""
    ranges = [listed(replace(asked, values=(one,))) for one in asked.values]
    return union_all(*ranges) if len(ranges) > 1 else ranges[0]


# -- pages -------------------------------------------------------------------------------------------------------


@cache
def _partition(name: str) -> Table:
    """Written as a table by itself, so that the server need not look for it among all."""
    return resource.to_metadata(MetaData(), name=name)


def _of(asked: PageOf, alias: str) -> FromClause:
    """The rows a page is made of."""
    if asked.of != "own":
        return inside(asked.of).subquery(alias)
    return (resource if asked.partition is None else _partition(asked.partition)).alias(alias)


def _page(asked: PageOf) -> Select[Any]:
    straight = not asked.narrow and not any(isinstance(key.by, SideValue) or key.filled for key in asked.keys)
    if asked.passing is not None:
        rows = _passed(asked, asked.passing)
    elif asked.narrow and (found := _sole_list(asked)):
        rows = _of_list(asked, found)
    else:
        rows = _straight(asked) if straight else _looked_up(asked)
    if asked.noted is None:
        return rows
    shown = rows.cte("shown")
    places = [*(shown.c[f"k{number}"] for number in range(len(asked.keys) - 1)), shown.c.rid]
    order = _ordering(asked, places)
    return select(shown).order_by(*order).add_cte(noted(asked.noted, shown, order))


def _straight(asked: PageOf) -> Select[Any]:
    """Ordered by columns: one walk of one index gives the page."""
    row = _of(asked, "r")
    places = [_expression(key, row) for key in asked.keys]
    labelled = [place.label(f"k{number}") for number, place in enumerate(places[:-1])]
    return (
        select(*_shown(row), *labelled, *_said(asked))
        .where(*conditions(row, asked.clauses), *_beyond(asked, places))
        .order_by(*_ordering(asked, places))
        .limit(value(asked.count, Integer()))
    )


def _passed(asked: PageOf, passing: int) -> Select[Any]:
    """The first rows of an order, and of those the rows that are asked for: no estimate leads the planner elsewhere."""
    ordering = [one for one in asked.clauses if isinstance(one, shape.Typed | shape.HasDate | shape.NotAfter)]
    row = _of(asked, "r")
    places = [_expression(key, row) for key in asked.keys]
    first = (
        select(row)
        .where(*conditions(row, ordering), *_beyond(asked, places))
        .order_by(*_ordering(asked, places))
        .limit(literal_column(str(passing), Integer))
        .subquery("passed")
    )
    again = [_expression(key, first) for key in asked.keys]
    return (
        select(*_shown(first), *(place.label(f"k{n}") for n, place in enumerate(again[:-1])), *_said(asked))
        .where(*conditions(first, [one for one in asked.clauses if one not in ordering]))
        .order_by(*_ordering(asked, again))
        .limit(value(asked.count, Integer()))
    )


def _sole_list(asked: PageOf) -> shape.Listed | None:
    """What a side table lists, where nothing else finds rows and their numbers are the order."""
    lists = [one for one in asked.clauses if isinstance(one, shape.Listed)]
    others = [one for one in asked.clauses if not isinstance(one, shape.Listed | shape.Typed | shape.NotAfter)]
    sole = len(lists) == len(asked.keys) == 1 and not others and asked.of == "own"
    return lists[0] if sole and asked.keys[0].by == "rid" else None


def _of_list(asked: PageOf, found: shape.Listed) -> Select[Any]:
    """The numbers are sorted before any row is looked at, and only the rows of the page are."""
    rids = listed(found).distinct()
    there = rids.order_by(*_ordering(asked, [rids.selected_columns.rid])).subquery("listed")
    row, others = _of(asked, "r"), [one for one in asked.clauses if one is not found]
    return (
        select(*_shown(row), *_said(asked))
        .join_from(there, row, row.c.rid == there.c.rid)
        .where(*conditions(row, others), *_beyond(asked, [there.c.rid]))
        .order_by(*_ordering(asked, [there.c.rid]))
        .limit(value(asked.count, Integer()))
    )


def _looked_up(asked: PageOf) -> Select[Any]:
    """Places first, then the rows at the places of the page."""
    row, body = _of(asked, "r"), _of(asked, "body")
    columns = [_expression(key, row).label(f"k{number}") for number, key in enumerate(asked.keys[:-1])]
    page = _gathered(
        select(row.c.type_id, row.c.rid, *columns).where(*conditions(row, asked.clauses)), narrow=asked.narrow
    )
    places = [*(page.c[f"k{number}"] for number in range(len(columns))), page.c.rid]
    placed = select(page).where(*_beyond(asked, places)).order_by(*_ordering(asked, places))
    chosen = placed.limit(value(asked.count, Integer())).subquery("chosen")
    again = [*(chosen.c[f"k{number}"] for number in range(len(columns))), chosen.c.rid]
    return (
        select(*_shown(body), *again[:-1], *_said(asked))
        .join_from(chosen, body, (body.c.type_id == chosen.c.type_id) & (body.c.rid == chosen.c.rid))
        .where(*conditions(body, [asked.types]))
        .order_by(*_ordering(asked, again))
    )


def _shown(row: FromClause) -> list[ColumnElement[Any]]:
    """The columns of a row that is found; of a contained one also what type contains it."""
    return [row.c[name] for name in (*COLUMNS, CONTAINER) if name in row.c]


def _said(asked: PageOf) -> list[ColumnElement[Any]]:
    """What every row of a page says of the page."""
    return [RID_MAX.label("rid_max"), *([NOW.label("snapshot")] if asked.dated else ())]


def _moved(asked: MovedOf) -> Select[Any]:
    """The change feed between two snapshots, with the versions it replaced and what stands now."""
    changed = [*_new(CHANGE, asked.seen), visible(HISTORY.c.xid, asked.began)]
    if asked.upto is not None:
        changed.append(visible(CHANGE.c.xid, asked.upto))
    stood = [HISTORY.c.updated.label("was_updated"), HISTORY.c.body.label("was_body")]
    return (
        select(*(ROW.c[name] for name in COLUMNS), *stood, NOW.label("snapshot"))
        .select_from(CHANGE)
        .join(HISTORY, REPLACED)
        .join(ROW, (ROW.c.type_id == CHANGE.c.type_id) & (ROW.c.rid == CHANGE.c.rid))
        .where(*changed, ROW.c.rid > value(asked.after, BigInteger()), *conditions(ROW, asked.clauses))
        .order_by(ROW.c.rid)
        .limit(value(asked.count, Integer()))
    )


def _gathered(inner: Select[Any], *, narrow: bool) -> FromClause:
    """narrow: look the rows up first; a LIMIT would tempt the planner to walk an order until it meets them."""
    if narrow:
        return inner.cte("page").prefix_with("MATERIALIZED", dialect="postgresql")
    return inner.subquery("page")


# -- order -------------------------------------------------------------------------------------------------------


def _expression(key: Key, row: FromClause) -> ColumnElement[Any]:
    found = row.c[key.by] if isinstance(key.by, str) else _side_value(key.by, row)
    if key.absent:
        return cast(case((found.is_(None), 1), else_=0), Integer)
    if key.filled:
        text = isinstance(key.by, SideValue) and key.by.table == "string"
        return func.coalesce(found, literal("") if text else literal(0, BigInteger))
    return found


def _side_value(asked: SideValue, row: FromClause) -> ColumnElement[Any]:
    table = SIDE[asked.table]
    column = table.c.lo_us if asked.table == "date" else table.c.value
    first = func.max(column) if asked.greatest else func.min(column)
    found = select(first).where(table.c.rid == row.c.rid, wanted(table.c.param_id, asked.parameters))
    return found.correlate(row).scalar_subquery()


def _ordering(asked: PageOf, columns: Sequence[ColumnElement[Any]]) -> list[Any]:
    """ORDER BY; the other way round for the page before."""
    return [
        column.desc() if key.descending == asked.forward else column.asc()
        for key, column in zip(asked.keys, columns, strict=True)
    ]


def _beyond(asked: PageOf, columns: Sequence[ColumnElement[Any]]) -> list[Condition]:
    """The row comes after the place (before it, when going back)."""
    if asked.place is None:
        return []
    place = [value(at, column.type) for at, column in zip(asked.place, columns, strict=True)]
    if len({key.descending for key in asked.keys}) == 1:  # one direction: a row comparison, which an index can serve
        left, right = tuple_(*columns), tuple_(*place)
        return [left < right if asked.keys[0].descending == asked.forward else left > right]
    alternatives = []
    for position, key in enumerate(asked.keys):
        column, bound = columns[position], place[position]
        equal = [columns[before] == place[before] for before in range(position)]
        alternatives.append(and_(*equal, column < bound if key.descending == asked.forward else column > bound))
    return [or_(*alternatives)]
