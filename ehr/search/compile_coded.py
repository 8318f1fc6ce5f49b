"""Patients by a code of their resources → SQLAlchemy, over the index of codes and shards.

has       whether a resource with the code names the patient: one look at the index, and a row where there is one. Those
          that have the code beside another, first one are looked up by the token that says so, once a statement
is_among  the same of few: the shards of all who have it first
shards    of all resources with the code, each found from the one before: a patient's further ones are not read
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    any_,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, array

from ehr.search.compile_values import CODE, Condition, partition, value
from ehr.search.shape import Coded

Named = Callable[[FromClause], Condition]
"""Whether a resource names the patient whose shard it is in."""
_ONE: Final = literal_column("1", Integer)


def has(row: FromClause, coded: Coded, named: Named) -> Condition:
    source, other = partition(coded.partition).alias(), partition(coded.partition).alias()
    first = select(literal(1)).where(_under(source, coded), source.c.shard == row.c.shard, named(source))
    beside = select(other.c.shard).where(_beside(other, coded), named(other))
    # EXISTS would become a join, or a table of all that have the code
    return or_(first.limit(_ONE).correlate(row).scalar_subquery().is_not(None), row.c.shard.in_(beside))


def is_among(row: FromClause, coded: Coded, named: Named) -> Condition:
    """The same, where the shards of all who have it are found before any row is."""
    other = partition(coded.partition).alias()
    both = union_all(shards(coded, named), select(other.c.shard).where(_beside(other, coded), named(other)))
    found: Condition = row.c.shard == any_(func.array(both.scalar_subquery(), type_=ARRAY(BigInteger)))
    return found


def shards(coded: Coded, named: Named | None = None) -> Select[tuple[int]]:
    """Of those that have it as their first coding."""
    source, later = partition(coded.partition).alias(), partition(coded.partition).alias()
    found = select(_least(source, coded, named).subquery().c.shard).cte(recursive=True)
    following = _least(later, coded, named).where(later.c.shard > found.c.shard).correlate(found).scalar_subquery()
    found = found.union_all(select(following).where(found.c.shard.is_not(None)))
    return select(found.c.shard).where(found.c.shard.is_not(None))


def _least(source: FromClause, coded: Coded, named: Named | None) -> Select[tuple[int]]:
    of = [] if named is None else [named(source)]
    return select(source.c.shard).where(_under(source, coded), *of).order_by(source.c.shard).limit(_ONE)


def _under(source: FromClause, coded: Coded) -> ColumnElement[bool]:
    first: Condition = source.c.tokens[CODE] == value(coded.first, BigInteger())
    return first


def _beside(source: FromClause, coded: Coded) -> Condition:
    further: Condition = source.c.tokens.contains(array([value(coded.further, BigInteger())]))
    return further
