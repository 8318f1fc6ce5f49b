"""SearchPlan → how many resources it finds: none, estimate or accurate.

Accurate  to count is to visit. What only a row's own type and tokens decide is visited once: the count is kept with the
          snapshot it is true of (ehr.store.counts), and the next one looks at what was written since, and at the
          versions which that replaced. It is exact either way
Estimate  exact up to ESTIMATE_EXACT_MAX, then what the planner expects
Errors:   TooMuch  to count takes longer than a statement may
Source:   FHIR R4 3.1.1.5.1 _total; docs/adr/0099
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson
from msgspec.structs import replace

from ehr import limits
from ehr.database.partitions import OWN_TYPES, partition_name
from ehr.errors import TooMuch
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_NAMES
from ehr.index.extract import Extractor
from ehr.search.found import Bodies
from ehr.search.lower import Lowering, typed
from ehr.search.plan import SearchPlan
from ehr.search.served import added_of
from ehr.search.shape import (
    Clause,
    Slot,
    Tokens,
    Typed,
    Values,
)
from ehr.search.shape_statements import (
    CountOf,
    EstimateOf,
    SinceOf,
)
from ehr.search.statements import fetch
from ehr.store.counts import Counted, Counts

if TYPE_CHECKING:
    from ehr.database.connection import Connection, Row

ESTIMATE_EXACT_MAX: Final = 1_000
"""_total=estimate counts up to here, then asks the planner."""
WENT_MAX: Final = 1_000
"""Versions that are taken apart again (some 10 µs each) before all rows are counted anew."""


@dataclass(frozen=True, slots=True)
class Total:
    """counts: those kept; None: nothing is kept."""

    connection: "Connection"
    plan: SearchPlan
    lowering: Lowering
    bodies: Bodies
    counts: Counts | None

    async def asked(self) -> int:
        return await (self._accurate() if self.plan.request.total == "accurate" else self._estimate())

    async def _estimate(self) -> int:
        counted = await self._counted(ESTIMATE_EXACT_MAX + 1)
        if counted <= ESTIMATE_EXACT_MAX:
            return counted
        to = Values()
        clauses, _ = self.lowering.plan(to, self.plan)
        explained = (await fetch(self.connection, EstimateOf(tuple(clauses), self.lowering.of), to))[0][0]
        return max(counted, int(orjson.loads(explained)[0]["Plan"]["Plan Rows"]))

    async def _accurate(self) -> int:
        try:
            found = None if self.counts is None else await self._kept(self.counts)
            return await self._counted(None) if found is None else found
        except asyncpg.QueryCanceledError as error:
            text = f"counting takes longer than {limits.statement_s:g} s; narrow the search down, or ask for"
            raise TooMuch(f"{text} _total=estimate", at="_total") from error

    async def _counted(self, count_max: int | None) -> int:
        to = Values()
        lowering = self.lowering if count_max is not None else replace(self.lowering, counts=True)
        clauses, _ = lowering.plan(to, self.plan)
        asked = self._count_of(clauses, None if count_max is None else to.add(count_max))
        return int((await fetch(self.connection, asked, to))[0][0])

    def _count_of(self, clauses: Iterable[Clause], count_max: Slot | None, *, dated: bool = False) -> CountOf:
        """In a partition of one type any index counts its rows: none of theirs has the type in it."""
        of, types = self.lowering.of, self.plan.types
        if of != "own" or len(types) > 1 or types[0] not in OWN_TYPES:
            return CountOf(tuple(clauses), count_max, of, dated)
        others = tuple([one for one in clauses if not isinstance(one, Typed)])
        return CountOf(others, count_max, of, dated, partition_name(types[0]))

    async def _kept(self, counts: Counts) -> int | None:
        """None where something else than a row's own type and tokens decides."""
        to = Values()
        clauses, _ = self.lowering.plan(to, self.plan)
        own = self.lowering.of == "own" and all(isinstance(one, Typed | Tokens) for one in clauses)
        if not own or added_of(self.plan.request):  # rows are indexed by added parameters while they stand
            return None
        key = tuple(clauses), orjson.dumps(to.all)
        before = counts.get(key)
        counted = None if before is None else await self._since(before, clauses, to)
        if counted is None:
            row = (await fetch(self.connection, self._count_of(clauses, None, dated=True), to))[0]
            counted = Counted(row[0], row["snapshot"])
        await counts.put(self.connection, key, counted)
        return counted.rows

    async def _since(self, before: Counted, clauses: Sequence[Clause], to: Values) -> Counted | None:
        """The count as it is now; None where too much went to look at."""
        to = Values(list(to.all))
        asked = SinceOf(tuple(clauses), typed(to, self.plan.types), to.add(before.snapshot), to.add(WENT_MAX + 1))
        rows = await fetch(self.connection, asked, to)
        went = [row for row in rows if row["body"] is not None]
        if len(went) > WENT_MAX:
            return None
        tokens = [one for one in clauses if isinstance(one, Tokens)]
        lost = len(went) if not tokens else sum(self._matched(went, tokens, to))
        return Counted(before.rows + rows[0]["came"] - lost, rows[0]["snapshot"])

    def _matched(self, versions: Iterable["Row"], tokens: Sequence[Tokens], to: Values) -> Iterable[bool]:
        """Whether each satisfied the search as it stood."""
        extractor = Extractor(self.lowering.hasher, self.plan.request.known)
        for row in versions:
            tree = codec.loads(self.bodies.decompress(row["body"]))
            had = set(extractor.extract(tree, TYPE_NAMES[row["type_id"]], row["id"]).tokens)
            yield all(_holds(one, had, to.all[one.hashes]) for one in tokens)


def _holds(asked: Tokens, had: set[int], hashes: Sequence[Any]) -> bool:
    """As ehr.search.compile asks it of a row."""
    if asked.which == "all":
        return had.issuperset(hashes)
    return had.isdisjoint(hashes) == (asked.which == "none")
