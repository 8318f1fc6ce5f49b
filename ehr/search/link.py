"""The rows of a page → the places beside it, where the next and the previous page begin.

In:      rows in their order, each with what it was ordered by
Out:     cursors; None where there is no such page
"""

from dataclasses import dataclass, replace
from typing import Literal

from ehr.search import order
from ehr.search.chosen import Chosen, Placed
from ehr.search.cursor import Cursor, Walk, search_hash
from ehr.search.plan import SearchPlan
from ehr.search.shape import Values


@dataclass(slots=True)
class Places:
    """What the cursors of one page have in common. cursor: where it begins; rid_max: 0 where its rows say it."""

    plan: SearchPlan
    cursor: Cursor | None
    rid_max: int
    total: int | None

    def beside(self, chosen: Chosen) -> tuple[Cursor | None, Cursor | None]:
        """The places of the next and the previous page."""
        forward = self.cursor is None or self.cursor.forward
        following, preceding = (chosen.more, self.cursor is not None) if forward else (True, chosen.more)
        after = self.after(chosen) if following and (chosen.placed or self.cursor is not None) else None
        before = self._cursor(chosen, chosen.placed[0], forward=False) if preceding and chosen.placed else None
        return after, before

    def after(self, chosen: Chosen) -> Cursor:
        """The place after the last row, whether or not there are more."""
        if chosen.placed:
            return self._cursor(chosen, chosen.placed[-1], forward=True, walk=chosen.walk)
        assert self.cursor is not None, "a page without rows of its own goes on from another"
        return replace(self.cursor, walk=chosen.walk)

    def _cursor(self, chosen: Chosen, placed: Placed, *, forward: bool, walk: Walk | None = None) -> Cursor:
        row, phase = placed
        own = search_hash(self.plan)
        keys = phase if isinstance(phase, list) else order.kept(order.keys_of(Values(), self.plan, phase), row)
        of_phase: Literal[0, 1] = 1 if phase == order.WITHOUT_DATE else 0
        rid_max = self.cursor.rid_max if self.cursor else self.rid_max or int(chosen.placed[0][0]["rid_max"])
        return Cursor(own, forward, of_phase, keys, row["rid"], rid_max, self.total, walk)
