"""SearchPlan → SQLAlchemy conditions on resource. Every value is bound; no identifier comes from a client.

Tokens    an AND of single values is one  tokens @> array;  an OR is one  tokens && array  (a list of many values must
          not become many ORed terms: a well-known server hung on 113 of them)
Chains    tokens && array(select (target.tokens[1] # salt) & -256 | slot …): references are computed from their targets
_has      the same the other way: each token of the source is turned back into the target it would name
Broad     where many resources stand behind a chain, their self tokens are hashed, and rows are walked in order
Patients  a reference that decides a resource's shard also demands that shard: then the index by shard answers
Access    every FROM resource in here, however deep, carries the access condition
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, and_, false, func, literal, or_, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.selectable import NamedFromClause

from ehr.access.policy import AccessPredicate
from ehr.database.tables import person_link, resource
from ehr.fhir import parameters
from ehr.fhir.compartments import PATIENT_TYPES, members, shard_params
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import TARGET_MASK, Hasher
from ehr.search import compile_values
from ehr.search.plan import SearchPlan
from ehr.search.terms import Chain, Compartment, Condition, Criterion, Has, Ids, Missing, ReferenceValue, Updated

Clause = ColumnElement[bool]
PERSON: Final = TYPE_IDS["Person"]
SLOT_MASK: Final = 255


@dataclass
class Clauses:
    """Conditions on one row of resource, gathered.

    every    hashes that must all be among its tokens
    others   everything else
    sharded  the shard is known: the planner needs no help
    narrow   a token few rows have, or rows the planner cannot count: look these up before any order is tried
    """

    every: list[int] = field(default_factory=list)
    others: list[Clause] = field(default_factory=list)
    sharded: bool = False
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Compiler:
    """broad: chains, _has and side-table criteria that many rows satisfy (ehr.search.probe)."""

    hasher: Hasher
    access: AccessPredicate
    broad: frozenset[Condition] = frozenset()

    def plan(self, plan: SearchPlan, row: FromClause) -> tuple[list[Clause], bool]:
        """Conditions of a plan on a row; and whether they should be looked up before any order is tried."""
        gathered = Clauses()
        if plan.request.compartment is not None:
            self._compartment(gathered, row, plan.request.compartment, plan.types)
        for condition in plan.conditions:
            self._add(gathered, row, plan.type_name, condition)
        clauses = [self.typed(row, plan.types), *self._closed(gathered, row), *self.seen(row, plan.types)]
        return clauses, gathered.narrow and not gathered.sharded

    def sharded(self, plan: SearchPlan) -> bool:
        """One patient's, or one person's, resources are searched."""
        if plan.request.compartment is not None and plan.request.compartment.name == "Person":
            return True
        return any(
            isinstance(condition, Criterion) and bool(self._shards_of(plan.type_name, condition))
            for condition in plan.conditions
        )

    def typed(self, row: FromClause, types: Iterable[str]) -> Clause:
        numbers = [TYPE_IDS[name] for name in types]
        return row.c.type_id == numbers[0] if len(numbers) == 1 else row.c.type_id.in_(numbers)

    def seen(self, row: FromClause, types: Iterable[str]) -> list[Clause]:
        """The access condition: a confined caller sees its person's shards, its Person, and open types."""
        person_id = self.access.person_id
        if person_id is None:
            return []
        names = set(types)
        if names <= self.access.open_types:
            return []
        allowed: list[Clause] = [row.c.shard == func.any(func.array(_shards(person_id)))]
        open_numbers = sorted(TYPE_IDS[name] for name in names & self.access.open_types)
        if open_numbers:
            allowed.append(row.c.type_id.in_(open_numbers))
        if "Person" in names:
            allowed.append(and_(row.c.type_id == PERSON, row.c.id == person_id))
        return [or_(*allowed)]

    def inner(self, type_name: str, condition: Condition, row: FromClause) -> list[Clause]:
        """Conditions on a chained or pointing resource, its access included."""
        gathered = Clauses()
        self._add(gathered, row, type_name, condition)
        return [self.typed(row, [type_name]), *self._closed(gathered, row), *self.seen(row, [type_name])]

    def _closed(self, gathered: Clauses, row: FromClause) -> list[Clause]:
        return [*([row.c.tokens.contains(gathered.every)] if gathered.every else []), *gathered.others]

    def _add(self, to: Clauses, row: FromClause, type_name: str, condition: Condition) -> None:
        match condition:
            case Ids(ids):
                to.others.append(row.c.id.in_(ids) if ids else false())
            case Updated(values):
                to.others.append(or_(*(compile_values.updated(row.c.updated, value) for value in values)))
            case Missing():
                self._missing(to, row, condition)
            case Criterion():
                self._criterion(to, row, type_name, condition)
            case Chain():
                self._chain(to, row, type_name, condition)
            case Has():
                self._has(to, row, condition)

    def _missing(self, to: Clauses, row: FromClause, condition: Missing) -> None:
        if condition.parameter.code in {"_id", "_lastUpdated"}:  # never missing
            to.others += [false()] if condition.missing else []
            return
        own = condition.parameter
        parts = [own] if own.only else parts_of(own)  # a filtered union is stored with a presence of its own
        present = row.c.tokens.overlap([self.hasher.present(part.id) for part in parts])
        to.others.append(~present if condition.missing else present)

    def _criterion(self, to: Clauses, row: FromClause, type_name: str, criterion: Criterion) -> None:
        parts = parts_of(criterion.parameter)
        kind = criterion.parameter.kind
        if kind in {"token", "reference", "uri"} or criterion.modifier == "exact":
            self._tokens(to, row, type_name, criterion, parts)
            return
        rids = compile_values.rids(self.hasher, criterion, parts)
        if rids is None:
            to.others.append(compile_values.clause(self, row, criterion, parts))
        else:
            to.others.append(row.c.rid.in_(rids))
            to.narrow |= criterion not in self.broad

    def _tokens(
        self, to: Clauses, row: FromClause, type_name: str, criterion: Criterion, parts: list[Parameter]
    ) -> None:
        if criterion.modifier == "below":
            to.others.append(row.c.rid.in_(compile_values.below(criterion, parts)))
            return
        hashes = compile_values.hashes(self.hasher, criterion, parts)
        if criterion.modifier == "not":
            to.others += [~row.c.tokens.overlap(hashes)] if hashes else []
            return
        if not hashes:
            to.others.append(false())
        elif len(hashes) == 1:
            to.every += hashes
        else:
            to.others.append(row.c.tokens.overlap(hashes))
        to.narrow |= compile_values.is_narrow(criterion)
        shards = self._shards_of(type_name, criterion)
        if shards:
            to.sharded = True
            to.others.append(row.c.shard == shards[0] if len(shards) == 1 else row.c.shard.in_(shards))

    def _shards_of(self, type_name: str, criterion: Criterion) -> list[int]:
        """Shards a patient reference demands; none where it may also name something else."""
        if criterion.modifier or criterion.parameter.code not in shard_params_of(type_name):
            return []
        found = []
        for value in criterion.values:
            if not isinstance(value, ReferenceValue) or len(value.locals) != 1 or value.locals[0][0] != "Patient":
                return []
            found.append(self.hasher.shard(*value.locals[0]))
        return found

    def _chain(self, to: Clauses, row: FromClause, type_name: str, chain: Chain) -> None:
        parts = parts_of(chain.parameter)
        if by_shard(type_name, chain):
            target = resource.alias()
            found = select(target.c.shard).where(*self.inner("Patient", chain.links[0][1], target))
            named = [self._names(row, row.c.shard.bitwise_and(TARGET_MASK), part) for part in parts]
            to.others += [row.c.shard.in_(found), or_(*named)]
            return
        broad = chain in self.broad
        tokens: list[Select[Any]] = []
        others: list[Clause] = []
        for name, condition in chain.links:
            for part in parts:
                target = resource.alias()
                clauses = self.inner(name, condition, target)
                if broad:
                    others.append(self._names_one_of(row, part, select(target.c.tokens[1]).where(*clauses)))
                else:
                    tokens.append(select(self._token_of(target.c.tokens[1], part)).where(*clauses))
        if tokens:
            others.append(row.c.tokens.overlap(_array(tokens)))
        to.narrow |= not broad
        to.others.append(or_(*others))

    def _has(self, to: Clauses, row: FromClause, has: Has) -> None:
        parts = parts_of(has.parameter)
        if has_by_shard(has):
            source = resource.alias()
            named = [self._names(source, source.c.shard.bitwise_and(TARGET_MASK), part) for part in parts]
            clauses = self.inner(has.source, has.inner, source)
            to.others.append(row.c.shard.in_(select(source.c.shard).where(*clauses, or_(*named))))
            return
        selects: list[Select[Any]] = []
        for part in parts:
            source = resource.alias()
            each = func.unnest(source.c.tokens).column_valued()
            of_slot = each.bitwise_and(SLOT_MASK) == part.slot
            clauses = self.inner(has.source, has.inner, source)
            selects.append(select(self._target_of(each, part)).select_from(source).where(*clauses, of_slot).distinct())
        if has in self.broad:
            to.others.append(or_(*(func.coalesce(row.c.tokens[1].in_(one), false()) for one in selects)))
            return
        to.narrow = True
        to.others.append(row.c.tokens.overlap(_array(selects)))

    def _names(self, row: FromClause, self_token: ColumnElement[int], part: Parameter) -> Clause:
        """The row refers by this parameter to the resource with this self token, which is in the same shard.

        Nearly always true there; written so that the planner takes it for that (tokens @> it takes for 1 in 200).
        """
        found: ColumnElement[int | None] = func.array_position(row.c.tokens, self._token_of(self_token, part))
        return found.is_not(None)

    def _names_one_of(self, row: FromClause, part: Parameter, targets: Select[Any]) -> Clause:
        """The same of many: they are hashed once, and the row's tokens looked up among them.

        coalesce keeps the planner from turning IN into a join, whose order a LIMIT would tempt it to get wrong.
        """
        each = func.unnest(row.c.tokens).column_valued()
        of_slot = each.bitwise_and(SLOT_MASK) == part.slot
        hashed = func.coalesce(self._target_of(each, part).in_(targets), false())
        return select(literal(1)).where(of_slot, hashed).correlate(row).exists()

    def _target_of(self, token: ColumnElement[int], part: Parameter) -> ColumnElement[int]:
        """Hasher.target, in SQL."""
        return token.bitwise_xor(self.hasher.salt(part.id)).bitwise_and(TARGET_MASK)

    def _token_of(self, self_token: ColumnElement[int], part: Parameter) -> ColumnElement[int]:
        """Hasher.reference_to, in SQL: how a resource is named by the references of a parameter."""
        salted = self_token.bitwise_xor(self.hasher.salt(part.id))
        return salted.bitwise_and(TARGET_MASK).bitwise_or(part.slot)

    def _compartment(self, to: Clauses, row: FromClause, compartment: Compartment, types: Iterable[str]) -> None:
        name, id_ = compartment.name, compartment.id
        if name == "Person":
            to.sharded = True
            to.others.append(row.c.shard == func.any(func.array(_shards(id_))))
            return
        belonging = members(name)
        hashes = set()
        for type_name in types:
            for code in belonging.get(type_name, ()):
                for part in parts_of(parameters.of(type_name)[code]):
                    hashes.add(self.hasher.reference(part.id, part.slot, name, id_))
            if type_name == name:
                hashes.add(self.hasher.self_token(name, id_))
        if name == "Patient" and all(_one_patient(type_name) for type_name in types):
            to.sharded = True
            to.others.append(row.c.shard == self.hasher.shard(name, id_))
        to.narrow = True
        to.others.append(row.c.tokens.overlap(sorted(hashes)))


def parts_of(parameter: Parameter) -> list[Parameter]:
    """The parameters that store its values."""
    if not parameter.union:
        return [parameter]
    known = parameters.of(parameter.type_name)
    return [known[code] for code in parameter.union]


def by_shard(type_name: str, chain: Chain) -> bool:
    """A chain to the patient that decides the shard: the index by shard joins it."""
    return (
        len(chain.links) == 1 and chain.links[0][0] == "Patient" and chain.parameter.code in shard_params_of(type_name)
    )


def has_by_shard(has: Has) -> bool:
    return has.type_name == "Patient" and has.parameter.code in shard_params_of(has.source)


def shard_params_of(type_name: str) -> frozenset[str]:
    return shard_params(type_name) if type_name in PATIENT_TYPES else frozenset()


def _one_patient(type_name: str) -> bool:
    """Every membership parameter of the type is the one that decides its shard."""
    codes = members("Patient").get(type_name, ())
    return type_name == "Patient" or (bool(codes) and set(codes) <= shard_params_of(type_name))


def _shards(person_id: str) -> Any:
    return select(person_link.c.shard).where(person_link.c.person_id == person_id).scalar_subquery()


def _array(selects: list[Select[Any]]) -> Any:
    """array(select …): computed once a statement; its elements are then looked up in the GIN index."""
    chosen = selects[0].scalar_subquery() if len(selects) == 1 else union_all(*selects).scalar_subquery()
    return func.array(chosen, type_=ARRAY(BigInteger))


__all__ = ["Clause", "Compiler", "NamedFromClause", "parts_of"]
