"""PageOf → SQLAlchemy: rows in order, found in the way the shape says.

straight   one walk of one index gives the page
looked up  places first, then the rows at the places of the page
passed     the first rows of an order, and of those the rows that are asked for
listed     what a side table lists, in the order of its numbers
coded      what the index of codes lists, and the few rows that it lists under another code
begun      in the order of dates, what began at a bound or later, and what began before it and lasts beyond
by shard   patients of a code's resources, found one from another
"""

from collections.abc import Sequence
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
    any_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, array

from ehr.database.tables import resource
from ehr.search import compile_coded, shape
from ehr.search.compile import conditions, named_in_its_shard
from ehr.search.compile_audit import noted
from ehr.search.compile_contained import inside
from ehr.search.compile_values import CODE, SIDE, Condition, begun, listed, partition, value, wanted
from ehr.search.found import COLUMNS, CONTAINER
from ehr.search.shape_statements import Key, PageOf, SideValue

NOW: Final = literal_column("(select pg_current_snapshot()::text)", Text)
RID_MAX: Final = literal_column("(select last_value from resource_rid)", BigInteger)


def _of(asked: PageOf, alias: str) -> FromClause:
    """The rows a page is made of."""
    if asked.of != "own":
        return inside(asked.of).subquery(alias)
    return (resource if asked.partition is None else partition(asked.partition)).alias(alias)


def page_of(asked: PageOf) -> Select[Any]:
    straight = not asked.narrow and not any(isinstance(key.by, SideValue) or key.filled for key in asked.keys)
    rows: Select[Any]
    if asked.keys[0].by == "shard":
        rows = _by_shard(asked)
    elif asked.coded is not None:
        rows = _coded(asked, asked.coded)
    elif asked.passing is not None:
        rows = _passed(asked, asked.passing)
    elif asked.narrow and (found := _sole_list(asked)):
        rows = _of_list(asked, found)
    elif straight and (since := _lower_bound(asked)):
        rows = _begun(asked, since)
    else:
        rows = _straight(asked) if straight else _looked_up(asked)
    if asked.noted is None:
        return rows
    shown = rows.cte("shown")
    order = _ordering(asked, _places(asked, shown))
    asker = [] if asked.asker is None else [value(asked.asker, Integer()).label("asker")]
    return select(shown, *asker).order_by(*order).add_cte(noted(asked.noted, shown, order))


def _straight(asked: PageOf) -> Select[Any]:
    """Ordered by columns: one walk of one index gives the page."""
    row = _of(asked, "r")
    places = [_expression(key, row) for key in asked.keys]
    labelled = [place.label(f"k{number}") for number, place in enumerate(places[:-1])]
    rows = select(*columns_of(row), *labelled, *_said(asked)).where(*conditions(row, asked.clauses))
    return _first_of(asked, rows, places)


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
        select(*columns_of(first), *(place.label(f"k{n}") for n, place in enumerate(again[:-1])), *_said(asked))
        .where(*conditions(first, [one for one in asked.clauses if one not in ordering]))
        .order_by(*_ordering(asked, again))
        .limit(value(asked.count, Integer()))
    )


def _coded(asked: PageOf, coded: tuple[shape.Slot, shape.Slot]) -> Select[Any]:
    """Two lists in one order, each no longer than the page."""
    first, further = value(coded[0], BigInteger()), array([value(coded[1], BigInteger())])
    row, other = _of(asked, "r"), _of(asked, "o")
    under_it = _keyed(asked, row).where(row.c.tokens[CODE] == first)
    beside = _keyed(asked, other).where(other.c.tokens.contains(further), other.c.tokens[CODE] != first)
    found = gathered(beside, narrow=True)
    lists = (
        _first_of(asked, under_it, [_expression(key, row) for key in asked.keys]),
        _first_of(asked, select(found), _places(asked, found)),
    )
    both = union_all(*(select(one.subquery()) for one in lists)).subquery("both")
    return _first_of(asked, select(both, *_said(asked)), _places(asked, both))


def _lower_bound(asked: PageOf) -> shape.MainDate | None:
    """Where the rows of an order by date begin; a patient's own are too few to need it."""
    if asked.keys[0].by != "date_lo_us" or any(isinstance(one, shape.Sharded) for one in asked.clauses):
        return None
    dates = [one for one in asked.clauses if isinstance(one, shape.MainDate)]
    return next((one for one in dates if len(one.values) == 1 and one.values[0].prefix in {"ge", "gt"}), None)


def _begun(asked: PageOf, since: shape.MainDate) -> Select[Any]:
    """Two lists in one order, each no longer than the page."""
    others = [one for one in asked.clauses if one is not since]
    lists: list[Select[Any]] = []
    for part, alias in enumerate(("r", "o")):
        row = _of(asked, alias)
        places = [_expression(key, row) for key in asked.keys]
        labelled = [place.label(f"k{number}") for number, place in enumerate(places[:-1])]
        within = begun(row.c.date_lo_us, row.c.date_hi_us, since.values[0])[part]
        rows = select(*columns_of(row), *labelled).where(*conditions(row, others), within)
        lists.append(_first_of(asked, rows, places))
    both = union_all(*(select(one.subquery()) for one in lists)).subquery("both")
    return _first_of(asked, select(both, *_said(asked)), _places(asked, both))


def _by_shard(asked: PageOf) -> Select[Any]:
    """Shards are found until enough patients are met; the first of them all are the page."""
    has = next(one for one in asked.clauses if isinstance(one, shape.Pointed))
    assert has.coded is not None, "only a code is found so"
    others = [one for one in asked.clauses if one is not has]
    row, met = _of(asked, "r"), _of(asked, "met")
    until = compile_coded.Until(
        lambda shard: select(literal(1)).where(
            met.c.shard == shard, *conditions(met, others), *_beyond(asked, [met.c.shard, met.c.rid])
        ),
        value(asked.count, Integer()),
        None if asked.place is None else value(asked.place[0], BigInteger()),
        asked.forward,
    )
    found = compile_coded.shards_until(has.coded, lambda source: named_in_its_shard(source, has), until)
    rows = select(*columns_of(row), row.c.shard.label("k0"), *_said(asked)).where(
        row.c.shard == any_(func.array(found.scalar_subquery(), type_=ARRAY(BigInteger))), *conditions(row, others)
    )
    return _first_of(asked, rows, [row.c.shard, row.c.rid])


def _keyed(asked: PageOf, row: FromClause) -> Select[Any]:
    """Rows with what they are ordered by, whatever their code is."""
    clauses = [one for one in asked.clauses if not isinstance(one, shape.Tokens)]
    labelled = [_expression(key, row).label(f"k{number}") for number, key in enumerate(asked.keys[:-1])]
    return select(*columns_of(row), *labelled).where(*conditions(row, clauses))


def _first_of(asked: PageOf, rows: Select[Any], places: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """Beyond the place of the page, as many as are asked for."""
    beyond = rows.where(*_beyond(asked, places)).order_by(*_ordering(asked, places))
    return beyond.limit(value(asked.count, Integer()))


def _places(asked: PageOf, of: FromClause) -> list[ColumnElement[Any]]:
    """What rows are ordered by, where it has been worked out."""
    return [*(of.c[f"k{number}"] for number in range(len(asked.keys) - 1)), of.c.rid]


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
        select(*columns_of(row), *_said(asked))
        .join_from(there, row, row.c.rid == there.c.rid)
        .where(*conditions(row, others), *_beyond(asked, [there.c.rid]))
        .order_by(*_ordering(asked, [there.c.rid]))
        .limit(value(asked.count, Integer()))
    )


def _looked_up(asked: PageOf) -> Select[Any]:
    """Places first, then the rows at the places of the page."""
    row, body = _of(asked, "r"), _of(asked, "body")
    found = {key.by: _found(key.by, row).label(f"v{number}") for number, key in enumerate(asked.keys[:-1])}
    rows = select(row.c.type_id, row.c.rid, *found.values()).where(*conditions(row, asked.clauses))
    if any(isinstance(by, SideValue) for by in found):  # else the planner looks a value up for each key it is in
        rows = rows.offset(literal_column("0", Integer))
    page = gathered(rows, narrow=asked.narrow)
    columns = [_place(key, page.c[found[key.by].name]).label(f"k{n}") for n, key in enumerate(asked.keys[:-1])]
    placed = select(page.c.type_id, page.c.rid, *columns).subquery("placed")
    chosen = _first_of(asked, select(placed), _places(asked, placed)).subquery("chosen")
    again = _places(asked, chosen)
    return (
        select(*columns_of(body), *again[:-1], *_said(asked))
        .join_from(chosen, body, (body.c.type_id == chosen.c.type_id) & (body.c.rid == chosen.c.rid))
        .where(*conditions(body, [asked.types]))
        .order_by(*_ordering(asked, again))
    )


def columns_of(row: FromClause) -> list[ColumnElement[Any]]:
    """The columns of a row that is found; of a contained one also what type contains it."""
    return [row.c[name] for name in (*COLUMNS, CONTAINER) if name in row.c]


def _said(asked: PageOf) -> list[ColumnElement[Any]]:
    """What every row of a page says of the page."""
    return [RID_MAX.label("rid_max"), *([NOW.label("snapshot")] if asked.dated else ())]


def gathered(inner: Select[Any] | CompoundSelect[Any], *, narrow: bool) -> FromClause:
    """narrow: look the rows up first; a LIMIT would tempt the planner to walk an order until it meets them."""
    if narrow:
        return inner.cte("page").prefix_with("MATERIALIZED", dialect="postgresql")
    return inner.subquery("page")


# -- order -------------------------------------------------------------------------------------------------------


def _expression(key: Key, row: FromClause) -> ColumnElement[Any]:
    return _place(key, _found(key.by, row))


def _found(by: str | SideValue, row: FromClause) -> ColumnElement[Any]:
    return row.c[by] if isinstance(by, str) else _side_value(by, row)


def _place(key: Key, found: ColumnElement[Any]) -> ColumnElement[Any]:
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
