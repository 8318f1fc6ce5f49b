"""SearchRequest + AccessPredicate → SearchPlan. Pure: says what may be looked at before any SQL exists.

Out:     SearchPlan: types to search, conditions with only granted types in them, includes with only granted targets
Errors:  Forbidden  a type that is searched, chained through or asked to point here is not granted "s";
                    an explicit include that may show nothing ("r")
Why:     a count or a chain through a type tells what is in it, so it needs the grant as much as reading it does
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from ehr.access.policy import AccessPredicate, Action
from ehr.errors import Forbidden
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter, Parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.anyone import Anyone, First
from ehr.search.terms import Chain, Condition, Criterion, Has, Include, ReferenceValue, SearchRequest, rebuilt

if TYPE_CHECKING:
    from ehr.index.hashing import Hasher
    from ehr.search.lower import Lowering

PLANS_MAX: Final = 8
"""Of one request: callers that ask the same have few different rights."""


@dataclass(frozen=True, slots=True)
class IncludeStep:
    """One include as it will be run: the reference parameters of one source type, and the types it may show."""

    reverse: bool
    source: str
    parameters: tuple[Parameter, ...]
    targets: frozenset[str]
    iterate: bool


class Kept(Struct, eq=False):
    """firsts: statements of first pages with their values; tokens: hashes of criteria, of each installation; name: what
    cursors call it; settled: whether one plan of the server serves all values (ehr.search.settled); sharded: whether
    it searches one patient's, or one person's, resources (ehr.search.lower); lowered: how it is found, of each
    installation, and since when that is known (ehr.search.lowered)."""

    firsts: dict[tuple[Any, ...], First] = {}
    tokens: dict[tuple[Any, ...], tuple[int, ...]] = {}
    name: str | None = None
    settled: bool | None = None
    sharded: bool | None = None
    lowered: "dict[Hasher, tuple[Lowering, float]]" = {}


class SearchPlan(Struct, frozen=True, eq=False):
    """What compile turns into SQL.

    types       the types searched, never empty
    conditions  an AND
    kept        what was worked out of it before
    anyone      the plan it was made of, with the id of a patient
    """

    request: SearchRequest
    access: AccessPredicate
    types: tuple[str, ...]
    conditions: tuple[Condition, ...]
    includes: tuple[IncludeStep, ...]
    anyone: "SearchPlan | None" = None
    kept: Kept = field(default_factory=Kept)

    @property
    def type_name(self) -> str:
        """The one type whose parameters are used; "Resource" for several."""
        return self.types[0] if len(self.types) == 1 else parameters.COMMON


def plan(request: SearchRequest, access: AccessPredicate) -> SearchPlan:
    """Worked out once for these rights, as long as the request is kept."""
    for made in request.plans:
        if made.access is access or made.access == access:
            return made
    made = _plan(request, access) if request.anyone is None else _of_patient(request, request.anyone, access)
    if len(request.plans) >= PLANS_MAX:
        request.plans.clear()
    request.plans.append(made)
    return made


def _of_patient(request: SearchRequest, anyone: Anyone, access: AccessPredicate) -> SearchPlan:
    made = plan(anyone.request, access)
    conditions = list(made.conditions)
    conditions[anyone.condition] = request.conditions[anyone.condition]
    return SearchPlan(request, access, made.types, tuple(conditions), made.includes, made)


def _plan(request: SearchRequest, access: AccessPredicate) -> SearchPlan:
    if request.type_name is not None or (request.types and request.compartment is None):
        types = request.types
        for name in types:
            _require(access, name, "s")
    else:
        types = _granted(access, request.types or TYPE_IDS, "s")
        if not types:
            raise Forbidden("the token grants no search")
    conditions = tuple(_condition(one, access) for one in request.conditions)
    includes = tuple(step for include in request.includes for step in _include(request.known, include, types, access))
    return SearchPlan(request, access, tuple(types), conditions, includes)


def _require(access: AccessPredicate, type_name: str, action: Action) -> None:
    if not access.grants.allow(type_name, action):
        raise Forbidden(f"the token does not grant {action!r} on {type_name}", at=type_name)


def _granted(access: AccessPredicate, names: Iterable[str], action: Action) -> tuple[str, ...]:
    return tuple(name for name in names if access.grants.allow(name, action))


def _condition(condition: Condition, access: AccessPredicate) -> Condition:
    if isinstance(condition, Chain):
        if condition.typed:
            _require(access, condition.links[0][0], "s")
        allowed = set(_granted(access, [name for name, _ in condition.links], "s"))
        if not allowed:
            raise Forbidden(f"the token grants no type that {condition.parameter.code} points to")
        links = tuple((name, _condition(inner, access)) for name, inner in condition.links if name in allowed)
        return replace(condition, links=links)
    if isinstance(condition, Has):
        _require(access, condition.source, "s")
    if isinstance(condition, Criterion) and isinstance(condition.values[0], ReferenceValue) and condition.modifier:
        for name in {name for value in condition.values for name, _ in getattr(value, "locals", ())}:
            _require(access, name, "s")  # :above and :below walk among them
    return rebuilt(condition, lambda inner: _condition(inner, access))


def _include(table: Parameters, include: Include, types: Iterable[str], access: AccessPredicate) -> list[IncludeStep]:
    """One step a source type; a wildcard becomes every reference of it."""
    if include.source != "*":
        sources: tuple[str, ...] = (include.source,)
    else:
        sources = tuple(TYPE_IDS) if include.reverse or include.iterate else tuple(types)
    made = []
    for source in sources:
        known = table.of(source)
        every = (one for one in known.values() if _followed(one, known))
        found = (include.parameter,) if include.parameter else tuple(every)
        step = _step(include, source, found, access)
        if step.targets and step.parameters:
            made.append(step)
    if not made and include.parameter is not None:
        raise Forbidden(f"the token grants nothing that {include.source}:{include.parameter.code} could show")
    return made


def _step(include: Include, source: str, found: tuple[Parameter, ...], access: AccessPredicate) -> IncludeStep:
    pointed = {name for one in found for name in (TYPE_IDS if "*" in one.targets else one.targets)}
    if include.target is not None:
        pointed &= {include.target}
    if include.reverse:
        shown = pointed if access.grants.allow(source, "s") else set()
        return IncludeStep(True, source, found, frozenset(shown), include.iterate)
    return IncludeStep(False, source, found, frozenset(_granted(access, pointed, "r")), include.iterate)


def _followed(parameter: Parameter, known: Mapping[str, Parameter]) -> bool:
    """References stored as such: unions repeat others, but for one that points to more; canonicals are not followed."""
    if parameter.kind != "reference" or all(path.type != "Reference" for path in parameter.paths):
        return False
    return not parameter.union or any(
        not any(known[code].may_target(name) for code in parameter.union) for name in parameter.targets
    )
