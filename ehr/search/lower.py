"""SearchPlan → shape and values: every hash, bound and number a search needs, apart from what it asks.

Tokens    an AND of single values is one  tokens @> array;  an OR is one  tokens && array  (a list of many values must
          not become many ORed terms: a well-known server hung on 113 of them)
Chains    references are computed from their targets, or hashed targets looked up: ehr.search.probe decides
Patients  a reference that decides a resource's shard also demands that shard: then the index by shard answers
Access    every row of resource that is asked for in here, however deep, carries the access condition
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ehr.access.policy import AccessPredicate
from ehr.database.partitions import partition_name
from ehr.fhir import parameters
from ehr.fhir.compartments import members
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import Hasher
from ehr.search import lower_values, shards
from ehr.search.plan import SearchPlan
from ehr.search.shape import (
    Chained,
    Clause,
    Coded,
    Either,
    Foremost,
    Held,
    Identified,
    Never,
    OfPerson,
    Part,
    Pointed,
    Seen,
    Sharded,
    Stated,
    Tokens,
    Typed,
    Unlike,
    Updated,
    Values,
    Wanted,
)
from ehr.search.terms import (
    AllOf,
    AnyOf,
    Chain,
    Compartment,
    Condition,
    Criterion,
    Has,
    How,
    Ids,
    InList,
    Missing,
    Not,
    PerType,
    ReferenceValue,
    Rows,
    Selves,
)


@dataclass(slots=True)
class Gathered:
    """Conditions on one row of resource.

    every    hashes that must all be among its tokens
    others   everything else
    sharded  the shard is known: the planner needs no help
    narrow   a token few rows have, or rows the planner cannot count: look these up before any order is tried
    """

    every: list[int] = field(default_factory=list)
    others: list[Clause] = field(default_factory=list)
    sharded: bool = False
    narrow: bool = False


class Lowering(Struct, frozen=True):
    """For one caller. A search makes several: a struct, which takes a third of the time of a dataclass.

    broad  chains, _has and side-table criteria that many rows satisfy (ehr.search.probe)
    vast   chains and _has that more satisfy than fit in memory
    of     which resources: what holds only of those with an address, as their shards, is not used for others
    few    tokens of few resources, chains to few patients, _has by few resources: looked up before any order is tried
    inside chains to patients that some contained ones satisfy, too, which no shard tells
    counts all matches are wanted, and none of them first: what is vast is joined, not asked row by row
    lead   by what a first page is looked up, however many have it, where a pass of pass_rows rows (ehr.search.pace; 0:
           none is worth it) does not fill it; passing: this is the pass
    coded  the hashes by which the index of codes lists the rows, and others are found (ehr.search.coded)
    pointing  the same of the resources by which the one _has finds patients (ehr.search.coded_patients); by_shard: in
           the order of their shards, one from another
    """

    hasher: Hasher
    access: AccessPredicate
    broad: frozenset[Condition] = frozenset()
    vast: frozenset[Condition] = frozenset()
    few: tuple[Condition, ...] = ()
    of: Rows = "own"
    inside: frozenset[Condition] = frozenset()
    counts: bool = False
    lead: Condition | None = None
    pass_rows: int = 0
    passing: bool = False
    coded: tuple[int, int] | None = None
    pointing: tuple[int, int] | None = None
    by_shard: bool = False

    def plan(self, to: Values, plan: SearchPlan, *, each: bool = False) -> tuple[list[Clause], bool]:
        """Conditions of a plan on a row; and whether such rows should be looked up before any order is tried.

        each: every contained resource that matches, also where containers are shown
        """
        clauses, narrow = self._asked(to, plan)
        if self.of != "own":
            clauses += self._of_contained(to, plan, each=each)
        return clauses, narrow

    def _asked(self, to: Values, plan: SearchPlan) -> tuple[list[Clause], bool]:
        gathered = Gathered()
        if plan.request.compartment is not None:
            self._compartment(to, gathered, plan.request.compartment, plan.types)
        for condition in plan.conditions:
            self._add(to, gathered, plan.type_name, condition)
        clauses = [typed(to, plan.types), *self._closed(to, gathered), *self.seen(to, plan.types)]
        return clauses, gathered.narrow and not gathered.sharded and not self.passing

    def _of_contained(self, to: Values, plan: SearchPlan, *, each: bool) -> list[Clause]:
        """Only of what may be searched; and each container once, where containers are shown."""
        granted = [number for name, number in TYPE_IDS.items() if self.access.grants.allow(name, "s")]
        made: list[Clause] = [Held(to.add(granted))] if len(granted) < len(TYPE_IDS) else []
        if plan.request.contained_type == "container" and not each:
            own = tuple(self._asked(to, plan)[0]) if self.of == "both" else None
            made.append(Foremost(tuple(self._asked(to, plan)[0]), own))
        return made

    @property
    def depends(self) -> bool:
        """On what is in the store, beside the plan."""
        return bool(self.broad or self.vast or self.inside)

    def sharded(self, plan: SearchPlan) -> bool:
        """One patient's, or one person's, resources are searched; of anyone's the same."""
        of = plan.anyone or plan
        if of.kept.sharded is None:
            of.kept.sharded = self._sharded(of)
        return of.kept.sharded

    def _sharded(self, plan: SearchPlan) -> bool:
        if plan.request.compartment is not None and plan.request.compartment.name == "Person":
            return True
        return any(
            isinstance(condition, Criterion) and bool(self.shards_of(plan.type_name, condition))
            for condition in plan.conditions
        )

    def seen(self, to: Values, types: Iterable[str]) -> list[Clause]:
        """The access condition: a confined caller sees its person's shards, its Person, and open types."""
        person_id = self.access.person_id
        if person_id is None:
            return []
        names = set(types)
        if self.of == "own" and names <= self.access.open_types:
            return []
        open_names = names & self.access.open_types if self.of == "own" else self.access.open_types
        open_numbers = sorted(TYPE_IDS[name] for name in open_names)
        return [Seen(to.add(person_id), to.add(open_numbers) if open_numbers else None, "Person" in names)]

    def inner(self, to: Values, type_name: str, condition: Condition) -> tuple[Clause, ...]:
        """Conditions on a chained or pointing resource, its access included."""
        gathered = Gathered()
        self._add(to, gathered, type_name, condition)
        return (typed(to, [type_name]), *self._closed(to, gathered), *self.seen(to, [type_name]))

    def on_row(self, to: Values, type_name: str, condition: Condition) -> tuple[Clause, ...]:
        """Conditions on a row whose type and access are in the statement already."""
        gathered = Gathered()
        singly = replace(self, counts=False) if self.counts else self  # inside OR and NOT nothing can be joined
        singly._add(to, gathered, type_name, condition)
        return tuple(self._closed(to, gathered))

    def joins(self, type_name: str, condition: Chain | Has) -> bool:
        """A chain to patients, or _has of them, that the index by shard joins."""
        return self.of == "own" and shards.joins(type_name, condition)

    def _is_broad(self, condition: Condition) -> bool:
        return bool(self.broad) and condition in self.broad  # a condition's hash walks its parameter

    def _is_few(self, condition: Condition) -> bool:
        return any(one is condition for one in self.few)

    def _closed(self, to: Values, gathered: Gathered) -> list[Clause]:
        return [*([Tokens("all", to.add(gathered.every))] if gathered.every else []), *gathered.others]

    def _add(self, to: Values, gathered: Gathered, type_name: str, condition: Condition) -> None:
        match condition:
            case Ids(ids):
                gathered.others.append(Identified(wanted(to, ids)) if ids else Never())
            case Criterion():
                self._criterion(to, gathered, type_name, condition)
            case Chain():
                self._chain(to, gathered, type_name, condition)
            case Has() | InList():  # a list where nothing is read
                self._has(to, gathered, condition.has if isinstance(condition, InList) else condition)
            case Selves(references):
                tokens = [self.hasher.self_token(*one) for one in references]
                gathered.others.append(Tokens("any", to.add(tokens)))
            case Missing():
                self._missing(to, gathered, condition)
            case AllOf(conditions):
                for one in conditions:
                    self._add(to, gathered, type_name, one)
            case AnyOf(conditions):
                gathered.others.append(Either(tuple(self.on_row(to, type_name, one) for one in conditions)))
            case PerType(conditions=shared):
                self._per_type(to, gathered, shared)
            case Not(inner):
                gathered.others.append(Unlike(self.on_row(to, type_name, inner)))
            case _:
                gathered.others.append(Updated(tuple(lower_values.updated(to, one) for one in condition.values)))

    def _per_type(self, to: Values, gathered: Gathered, shared: Sequence[tuple[str, Condition]]) -> None:
        """Tokens of one parameter are of one type, so that one look-up answers an OR of plain criteria."""
        plain = [(name, one) for name, one in shared if isinstance(one, Criterion) and one.modifier in {"", "exact"}]
        if len(plain) < len(shared) or not all(lower_values.by_hash(one) for _, one in plain):
            each = [(typed(to, [name]), *self.on_row(to, name, one)) for name, one in shared]
            gathered.others.append(Either(tuple(each)))
            return
        found = [lower_values.hashes(self.hasher, one, parts_of(one.parameter)) for _, one in plain]
        gathered.others.append(Tokens("any", to.add([hash_ for each in found for hash_ in each])))
        gathered.narrow |= all(lower_values.is_narrow(one) for _, one in plain)
        shards = [self.shards_of(name, one) for name, one in plain]
        if all(shards):
            gathered.sharded = True
            gathered.others.append(Sharded(wanted(to, sorted({shard for each in shards for shard in each}))))

    def _missing(self, to: Values, gathered: Gathered, condition: Missing) -> None:
        if condition.parameter.code in {"_id", "_lastUpdated"}:  # never missing
            gathered.others += [Never()] if condition.missing else []
            return
        parts = stored_in(condition.parameter)
        present = [self.hasher.present(part.id) for part in parts]
        if condition.outlines is not None:
            gathered.others.append(Tokens("any", to.add([*present, *condition.outlines])))
        else:
            of_outlines = to.add([-part.id for part in parts])
            gathered.others.append(Stated(not condition.missing, of_outlines, to.add(present)))

    def _criterion(self, to: Values, gathered: Gathered, type_name: str, criterion: Criterion) -> None:
        parts = parts_of(criterion.parameter)
        if lower_values.by_hash(criterion):
            self._tokens(to, gathered, type_name, criterion, parts)
            return
        listed = lower_values.listed(to, self.hasher, criterion, parts)
        if listed is None:
            gathered.others.append(self._clause(to, criterion, parts))
        else:
            gathered.others.append(listed)
            gathered.narrow |= not self._is_broad(criterion)

    def _clause(self, to: Values, criterion: Criterion, parts: Sequence[Parameter]) -> Clause:
        """The main date, and composites."""
        if criterion.parameter.kind == "date":
            return lower_values.main_dates(to, criterion)
        found: list[tuple[Clause, ...]] = []
        for part in parts:
            if part.is_one_element:  # each component is read from one element, so an AND is exact
                found += [
                    tuple(one for each in components for one in self.on_row(to, part.type_name, each))
                    for components in lower_values.components(criterion, part)
                ]
            elif part.components[1].kind == "quantity":
                found.append((lower_values.measured_components(to, self.hasher, criterion, part),))
            elif pairs := lower_values.pairs(self.hasher, criterion, part):
                found.append((Tokens("any", to.add(pairs)),))
        if not found:
            return Never()
        return found[0][0] if len(found) == len(found[0]) == 1 else Either(tuple(found))

    def _tokens(
        self, to: Values, gathered: Gathered, type_name: str, criterion: Criterion, parts: Sequence[Parameter]
    ) -> None:
        if criterion.modifier == "below" and criterion.parameter.kind == "uri":
            gathered.others.append(lower_values.below(to, criterion, parts))
            return
        hashes = lower_values.hashes(self.hasher, criterion, parts)
        if criterion.modifier == "not":
            gathered.others += [Tokens("none", to.add(hashes))] if hashes else []
            return
        if not hashes:
            gathered.others.append(Never())
        elif len(hashes) == 1:
            gathered.every += hashes
        else:
            gathered.others.append(Tokens("any", to.add(hashes)))
        gathered.narrow |= lower_values.is_narrow(criterion) or self._is_few(criterion)
        shards = self.shards_of(type_name, criterion)
        if shards:
            gathered.sharded = True
            gathered.others.append(Sharded(wanted(to, shards)))

    def shards_of(self, type_name: str, criterion: Criterion) -> list[int]:
        """Shards a patient reference demands; none where it may also name something else."""
        if self.of != "own" or criterion.modifier or criterion.parameter.code not in shards.deciding(type_name):
            return []
        found = []
        for value in criterion.values:
            if not isinstance(value, ReferenceValue) or len(value.locals) != 1 or value.locals[0][0] != "Patient":
                return []
            found.append(self.hasher.shard(*value.locals[0]))
        return found

    def _chain(self, to: Values, gathered: Gathered, type_name: str, chain: Chain) -> None:
        how = self._how(type_name, chain)
        gathered.narrow |= how == "tokens" or self._is_few(chain)
        links = tuple(self.inner(to, name, condition) for name, condition in chain.links)
        types = typed(to, [type_name]) if how == "join" else None
        gathered.others.append(
            Chained(how, self._parts(to, chain.parameter), links, types, how == "inside" and self._is_few(chain))
        )

    def _how(self, type_name: str, condition: Chain | Has) -> How:
        if self.joins(type_name, condition):
            if self.passing and isinstance(condition, Has):
                return "each"
            return "inside" if self.inside and condition in self.inside else "shard"
        if self.vast and condition in self.vast:
            return "join" if self.counts and self.of == "own" and type_name != parameters.COMMON else "each"
        return "walk" if self._is_broad(condition) else "tokens"

    def _has(self, to: Values, gathered: Gathered, has: Has) -> None:
        how, few = self._how(has.type_name, has), self._is_few(has)
        gathered.narrow |= how == "tokens" or few
        clauses, coded = self.inner(to, has.source, has.inner), None
        if self.pointing is not None:
            first, further = self.pointing
            coded = Coded(partition_name(has.source), to.add(first), to.add(further))
        gathered.others.append(Pointed(how, self._parts(to, has.parameter), clauses, coded, few))

    def _parts(self, to: Values, parameter: Parameter) -> tuple[Part, ...]:
        return tuple(Part(to.add(self.hasher.salt(part.id)), to.add(part.slot)) for part in parts_of(parameter))

    def _compartment(self, to: Values, gathered: Gathered, compartment: Compartment, types: Sequence[str]) -> None:
        name, id_ = compartment.name, compartment.id
        if name == "Person":
            gathered.sharded = True
            gathered.others.append(OfPerson(to.add(id_)))
            return
        belonging = members(name)
        hashes = set()
        for type_name in types:
            for code in belonging.get(type_name, ()):
                for part in parts_of(parameters.of(type_name)[code]):
                    hashes.add(self.hasher.reference(part.id, part.slot, name, id_))
            if type_name == name:
                hashes.add(self.hasher.self_token(name, id_))
        if name == "Patient" and self.of == "own" and all(shards.of_one_patient(type_name) for type_name in types):
            gathered.sharded = True
            gathered.others.append(Sharded(wanted(to, [self.hasher.shard(name, id_)])))
        gathered.narrow = True
        gathered.others.append(Tokens("any", to.add(sorted(hashes))))


def wanted(to: Values, values: Sequence[Any]) -> Wanted:
    """One value as itself, several as a list."""
    return Wanted(to.add(values[0] if len(values) == 1 else list(values)), len(values) != 1)


def typed(to: Values, types: Sequence[str]) -> Typed:
    return Typed(wanted(to, [TYPE_IDS[name] for name in types]))


def parts_of(parameter: Parameter) -> Sequence[Parameter]:
    """The parameters that store its values."""
    if not parameter.union:
        return (parameter,)
    known = parameters.of(parameter.type_name)
    return [known[code] for code in parameter.union]


def stored_in(parameter: Parameter) -> Sequence[Parameter]:
    """The parameters that outlines say of whether it has a value: a filtered union is one of its own."""
    return (parameter,) if parameter.only else parts_of(parameter)
