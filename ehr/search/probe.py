"""How many rows stand behind each chain, _has and side-table criterion → a Lowering that knows.

Why:     a LIMIT tempts the planner to walk an order until it has met enough rows. Right for what most rows satisfy,
         ruinous for what few do; and it cannot see the size of a chain's far end. Counting to a thousand is cheap.
Order:   the far end first, so that a chain within a chain is already known
Not for: a search within one patient's shard, which is small
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import orjson

from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import Hasher
from ehr.search import lower_values
from ehr.search.lower import Lowering, is_named, parts_of, typed
from ehr.search.plan import SearchPlan
from ehr.search.shape import Clause, Never, Values
from ehr.search.shape_statements import CountOf, EstimateOf
from ehr.search.statements import sql_of
from ehr.search.terms import AllOf, AnyOf, Chain, Condition, Criterion, Has, InList, Not, PerType, Rows

if TYPE_CHECKING:
    from ehr.store.connection import Connection

NARROW_MAX: Final = 1_000
"""Up to here rows are looked up; above, an order is walked."""
PATIENTS_MAX: Final = 50
"""Some thousand resources of the busiest type."""
POINTING_MAX: Final = 5_000
"""Resources by which _has finds patients: to look through all of a patient's costs as much as looking up forty."""
GATHERED_MAX: Final = 5_000
"""Rows of a token that are looked up, about five milliseconds, before any order is tried."""
USES_MAX: Final = 1_000
KEPT_MAX: Final = 8_192
BROAD_MAX: Final = 100_000
"""Self tokens that fit a hash table of the default work_mem with room to spare; of more each row is asked by itself."""


PATIENTS_INSIDE_S: Final = 1.0
"""So long nobody looks again whether a store that contained no Patient contains one now."""
_PATIENT_INSIDE: Final = "select exists (select 1 from contained where type_id = $1)"


async def lowering_of(connection: "Connection", plan: SearchPlan, hasher: Hasher) -> Lowering:
    lowering = Lowering(hasher, plan.access, of=plan.request.contained)
    sharded = lowering.sharded(plan)
    for condition in plan.conditions:
        if sharded and isinstance(condition, Criterion):
            continue
        if isinstance(condition, Criterion) and lower_values.by_hash(condition):
            if (
                plan.request.count
                and lowering.of == "own"
                and not condition.modifier
                and not lower_values.is_narrow(condition)
            ):
                lowering = await _probed_tokens(connection, lowering, plan, condition)
            continue
        lowering = await _probed(connection, lowering, plan.type_name, condition)
    return lowering


async def _probed_tokens(
    connection: "Connection", lowering: Lowering, plan: SearchPlan, criterion: Criterion
) -> Lowering:
    """The planner takes the resources with a code for spread evenly over any order; those of a season, or of a device
    that came last year, lie together, and the walk to them is long. Where they are few, to look them up is never long.
    """
    asked = lowering.hasher, id(criterion)
    hashes = plan.kept.tokens.get(asked)
    if hashes is None:
        found = lower_values.hashes(lowering.hasher, criterion, parts_of(criterion.parameter))
        hashes = plan.kept.tokens[asked] = tuple(found)
    key = plan.types, hashes
    known = _rows_of.get(key)
    if known is None or known.uses >= USES_MAX:
        if len(_rows_of) >= KEPT_MAX:
            _rows_of.clear()
        to = Values()
        clauses = (typed(to, plan.types), *lowering.on_row(to, plan.type_name, criterion))
        known = _rows_of[key] = _Expected(await _estimated(connection, clauses, to))
    known.uses += 1
    return replace(lowering, few=(*lowering.few, criterion)) if known.rows <= GATHERED_MAX else lowering


@dataclass(slots=True)
class _Expected:
    rows: int
    uses: int = 0


_rows_of: Final[dict[tuple[tuple[str, ...], tuple[int, ...]], _Expected]] = {}
"""Types and keyed hashes → how many rows the planner expects: asked again after so many uses, as the store grows."""


async def _probed(connection: "Connection", lowering: Lowering, type_name: str, condition: Condition) -> Lowering:
    if isinstance(condition, InList):
        condition = condition.has
    if isinstance(condition, Criterion):
        return await _probed_list(connection, lowering, condition)
    ends: Sequence[tuple[str, Condition]]
    if isinstance(condition, Chain):
        ends, joined = condition.links, lowering.joins(type_name, condition)
    elif isinstance(condition, AllOf | AnyOf | Not | PerType):
        for name, inner in _inside(type_name, condition):
            lowering = await _probed(connection, lowering, name, inner)
        return lowering
    elif isinstance(condition, Has):
        ends, joined = [(condition.source, condition.inner)], lowering.joins(type_name, condition)
    else:
        return lowering
    for name, inner in ends:
        lowering = await _probed(connection, lowering, name, inner)
    if joined:
        return await _probed_patients(connection, lowering, condition, ends)
    of: Rows = "both" if isinstance(condition, Chain) else "own"
    if await _count_far(connection, lowering, ends, NARROW_MAX, of) > NARROW_MAX:
        vast = await _count_far(connection, lowering, ends, BROAD_MAX, of) > BROAD_MAX
        lowering = replace(lowering, vast=lowering.vast | {condition}) if vast else _with(lowering, condition)
    return lowering


def _inside(type_name: str, condition: AllOf | AnyOf | Not | PerType) -> Sequence[tuple[str, Condition]]:
    if isinstance(condition, PerType):
        return condition.conditions
    return [(type_name, one) for one in _conditions(condition)]


def _conditions(condition: AllOf | AnyOf | Not) -> Sequence[Condition]:
    return (condition.condition,) if isinstance(condition, Not) else condition.conditions


async def _probed_patients(
    connection: "Connection", lowering: Lowering, condition: Chain | Has, ends: Sequence[tuple[str, Condition]]
) -> Lowering:
    """Patients are joined by shard. What few of them have is little; of many, an order meets enough soon."""
    if (
        isinstance(condition, Chain)
        and await contains_patients(connection, lowering.hasher)
        and await _count_far(connection, lowering, ends, 0, "contained")
    ):
        lowering = replace(lowering, inside=lowering.inside | {condition})
    if isinstance(condition, Has):
        few = await _expected(connection, lowering, *ends[0]) <= POINTING_MAX
    else:
        few = is_named(condition) or await _count_far(connection, lowering, ends, PATIENTS_MAX, "own") <= PATIENTS_MAX
    return replace(lowering, few=(*lowering.few, condition)) if few else lowering


async def contains_patients(connection: "Connection", hasher: Hasher) -> bool:
    """Whether any resource contains a Patient: in most stores none ever does, and a chain to patients costs no more."""
    known, now_s = _patients_inside.get(hasher), asyncio.get_running_loop().time()
    if known is None or (not known.there and not 0 <= now_s - known.at_s < PATIENTS_INSIDE_S):
        there = await connection.fetchval(_PATIENT_INSIDE, TYPE_IDS["Patient"])
        known = _patients_inside[hasher] = _Inside(bool(there), now_s)
    return known.there


@dataclass(frozen=True, slots=True)
class _Inside:
    there: bool
    at_s: float


_patients_inside: Final[dict[Hasher, _Inside]] = {}


async def _expected(connection: "Connection", lowering: Lowering, name: str, inner: Condition) -> int:
    """How many resources the planner expects: of tokens it knows the frequent ones, and counting them costs more."""
    to = Values()
    return await _estimated(connection, lowering.inner(to, name, inner), to)


async def _estimated(connection: "Connection", clauses: tuple[Clause, ...], to: Values) -> int:
    sql = sql_of(EstimateOf(clauses))
    explained = await connection.fetchval(sql.text, *sql.arguments(to))
    return int(orjson.loads(explained)[0]["Plan"]["Plan Rows"])


async def _probed_list(connection: "Connection", lowering: Lowering, criterion: Criterion) -> Lowering:
    """What a side table lists; tokens and main dates are the planner's to judge."""
    if lower_values.by_hash(criterion):
        return lowering
    to = Values()
    listed = lower_values.listed(to, lowering.hasher, criterion, parts_of(criterion.parameter))
    if listed is None or isinstance(listed, Never):
        return lowering
    counted = await _count(connection, CountOf(listed, to.add(NARROW_MAX + 1)), to)
    return _with(lowering, criterion) if counted > NARROW_MAX else lowering


async def _count_far(
    connection: "Connection",
    lowering: Lowering,
    ends: Iterable[tuple[str, Condition]],
    count_max: int,
    of: Rows,
) -> int:
    """Resources at the far ends, counted to one above the bound. Only a chain no shard joins looks inside others."""
    total = 0
    for name, inner in ends:
        to = Values()
        clauses = lowering.inner(to, name, inner)
        total += await _count(connection, CountOf(clauses, to.add(count_max + 1 - total), of), to)
        if total > count_max:
            break
    return total


async def _count(connection: "Connection", asked: CountOf, values: Values) -> int:
    sql = sql_of(asked)
    return int(await connection.fetchval(sql.text, *sql.arguments(values)))


def _with(lowering: Lowering, condition: Condition) -> Lowering:
    return replace(lowering, broad=lowering.broad | {condition})
