"""How many rows the planner expects: it knows the frequent tokens, and asking it costs less than counting.

Keeps:   per process, what it expected of tokens and of types, for KEPT_S: a store may grow tenfold in an hour
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from ehr.database.partitions import partition_name
from ehr.index.hashing import Hasher
from ehr.search import lower_values
from ehr.search.lower import Lowering, parts_of, typed
from ehr.search.plan import SearchPlan
from ehr.search.shape import Clause, Coded, Tokens, Values
from ehr.search.shape_statements import CountOf, EstimateOf
from ehr.search.statements import sql_of
from ehr.search.terms import Criterion

if TYPE_CHECKING:
    from ehr.database.connection import Connection

KEPT_S: Final = 300.0
KEPT_MAX: Final = 8_192


@dataclass(frozen=True, slots=True)
class _Expected:
    rows: int
    at_s: float


_Key = tuple[Hasher, tuple[str, ...], tuple[int, ...]]
"""Installation, types and keyed hashes; without hashes all rows of the types."""
_rows_of: Final[dict[_Key, _Expected]] = {}


def _kept(key: _Key, rows: int, now_s: float) -> _Expected:
    if len(_rows_of) >= KEPT_MAX:
        _rows_of.clear()
    made = _rows_of[key] = _Expected(rows, now_s)
    return made


async def rows_of(
    connection: "Connection",
    lowering: Lowering,
    plan: SearchPlan,
    types: tuple[str, ...],
    criterion: Criterion | None = None,
) -> int:
    """Resources of these types, those with one of the criterion's tokens where there is one."""
    key = lowering.hasher, types, () if criterion is None else _hashes(lowering, plan, criterion)
    known, now_s = _rows_of.get(key), asyncio.get_running_loop().time()
    if known is None or now_s - known.at_s >= KEPT_S:
        to = Values()
        name = types[0] if len(types) == 1 else plan.type_name
        on_row = () if criterion is None else lowering.on_row(to, name, criterion)
        known = _kept(key, await rows(connection, (typed(to, types), *on_row), to), now_s)
    return known.rows


async def counted(connection: "Connection", hasher: Hasher, types: tuple[str, ...], token: int, rows_max: int) -> int:
    """Resources of these types that have a token, up to a bound: of rare ones the planner knows too little."""
    key = hasher, types, (token,)
    known, now_s = _rows_of.get(key), asyncio.get_running_loop().time()
    if known is None or now_s - known.at_s >= KEPT_S:
        to = Values()
        asked = CountOf((typed(to, types), Tokens("all", to.add([token]))), to.add(rows_max))
        sql = sql_of(asked)
        known = _kept(key, await connection.fetchval(sql.text, *sql.arguments(to)), now_s)
    return known.rows


async def patients(connection: "Connection", hasher: Hasher, source: str, token: int, patients_max: int) -> int:
    """Patients with a resource of this type that has the token as its first coding's, up to a bound."""
    key = hasher, (source, "Patient"), (token,)
    known, now_s = _rows_of.get(key), asyncio.get_running_loop().time()
    if known is None or now_s - known.at_s >= KEPT_S:
        to = Values()
        coded = Coded(partition_name(source), to.add(token), to.add(token))
        sql = sql_of(CountOf(coded, to.add(patients_max)))
        known = _kept(key, await connection.fetchval(sql.text, *sql.arguments(to)), now_s)
    return known.rows


def _hashes(lowering: Lowering, plan: SearchPlan, criterion: Criterion) -> tuple[int, ...]:
    asked = lowering.hasher, id(criterion)
    hashes = plan.kept.tokens.get(asked)
    if hashes is None:
        found = lower_values.hashes(lowering.hasher, criterion, parts_of(criterion.parameter))
        hashes = plan.kept.tokens[asked] = tuple(found)
    return hashes


async def rows(connection: "Connection", clauses: tuple[Clause, ...], to: Values) -> int:
    sql = sql_of(EstimateOf(clauses))
    explained = await connection.fetchval(sql.text, *sql.arguments(to))
    return int(orjson.loads(explained)[0]["Plan"]["Plan Rows"])
