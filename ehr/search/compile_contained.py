"""Contained resources as rows beside those of resource, and the conditions that only they have.

In:      the tables contained and resource; clauses Held, Foremost and NotAfter of ehr.search.shape
Out:     a select of rows with the columns that every condition reads, and container_type (null: nothing contains it)
Why so:  what is asked of a resource is asked of a contained one in the same words; PostgreSQL looks through the select
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    SmallInteger,
    and_,
    any_,
    cast,
    literal,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from ehr.database.index_tables import contained
from ehr.database.tables import resource
from ehr.index.contained import FIRST, PLACES
from ehr.search import shape
from ehr.search.compile_values import Condition, value
from ehr.search.found import CONTAINER
from ehr.search.terms import Rows

Conditions = Callable[[FromClause, Sequence[shape.Clause]], list[Condition]]

_COLUMNS: Final = ("type_id", "id", "rid", "shard", "updated", "date_lo_us", "date_hi_us", "tokens")
_PLACE_BITS: Final = PLACES.bit_length() - 1


def inside(of: Rows) -> Select[Any] | CompoundSelect[Any]:
    """Contained resources, or both kinds; the body of a contained one is in its container."""
    there = contained.alias()
    rows = select(
        *(there.c[name] for name in _COLUMNS), cast(null(), LargeBinary).label("body"), there.c.container_type
    )
    if of == "contained":
        return rows
    row = resource.alias()
    own = select(*(row.c[name] for name in _COLUMNS), row.c.body, cast(null(), SmallInteger).label(CONTAINER))
    return union_all(own, rows)


def condition(
    row: FromClause, clause: shape.NotAfter | shape.Held | shape.Foremost, conditions: Conditions
) -> Condition:
    match clause:
        case shape.NotAfter():
            return _not_after(row, clause)
        case shape.Held(types):
            of_type: Condition = row.c.container_type == any_(value(types, ARRAY(SmallInteger)))
            return or_(row.c.container_type.is_(None), of_type)
        case shape.Foremost():
            return _foremost(row, clause, conditions)


def _foremost(row: FromClause, clause: shape.Foremost, conditions: Conditions) -> Condition:
    """None of its neighbours before it, nor its container, is such a match itself."""
    other = inside("contained").subquery()
    siblings = other.c.rid >= row.c.rid.bitwise_and(-PLACES), other.c.rid < row.c.rid
    found = ~select(literal(1)).where(*siblings, *conditions(other, clause.clauses)).correlate(row).exists()
    if clause.own is None:
        return found
    whole = resource.alias()
    its = whole.c.rid == (row.c.rid - FIRST).bitwise_rshift(cast(_PLACE_BITS, Integer))
    return and_(found, ~select(literal(1)).where(its, *conditions(whole, clause.own)).correlate(row).exists())


def _not_after(row: FromClause, clause: shape.NotAfter) -> Condition:
    early: Condition = row.c.rid <= value(clause.rid_max, BigInteger())
    if clause.contained is None:
        return early
    first, last = (value(at, BigInteger()) for at in clause.contained)
    return or_(early, and_(row.c.rid >= first, row.c.rid < last))
