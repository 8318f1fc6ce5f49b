"""Conditions of a shape → SQLAlchemy. Every value is a bound parameter; no identifier comes from a client.

In:      clauses of ehr.search.shape, and the row of resource they are asked of
Chains    tokens && array(select (target.tokens[1] # salt) & -256 | slot …): references are computed from their targets,
          those with an address and those inside the resource itself
_has      the same the other way: each token of the source is turned back into the target it would name
Broad     where many resources stand behind a chain, their self tokens are hashed, and rows are walked in order; where
          they are too many for that, what each row refers to is looked up
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    Select,
    SmallInteger,
    Text,
    and_,
    any_,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, array

from ehr.database.tables import C_TEXT, PgSnapshot, person_link, resource, term
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import TARGET_MASK
from ehr.search import compile_coded, compile_contained, shape
from ehr.search.compile_values import Condition, dated, listed, updated, value, wanted
from ehr.search.found import CONTAINER

PERSON: Final = TYPE_IDS["Person"]
SLOT_MASK: Final = 255


def conditions(row: FromClause, clauses: Iterable[shape.Clause]) -> list[Condition]:
    """An AND."""
    return [condition(row, one) for one in clauses]


def condition(row: FromClause, clause: shape.Clause) -> Condition:
    made: Condition
    match clause:
        case shape.Never():
            made = false()
        case shape.Typed(types):
            made = wanted(row.c.type_id, types)
        case shape.Identified(ids):
            made = wanted(row.c.id, ids)
        case shape.Tokens() | shape.Stated():
            made = _tokens(row, clause) if isinstance(clause, shape.Tokens) else _stated(row, clause)
        case shape.Listed():
            made = row.c.rid.in_(listed(clause))
        case shape.MainDate(values):
            low, high = row.c.date_lo_us, row.c.date_hi_us
            made = and_(low.is_not(None), or_(*(dated(low, high, one, main=True) for one in values)))
        case shape.Updated(values):
            made = or_(*(updated(row.c.updated, one) for one in values))
        case shape.HasDate(there):
            made = row.c.date_lo_us.is_not(None) if there else row.c.date_lo_us.is_(None)
        case shape.Unchanged() | shape.From() | shape.Numbered():
            made = _stored(row, clause)
        case shape.NotAfter() | shape.Held() | shape.Foremost():
            made = compile_contained.condition(row, clause, conditions)
        case shape.Either() | shape.Unlike():
            made = _joined(row, clause)
        case _:
            made = _related(row, clause)
    return made


def _joined(row: FromClause, clause: shape.Either | shape.Unlike) -> Condition:
    if isinstance(clause, shape.Either):
        return or_(*(and_(*conditions(row, one)) for one in clause.alternatives))
    return not_(func.coalesce(and_(*conditions(row, clause.clauses)), false()))


def _stored(row: FromClause, clause: shape.Unchanged | shape.From | shape.Numbered) -> Condition:
    """When a row was stored, from whom, or under which number."""
    made: Condition
    match clause:
        case shape.Unchanged(since):
            made = visible(row.c.xid, since)
        case shape.From(source):
            made = row.c.source == value(source, Integer())
        case shape.Numbered(rids):
            made = row.c.rid == any_(value(rids, ARRAY(BigInteger)))
    return made


def visible(xid: ColumnElement[Any], snapshot: shape.Slot) -> Condition:
    """What a transaction wrote was there for this snapshot."""
    seen: Condition = func.pg_visible_in_snapshot(xid, cast(value(snapshot, Text()), PgSnapshot()))
    return seen


Related = shape.Sharded | shape.OfPerson | shape.Seen | shape.Chained | shape.Pointed


def _related(row: FromClause, clause: Related) -> Condition:
    """By patient, by person, and by references."""
    match clause:
        case shape.Sharded(shards):
            return wanted(row.c.shard, shards)
        case shape.OfPerson(person):
            of_person: Condition = row.c.shard == _shard_of(person)
            return of_person
        case shape.Seen():
            return _seen(row, clause)
        case shape.Chained():
            return _chained(row, clause)
        case shape.Pointed():
            return _pointed(row, clause)


def _tokens(row: FromClause, clause: shape.Tokens) -> Condition:
    hashes = value(clause.hashes, ARRAY(BigInteger))
    if clause.which == "all":
        held: Condition = row.c.tokens.contains(hashes)
        return held
    found: Condition = row.c.tokens.overlap(hashes)
    return found if clause.which == "any" else ~found


def _stated(row: FromClause, clause: shape.Stated) -> Condition:
    """The outlines are asked for in the same statement, so that none is written between the question and the rows."""
    of_parameters = term.c.param_id == any_(value(clause.parameters, ARRAY(Integer)))
    outlines = func.array(select(cast(term.c.value, BigInteger)).where(of_parameters).scalar_subquery())
    found: Condition = row.c.tokens.overlap(func.array_cat(outlines, value(clause.hashes, ARRAY(BigInteger))))
    return found if clause.there else ~found


def _seen(row: FromClause, clause: shape.Seen) -> Condition:
    """A contained resource is seen by who sees its container."""
    allowed: list[Condition] = [row.c.shard == _shard_of(clause.person)]
    container = row.c.get(CONTAINER)
    if clause.open_types is not None:
        stored = row.c.type_id if container is None else func.coalesce(container, row.c.type_id)
        allowed.append(stored == any_(value(clause.open_types, ARRAY(SmallInteger))))
    if clause.own:
        itself = [row.c.type_id == PERSON, row.c.id == value(clause.person, C_TEXT)]
        allowed.append(and_(*itself, *([] if container is None else [container.is_(None)])))
    return or_(*allowed)


def _shard_of(person: shape.Slot) -> Any:
    """Any shard of the person, as the links are at this moment."""
    found = select(person_link.c.shard).where(person_link.c.person_id == value(person, C_TEXT))
    return func.any(func.array(found.scalar_subquery()))


# -- references --------------------------------------------------------------------------------------------------


def _chained(row: FromClause, chain: shape.Chained) -> Condition:
    if chain.how == "shard":
        target = resource.alias()
        found = select(target.c.shard).where(*conditions(target, chain.links[0]))
        named = [_names(row, row.c.shard.bitwise_and(TARGET_MASK), part) for part in chain.parts]
        return and_(row.c.shard.in_(found), or_(*named))
    if chain.how == "inside":
        return _names_or_contains(row, chain)
    if chain.how == "join":
        return or_(
            *(row.c.rid.in_(_rows_that_name(part, chain.types, link)) for link in chain.links for part in chain.parts)
        )
    tokens: list[Select[Any]] = []
    others: list[Condition] = []
    for link in chain.links:
        for part in chain.parts:
            targets = resource.alias(), compile_contained.inside("contained").subquery()
            if chain.how == "each":
                others += [_names_one_that(row, part, target, conditions(target, link)) for target in targets]
                continue
            ends = [(target.c.tokens[1], conditions(target, link)) for target in targets]
            if chain.how == "walk":
                others.append(_names_one_of(row, part, union_all(*(select(own).where(*each) for own, each in ends))))
            else:
                tokens += [select(_token_of(own, part)).where(*each) for own, each in ends]
    return or_(*others) if others else row.c.tokens.overlap(_array(tokens))


def _pointed(row: FromClause, has: shape.Pointed) -> Condition:
    if has.coded is not None:
        ask = compile_coded.is_among if has.few else compile_coded.has
        return ask(row, has.coded, lambda source: named_in_its_shard(source, has))
    if has.how == "shard":
        source = resource.alias()
        named = named_in_its_shard(source, has)
        return row.c.shard.in_(select(source.c.shard).where(*conditions(source, has.clauses), named))
    if has.how == "each":
        return or_(*(_is_named_by_one_that(row, part, has.clauses) for part in has.parts))
    selects: list[Select[Any]] = []
    for part in has.parts:
        source = resource.alias()
        each = func.unnest(source.c.tokens).column_valued()
        of_slot = each.bitwise_and(SLOT_MASK) == value(part.number, BigInteger())
        clauses = conditions(source, has.clauses)
        selects.append(select(_target_of(each, part)).select_from(source).where(*clauses, of_slot).distinct())
    if has.how == "join":
        return row.c.tokens[1].in_(selects[0] if len(selects) == 1 else union_all(*selects))
    if has.how == "walk":
        return or_(*(func.coalesce(row.c.tokens[1].in_(one), false()) for one in selects))
    found: Condition = row.c.tokens.overlap(_array(selects))
    return found


def named_in_its_shard(source: FromClause, has: shape.Pointed) -> Condition:
    """A resource names the patient whose shard it is in."""
    return or_(*(_names(source, source.c.shard.bitwise_and(TARGET_MASK), part) for part in has.parts))


def _names(row: FromClause, self_token: ColumnElement[int], part: shape.Part) -> Condition:
    """The row refers by this parameter to the resource with this self token, which is in the same shard.

    Nearly always true there; written so that the planner takes it for that (tokens @> it takes for 1 in 200).
    """
    found: ColumnElement[int | None] = func.array_position(row.c.tokens, _token_of(self_token, part))
    return found.is_not(None)


def _names_one_of(row: FromClause, part: shape.Part, targets: CompoundSelect[Any]) -> Condition:
    """The same of many: they are hashed once, and the row's tokens looked up among them.

    coalesce keeps the planner from turning IN into a join, whose order a LIMIT would tempt it to get wrong.
    """
    each = func.unnest(row.c.tokens).column_valued()
    of_slot = each.bitwise_and(SLOT_MASK) == value(part.number, BigInteger())
    hashed = func.coalesce(_target_of(each, part).in_(targets), false())
    return select(literal(1)).where(of_slot, hashed).correlate(row).exists()


def _names_or_contains(row: FromClause, chain: shape.Chained) -> Condition:
    """A patient, as its shard tells, or one that the row itself contains."""
    target, part_of_it = resource.alias(), compile_contained.inside("contained").subquery()
    found = select(target.c.shard).where(*conditions(target, chain.links[0]))
    in_shard: Condition = row.c.shard == any_(func.array(found.scalar_subquery()))
    if not chain.few:
        in_shard = found.where(target.c.shard == row.c.shard).correlate(row).exists()
    named = [_names(row, row.c.shard.bitwise_and(TARGET_MASK), part) for part in chain.parts]
    clauses = conditions(part_of_it, chain.links[0])
    tokens = [select(_token_of(part_of_it.c.tokens[1], part)).where(*clauses) for part in chain.parts]
    return or_(and_(in_shard, or_(*named)), row.c.tokens.overlap(_array(tokens)))


def _rows_that_name(part: shape.Part, types: shape.Typed | None, link: tuple[shape.Clause, ...]) -> Select[Any]:
    """All of them: tokens are matched with targets as two tables are, so that neither need fit in memory."""
    source = resource.alias()
    each = func.unnest(source.c.tokens).column_valued()
    of_slot = each.bitwise_and(SLOT_MASK) == value(part.number, BigInteger())
    targets = resource.alias(), compile_contained.inside("contained").subquery()
    named = union_all(*(select(one.c.tokens[1]).where(*conditions(one, link)) for one in targets))
    of_types = [] if types is None else conditions(source, [types])
    return select(source.c.rid).select_from(source).where(*of_types, of_slot, _target_of(each, part).in_(named))


def _names_one_that(row: FromClause, part: shape.Part, target: FromClause, clauses: list[Condition]) -> Condition:
    """The same where they are too many to be hashed: each row's own are looked up."""
    each = func.unnest(row.c.tokens).column_valued()
    of_slot = each.bitwise_and(SLOT_MASK) == value(part.number, BigInteger())
    named = _target_of(each, part)
    itself = target.c.tokens.contains(array([named])), target.c.tokens[1] == named
    found = select(literal(1)).where(of_slot, *itself, *clauses)
    return func.coalesce(found.correlate(row).exists(), false())


def _is_named_by_one_that(row: FromClause, part: shape.Part, clauses: tuple[shape.Clause, ...]) -> Condition:
    """Counted, because the planner takes what names a row for so many that a sequential scan soon meets one."""
    source = resource.alias()
    names = source.c.tokens.contains(array([_token_of(row.c.tokens[1], part)]))
    found = select(func.count()).where(names, *conditions(source, clauses))
    return found.correlate(row).scalar_subquery() > 0


def _target_of(token: ColumnElement[int], part: shape.Part) -> ColumnElement[int]:
    """Hasher.target, in SQL."""
    return token.bitwise_xor(value(part.salt, BigInteger())).bitwise_and(TARGET_MASK)


def _token_of(self_token: ColumnElement[int], part: shape.Part) -> ColumnElement[int]:
    """Hasher.reference_to, in SQL: how a resource is named by the references of a parameter."""
    salted = self_token.bitwise_xor(value(part.salt, BigInteger()))
    return salted.bitwise_and(TARGET_MASK).bitwise_or(value(part.number, BigInteger()))


def _array(selects: list[Select[Any]]) -> Any:
    """array(select …): computed once a statement; its elements are then looked up in the GIN index."""
    chosen = selects[0].scalar_subquery() if len(selects) == 1 else union_all(*selects).scalar_subquery()
    return func.array(chosen, type_=ARRAY(BigInteger))
