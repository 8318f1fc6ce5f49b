"""How many rows stand behind each chain, _has and side-table criterion → a Compiler that knows.

Why:     a LIMIT tempts the planner to walk an order until it has met enough rows. Right for what most rows satisfy,
         ruinous for what few do; and it cannot see the size of a chain's far end. Counting to a thousand is cheap.
Order:   the far end first, so that a chain within a chain is already known
Not for: a search within one patient's shard, which is small
Errors:  TooMuch   a chain with more than BROAD_MAX resources at its far end (Patients are joined by shard, unbounded)
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Select, func, literal, select

from ehr.database.engine import compiled
from ehr.database.tables import resource
from ehr.errors import TooMuch
from ehr.index.hashing import Hasher
from ehr.search import compile_values
from ehr.search.compile import Compiler, by_shard, has_by_shard, parts_of
from ehr.search.plan import SearchPlan
from ehr.search.terms import Chain, Condition, Criterion, Has

if TYPE_CHECKING:
    from ehr.store.connection import Connection

NARROW_MAX: Final = 1_000
"""Up to here rows are looked up; above, an order is walked."""
BROAD_MAX: Final = 100_000
"""Self tokens that fit a hash table of the default work_mem with room to spare."""


async def compiler_of(connection: "Connection", plan: SearchPlan, hasher: Hasher) -> Compiler:
    compiler = Compiler(hasher, plan.access)
    sharded = compiler.sharded(plan)
    for condition in plan.conditions:
        if sharded and isinstance(condition, Criterion):
            continue
        compiler = await _probed(connection, compiler, plan.type_name, condition)
    return compiler


async def _probed(connection: "Connection", compiler: Compiler, type_name: str, condition: Condition) -> Compiler:
    if isinstance(condition, Criterion):
        rids = compile_values.rids(compiler.hasher, condition, parts_of(condition.parameter))
        if rids is not None and await _count(connection, [rids], NARROW_MAX) > NARROW_MAX:
            return _with(compiler, condition)
        return compiler
    ends: Iterable[tuple[str, Condition]]
    if isinstance(condition, Chain):
        ends, joined = condition.links, by_shard(type_name, condition)
    elif isinstance(condition, Has):
        ends, joined = [(condition.source, condition.inner)], has_by_shard(condition)
    else:
        return compiler
    for name, inner in ends:
        compiler = await _probed(connection, compiler, name, inner)
    if joined:
        return compiler
    far = [_far(compiler, name, inner) for name, inner in ends]
    if await _count(connection, far, NARROW_MAX) <= NARROW_MAX:
        return compiler
    if await _count(connection, far, BROAD_MAX) > BROAD_MAX:
        text = f"more than {BROAD_MAX} resources stand behind {condition.parameter.code}; narrow it down"
        raise TooMuch(text, at=condition.parameter.code)
    return _with(compiler, condition)


def _far(compiler: Compiler, type_name: str, condition: Condition) -> Select[Any]:
    target = resource.alias()
    return select(literal(1)).select_from(target).where(*compiler.inner(type_name, condition, target))


def _with(compiler: Compiler, condition: Condition) -> Compiler:
    return replace(compiler, broad=compiler.broad | {condition})


async def _count(connection: "Connection", rows: list[Select[Any]], count_max: int) -> int:
    """Rows of all selects, counted to one above the bound."""
    total = 0
    for one in rows:
        limited = one.limit(count_max + 1 - total).subquery()
        made = compiled(select(func.count()).select_from(limited))
        total += int(await connection.fetchval(made.sql, *made.args))
        if total > count_max:
            break
    return total
