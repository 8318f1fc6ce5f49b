"""Patients by a code of their resources → SQLAlchemy, over the index of codes and shards.

has       whether a resource with the code names the patient: one look at the index, and a row where there is one. Those
          that have the code beside another, first one are looked up by the token that says so, once a statement
is_among  the same of few: the shards of all who have it first
shards    of all resources with the code, each found from the one before: a patient's further ones are not read
shards_until  enough patients are met in them, in the order of the shards; and of those that have it beside another, all
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    Select,
    any_,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
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


@dataclass(frozen=True, slots=True)
class Until:
    """met: a row where a shard has a patient that counts, of whom count are wanted; begins: where the first may be."""

    met: Callable[[ColumnElement[int]], Select[int]]
    count: ColumnElement[int]
    begins: ColumnElement[int] | None
    forward: bool


def shards_until(coded: Coded, named: Named, until: Until) -> CompoundSelect[int]:
    source, later, other = (partition(coded.partition).alias() for _ in range(3))

    def beyond(one: FromClause) -> list[ColumnElement[bool]]:
        if until.begins is None:
            return []
        return [one.c.shard >= until.begins if until.forward else one.c.shard <= until.begins]

    def nearest(one: FromClause, *of: ColumnElement[bool]) -> Select[tuple[int]]:
        found = select(one.c.shard).where(_under(one, coded), named(one), *of)
        return found.order_by(one.c.shard if until.forward else one.c.shard.desc()).limit(_ONE)

    def met(shard: ColumnElement[int]) -> ColumnElement[int]:
        """Neither EXISTS nor IN, which become a table of all patients."""
        return case((until.met(shard).limit(_ONE).scalar_subquery().is_not(None), 1), else_=0)

    first = nearest(source, *beyond(source)).subquery()
    found = select(first.c.shard, met(first.c.shard).label("met")).cte("found", recursive=True)
    after = later.c.shard > found.c.shard if until.forward else later.c.shard < found.c.shard
    following = nearest(later, after).lateral()
    going_on = select(following.c.shard, found.c.met + met(following.c.shard))
    found = found.union_all(going_on.select_from(found.join(following, true())).where(found.c.met < until.count))
    return union_all(
        select(found.c.shard), select(other.c.shard).where(_beside(other, coded), named(other), *beyond(other))
    )


def _least(source: FromClause, coded: Coded, named: Named | None) -> Select[tuple[int]]:
    of = [] if named is None else [named(source)]
    return select(source.c.shard).where(_under(source, coded), *of).order_by(source.c.shard).limit(_ONE)


def _under(source: FromClause, coded: Coded) -> ColumnElement[bool]:
    first: Condition = source.c.tokens[CODE] == value(coded.first, BigInteger())
    return first


def _beside(source: FromClause, coded: Coded) -> Condition:
    further: Condition = source.c.tokens.contains(array([value(coded.further, BigInteger())]))
    return further
