"""Counts that were made, each with the snapshot it is true of: what came and went since is all the next one looks at.

Keeps:   one process's, in memory; none is needed, and none is wrong while others write (ehr.search.total)
Why not: where rows say transactions that this server has not come to (a record restored into a new one) a snapshot
         does not tell what is new: nothing is remembered there
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from ehr.database.connection import Connection

KEPT_FROM: Final = 1_000
"""Fewer rows are counted as soon as looked up."""
KEPT_MAX: Final = 1_024

_FOREIGN: Final = """
SELECT EXISTS (SELECT FROM change WHERE xid >= pg_snapshot_xmin(pg_current_snapshot())
               AND NOT pg_visible_in_snapshot(xid, pg_current_snapshot()))
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """snapshot: as PostgreSQL writes it."""

    rows: int
    snapshot: str


@dataclass(slots=True)
class Counts:
    _counted: dict[Hashable, Counted] = field(default_factory=dict)
    _sound: bool | None = None

    def get(self, key: Hashable) -> Counted | None:
        return self._counted.get(key)

    async def put(self, connection: Connection, key: Hashable, counted: Counted) -> None:
        """Outside a transaction: what this one wrote may never be committed."""
        if counted.rows < KEPT_FROM or connection.is_in_transaction():
            return
        if self._sound is None:
            self._sound = not await connection.fetchval(_FOREIGN)
        if self._sound:
            if len(self._counted) >= KEPT_MAX:
                self._counted.clear()
            self._counted[key] = counted
