"""SearchPlan → SQLAlchemy conditions on resource. Every value is bound; no identifier comes from a client.

Tokens    an AND of single values is one  tokens @> array;  an OR is one  tokens && array  (a list of many values must
          not become many ORed terms: a well-known server hung on 113 of them)
Chains    tokens && array(select (target.tokens[1] # salt) & -256 | slot …): references are computed from their targets
_has      the same the other way: each token of the source is turned back into the target it would name
Patients  a reference that decides a resource's shard also demands that shard: then the index by shard answers
Access    every FROM resource in here, however deep, carries the access condition
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, and_, false, func, literal, or_, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY, array
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
    hasher: Hasher
    access: AccessPredicate

    def plan(self, plan: SearchPlan, row: FromClause) -> tuple[list[Clause], bool]:
        """Conditions of a plan on a row; and whether they should be looked up before any order is tried."""
        gathered = Clauses()
        if plan.request.compartment is not None:
            self._compartment(gathered, row, plan.request.compartment, plan.types)
        for condition in plan.conditions:
            self._add(gathered, row, plan.type_name, condition)
        clauses = [self.typed(row, plan.types), *self._closed(gathered, row), *self.seen(row, plan.types)]
        return clauses, gathered.narrow and not gathered.sharded

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
        else:
            to.others.append(compile_values.clause(self, row, criterion, parts))

    def _tokens(
        self, to: Clauses, row: FromClause, type_name: str, criterion: Criterion, parts: list[Parameter]
    ) -> None:
        if criterion.modifier == "below":
            to.others.append(compile_values.below(row, criterion, parts))
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
        found: list[Clause] = []
        tokens: list[Select[Any]] = []
        for name, condition in chain.links:
            target = resource.alias()
            clauses = self.inner(name, condition, target)
            if name == "Patient" and chain.parameter.code in shard_params_of(type_name):
                made = [self._token_of(target, part) for part in parts_of(chain.parameter)]
                joined = and_(target.c.shard == row.c.shard, *(row.c.tokens.contains(array([one])) for one in made))
                found.append(select(literal(1)).select_from(target).where(*clauses, joined).exists())
            else:
                tokens += [select(self._token_of(target, part)).where(*clauses) for part in parts_of(chain.parameter)]
        if tokens:
            to.narrow = True
            found.append(row.c.tokens.overlap(_array(tokens)))
        to.others.append(or_(*found))

    def _has(self, to: Clauses, row: FromClause, has: Has) -> None:
        source = resource.alias()
        clauses = self.inner(has.source, has.inner, source)
        if has.type_name == "Patient" and has.parameter.code in shard_params(has.source):
            tokens = [self._token_of(row, part) for part in parts_of(has.parameter)]
            joined = and_(source.c.shard == row.c.shard, *(source.c.tokens.contains(array([one])) for one in tokens))
            to.others.append(select(literal(1)).select_from(source).where(*clauses, joined).exists())
            return
        selects: list[Select[Any]] = []
        for part in parts_of(has.parameter):
            each = func.unnest(source.c.tokens).column_valued("each")
            named = each.bitwise_xor(self.hasher.salt(part.id)).bitwise_and(TARGET_MASK)
            of_slot = each.bitwise_and(SLOT_MASK) == part.slot
            selects.append(select(named).select_from(source).where(*clauses, of_slot).distinct())
        to.narrow = True
        to.others.append(row.c.tokens.overlap(_array(selects)))

    def _token_of(self, target: FromClause, part: Parameter) -> ColumnElement[int]:
        """Hasher.reference_to, in SQL: how a resource is named by the references of a parameter."""
        own = target.c.tokens[1]
        found: ColumnElement[int] = (
            own.bitwise_xor(self.hasher.salt(part.id)).bitwise_and(TARGET_MASK).bitwise_or(part.slot)
        )
        return found

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
