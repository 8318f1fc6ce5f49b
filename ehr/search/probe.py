"""How many rows stand behind each chain, _has and side-table criterion → a Lowering that knows.

Why:     a LIMIT tempts the planner to walk an order until it has met enough rows. Right for what most rows satisfy,
         ruinous for what few do; and it cannot see the size of a chain's far end. Counting to a thousand is cheap.
Order:   the far end first, so that a chain within a chain is already known
Not for: a search within one patient's shard, which is small
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import Hasher
from ehr.search import expect, lower_values, pace
from ehr.search.lower import Lowering, parts_of
from ehr.search.plan import SearchPlan
from ehr.search.shape import Never, Values
from ehr.search.shape_statements import CountOf
from ehr.search.statements import sql_of
from ehr.search.terms import AllOf, AnyOf, Chain, Condition, Criterion, Has, Ids, InList, Not, PerType, Rows

if TYPE_CHECKING:
    from ehr.database.connection import Connection

NARROW_MAX: Final = 1_000
"""Up to here rows are looked up; above, an order is walked."""
PATIENTS_MAX: Final = 50
"""Some thousand resources of the busiest type."""
BROAD_MAX: Final = 100_000
"""Self tokens that fit a hash table of the default work_mem with room to spare; of more each row is asked by itself."""


PATIENTS_INSIDE_S: Final = 1.0
"""So long nobody looks again whether a store that contained no Patient contains one now."""
_PATIENT_INSIDE: Final = "select exists (select 1 from contained where type_id = $1)"


async def lowering_of(connection: "Connection", plan: SearchPlan, hasher: Hasher) -> Lowering:
    lowering = Lowering(hasher, plan.access, of=plan.request.contained)
    sharded = lowering.sharded(plan)
    if not sharded and pace.may_pass(lowering, plan):
        return await pace.paced(connection, lowering, plan)
    for condition in plan.conditions:
        if sharded and isinstance(condition, Criterion):
            continue
        if isinstance(condition, Criterion) and lower_values.by_hash(condition):
            if plan.request.count and lowering.of == "own" and pace.is_plain(condition):
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
    rows = await expect.rows_of(connection, lowering, plan, plan.types, criterion)
    return replace(lowering, few=(*lowering.few, criterion)) if rows <= pace.GATHERED_MAX else lowering


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
        to = Values()
        few = await expect.rows(connection, lowering.inner(to, *ends[0]), to) <= pace.POINTING_MAX
    else:
        few = _is_named(condition) or await _count_far(connection, lowering, ends, PATIENTS_MAX, "own") <= PATIENTS_MAX
    return replace(lowering, few=(*lowering.few, condition)) if few else lowering


def _is_named(chain: Chain) -> bool:
    """The far end is named by id or identifier, which few resources share."""
    inner = chain.links[0][1]
    return isinstance(inner, Ids) or (
        isinstance(inner, Criterion)
        and inner.parameter.kind in {"token", "reference", "uri"}
        and not inner.modifier
        and lower_values.is_narrow(inner)
    )


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
