"""SearchPlan → one page of resources, read in one transaction of the caller.

Out:     Page: matches in order, included, total where asked for, cursors of the pages beside it
Keeps:   pages neither overlap nor shift while others write: a page begins after a row, not after a number of rows,
         and rows made after the first page was read stay out
Limits:  an include that is over limits.include_count_max shortens the page; the next link goes on from there
Errors:  Invalid (cursor), Unavailable (statement timeout, by the caller's edge)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from sqlalchemy import BigInteger, Column, FromClause, Select, func, literal_column, select

from ehr.database.engine import compiled
from ehr.database.tables import resource
from ehr.errors import Issue
from ehr.index.hashing import Hasher
from ehr.search import include, probe
from ehr.search.compile import Clause, Compiler
from ehr.search.cursor import Cursor, opened, sealed, search_hash
from ehr.search.found import Bodies, Found, found_of
from ehr.search.order import WITH_DATE, Key, Order, beyond, order_of, ordering
from ehr.search.plan import SearchPlan

if TYPE_CHECKING:
    from ehr.database.engine import Installation
    from ehr.store.connection import Connection, Row

ESTIMATE_EXACT_MAX: Final = 1_000
"""_total=estimate counts up to here, then asks the planner."""

COLUMNS: Final = ("type_id", "id", "version", "updated", "rid", "shard", "body")
ROW: Final = resource.alias("r")
BODY: Final = resource.alias("body")
"""Made once: an alias of a wide table costs more than the rest of a statement."""
RID_MAX: Final = literal_column("(select last_value from resource_rid)", BigInteger)


@dataclass(slots=True)
class Page:
    matches: list[Found] = field(default_factory=list)
    included: list[Found] = field(default_factory=list)
    total: int | None = None
    next_cursor: str | None = None
    previous_cursor: str | None = None
    issues: list[Issue] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A row with its place in the order."""

    row: "Row"
    phase: int | None
    keys: list[Any]


@dataclass(slots=True)
class _Search:
    """One search while it runs."""

    connection: "Connection"
    plan: SearchPlan
    compiler: Compiler
    cursor: Cursor | None
    rid_max: int | None = None

    def clauses(self, row: FromClause, phase: int | None = None) -> tuple[list[Clause], bool]:
        """What a row must satisfy; and whether such rows are looked up before any order is tried."""
        clauses, narrow = self.compiler.plan(self.plan, row)
        if phase is not None:
            clauses.append(row.c.date_lo_us.is_not(None) if phase == WITH_DATE else row.c.date_lo_us.is_(None))
        if self.rid_max is not None:
            clauses.append(row.c.rid <= self.rid_max)
        return clauses, narrow

    async def rows(self, count: int) -> list[_Placed]:
        """At most count rows beyond the cursor, in the order asked (backwards for a previous page)."""
        row = ROW
        order = order_of(self.plan, row)
        forward = self.cursor.forward if self.cursor else True
        phases = order.phases if forward else order.phases[::-1]
        if self.cursor and len(phases) > 1:
            phases = phases[phases.index(self.cursor.phase) :]
        found: list[_Placed] = []
        for phase in phases:
            started = self.cursor if self.cursor and (len(order.phases) == 1 or phase == self.cursor.phase) else None
            statement = self._statement(row, order, phase, started, count - len(found), forward=forward)
            for one in await self._fetch(statement):
                keys = [one[f"k{number}"] for number in range(len(order.of_phase(phase)) - 1)]
                found.append(_Placed(one, phase, order.values(phase, keys)))
            if len(found) >= count:
                break
        return found

    def _statement(
        self, row: FromClause, order: Order, phase: int | None, started: Cursor | None, count: int, *, forward: bool
    ) -> Select[Any]:
        keys = order.of_phase(phase)
        clauses, narrow = self.clauses(row, phase)
        if not narrow and all(isinstance(key.expression, Column) for key in keys):
            return self._straight(row, keys, clauses, started, count, forward=forward)
        columns = [key.expression.label(f"k{number}") for number, key in enumerate(keys[:-1])]
        page = _gathered(select(row.c.type_id, row.c.rid, *columns).where(*clauses), narrow=narrow)
        places = [*(page.c[f"k{number}"] for number in range(len(keys) - 1)), page.c.rid]
        placed = select(page).order_by(*ordering(keys, places, forward=forward)).limit(count)
        if started is not None:
            placed = placed.where(beyond(keys, places, [*started.keys, started.rid], forward=forward))
        chosen = placed.subquery("chosen")
        again = [*(chosen.c[f"k{number}"] for number in range(len(keys) - 1)), chosen.c.rid]
        return (
            select(*(BODY.c[name] for name in COLUMNS), *again[:-1], RID_MAX.label("rid_max"))
            .join_from(chosen, BODY, (BODY.c.type_id == chosen.c.type_id) & (BODY.c.rid == chosen.c.rid))
            .where(self.compiler.typed(BODY, self.plan.types))
            .order_by(*ordering(keys, again, forward=forward))
        )

    def _straight(
        self,
        row: FromClause,
        keys: tuple[Key, ...],
        clauses: list[Clause],
        started: Cursor | None,
        count: int,
        *,
        forward: bool,
    ) -> Select[Any]:
        """Ordered by columns: one walk of one index gives the page."""
        places = [key.expression for key in keys]
        if started is not None:
            clauses = [*clauses, beyond(keys, places, [*started.keys, started.rid], forward=forward)]
        labelled = [place.label(f"k{number}") for number, place in enumerate(places[:-1])]
        return (
            select(*(row.c[name] for name in COLUMNS), *labelled, RID_MAX.label("rid_max"))
            .where(*clauses)
            .order_by(*ordering(keys, places, forward=forward))
            .limit(count)
        )

    async def _fetch(self, statement: Select[Any]) -> Sequence["Row"]:
        made = compiled(statement)
        return await self.connection.fetch(made.sql, *made.args)

    async def total(self) -> int | None:
        if self.cursor is not None and self.cursor.total is not None:
            return self.cursor.total
        asked = self.plan.request.total
        if asked == "none":
            return None
        row = ROW
        clauses, _ = self.clauses(row)
        if asked == "accurate":
            made = compiled(select(func.count()).select_from(row).where(*clauses))
            return int(await self.connection.fetchval(made.sql, *made.args))
        return await self._estimate(row, clauses)

    async def _estimate(self, row: FromClause, clauses: list[Clause]) -> int:
        some = select(row.c.rid).where(*clauses)
        limited = compiled(select(func.count()).select_from(some.limit(ESTIMATE_EXACT_MAX + 1).subquery()))
        counted = int(await self.connection.fetchval(limited.sql, *limited.args))
        if counted <= ESTIMATE_EXACT_MAX:
            return counted
        made = compiled(some)
        explained = await self.connection.fetchval("EXPLAIN (FORMAT JSON) " + made.sql, *made.args)
        return max(counted, int(orjson.loads(explained)[0]["Plan"]["Plan Rows"]))


def _gathered(inner: Select[Any], *, narrow: bool) -> FromClause:
    """narrow: look the rows up first; a LIMIT would tempt the planner to walk an order until it meets them."""
    if narrow:
        return inner.cte("page").prefix_with("MATERIALIZED", dialect="postgresql")
    return inner.subquery("page")


async def search(connection: "Connection", plan: SearchPlan, *, installation: "Installation", bodies: Bodies) -> Page:
    request = plan.request
    own = search_hash(request, plan.access.person_id)
    cursor = opened(request.cursor, installation.cursor_key, own) if request.cursor else None
    compiler = await probe.compiler_of(connection, plan, Hasher(installation.hash_key))
    running = _Search(connection, plan, compiler, cursor, cursor.rid_max if cursor else None)
    page = Page(total=await running.total())
    if request.count == 0:
        return page
    placed = await running.rows(request.count + 1)
    more = len(placed) > request.count
    placed = placed[: request.count]
    forward = cursor.forward if cursor else True
    if not forward:
        placed.reverse()
    matches = [found_of(one.row, bodies) for one in placed]
    included = await include.included(connection, plan, compiler, matches, bodies)
    while included.over and len(matches) > 1:
        kept = len(matches) // 2
        matches, placed = (matches[:kept], placed[:kept]) if forward else (matches[-kept:], placed[-kept:])
        more = True
        included = await include.included(connection, plan, compiler, matches, bodies)
    page.matches, page.included, page.issues = matches, included.found, included.issues
    if placed:
        rid_max = cursor.rid_max if cursor else int(placed[0].row["rid_max"])
        place = _Places(own, rid_max, page.total, installation.cursor_key)
        if more if forward else True:
            page.next_cursor = place.cursor(placed[-1], forward=True)
        if more if not forward else cursor is not None:
            page.previous_cursor = place.cursor(placed[0], forward=False)
    return page


@dataclass(frozen=True, slots=True)
class _Places:
    """What the cursors of one page have in common."""

    search: str
    rid_max: int
    total: int | None
    key: bytes

    def cursor(self, placed: _Placed, *, forward: bool) -> str:
        phase: Literal[0, 1] = 1 if placed.phase == 1 else 0
        made = Cursor(self.search, forward, phase, placed.keys, placed.row["rid"], self.rid_max, self.total)
        return sealed(made, self.key)


async def match_ids(
    connection: "Connection",
    plan: SearchPlan,
    limit: int,
    *,
    installation: "Installation",
    source: int | None = None,
) -> list[str]:
    """Ids of the first matches, for conditional interactions; source: only resources of this facility."""
    row = ROW
    compiler = await probe.compiler_of(connection, plan, Hasher(installation.hash_key))
    clauses, narrow = compiler.plan(plan, row)
    if source is not None:
        clauses.append(row.c.source == source)
    inner = select(row.c.rid, row.c.id).where(*clauses)
    page = _gathered(inner, narrow=narrow)
    made = compiled(select(page.c.id).order_by(page.c.rid).limit(limit))
    return [str(one["id"]) for one in await connection.fetch(made.sql, *made.args)]
