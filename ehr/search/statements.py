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
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    cast,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)

from ehr.database.connection import Connection, Row
from ehr.database.engine import compiled
from ehr.database.tables import PgSnapshot, change, resource, resource_history
from ehr.search import compile_coded, shape
from ehr.search.compile import conditions, visible
from ehr.search.compile_contained import inside
from ehr.search.compile_page import NOW, RID_MAX, columns_of, gathered, page_of
from ehr.search.compile_values import Condition, listed, partition, value
from ehr.search.found import COLUMNS
from ehr.search.shape_statements import (
    CountOf,
    EstimateOf,
    IdsOf,
    IncludedOf,
    MovedOf,
    PageOf,
    PlacesOf,
    RidsOf,
    Shape,
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
            return page_of(asked) if isinstance(asked, PageOf) else _moved(asked)
        case CountOf() | SinceOf():
            return _count(asked) if isinstance(asked, CountOf) else _since(asked)
        case EstimateOf(clauses, of):
            return select(ROWS[of].c.rid).where(*conditions(ROWS[of], clauses))
        case IdsOf(clauses, narrow, count):
            found = gathered(select(ROW.c.rid, ROW.c.id).where(*conditions(ROW, clauses)), narrow=narrow)
            return select(found.c.id).order_by(found.c.rid).limit(value(count, Integer()))
        case RidsOf() | PlacesOf():
            return _numbers(asked)
        case IncludedOf():
            return _included(asked)


def _included(asked: IncludedOf) -> Select[Any]:
    row = ROWS[asked.of]
    if not asked.each:
        return _first_included(asked, row, select(*columns_of(row)).where(*conditions(row, asked.clauses)))
    named = [(partition(name).alias(), clauses) for name, clauses in asked.each]
    places = [select(one.c.type_id, one.c.rid).where(*conditions(one, clauses)) for one, clauses in named]
    found = gathered(union_all(*places) if len(places) > 1 else places[0], narrow=True)
    chosen = _first_included(asked, found, select(found)).subquery("chosen")
    same = (row.c.type_id == chosen.c.type_id) & (row.c.rid == chosen.c.rid)
    rows = select(*columns_of(row)).join_from(chosen, row, same).where(*conditions(row, asked.clauses))
    return rows.order_by(chosen.c.type_id, chosen.c.rid)


def _first_included(asked: IncludedOf, of: FromClause, rows: Select[Any]) -> Select[Any]:
    places = of.c.type_id, of.c.rid
    if asked.place is not None:
        beyond = [value(at, column.type) for at, column in zip(asked.place, places, strict=True)]
        rows = rows.where(tuple_(*places) > tuple_(*beyond))
    return rows.order_by(*places).limit(value(asked.count, Integer()))


def _numbers(asked: RidsOf | PlacesOf) -> Select[Any]:
    if isinstance(asked, RidsOf):
        span = ROW.c.rid > value(asked.after, BigInteger()), ROW.c.rid <= value(asked.upto, BigInteger())
        return select(ROW.c.rid).where(*conditions(ROW, asked.clauses), *span)
    row = ROWS[asked.of]
    found = gathered(select(row.c.type_id, row.c.rid).where(*conditions(row, asked.clauses)), narrow=asked.narrow)
    places = select(found.c.type_id, found.c.rid, RID_MAX.label("rid_max"), NOW.label("snapshot"))
    return places.order_by(found.c.rid).limit(value(asked.count, Integer()))


def _count(asked: CountOf) -> Select[Any]:
    if isinstance(asked.clauses, shape.Listed):
        rows = _counted(asked.clauses)
    elif isinstance(asked.clauses, shape.Coded):
        rows = compile_coded.shards(asked.clauses)
    else:
        row = ROWS[asked.of] if asked.partition is None else partition(asked.partition).alias("r")
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
