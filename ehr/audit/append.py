"""Who saw or changed what: audit rows, in the transaction of the access itself.

In:      the caller of the unit of work; what was touched (type, id, shard)
Out:     rows of audit; a citizen's access log is read from them by shard and by person
Why:     a row committed apart from the access can be lost with it. Reads of one resource write
         their row in the statement that reads (ehr.store.resources); this module holds the others
Never:   names, numbers or codes of a person in detail
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from ehr.access.policy import Caller
from ehr.database.connection import Connection
from ehr.fhir.r4 import TYPE_IDS

_ROWS: Final = """
INSERT INTO audit (actor_kind, actor, facility_id, action, type_id, resource_id, shard, person_id, purpose, detail)
SELECT $1, $2, $3, $4, $5, $6, s.shard, COALESCE($7, (SELECT l.person_id FROM person_link l WHERE l.shard = s.shard)),
       $8, $9::text::jsonb
FROM unnest($10::bigint[]) AS s(shard)
"""


_NEW: Final = """
SELECT s.shard FROM unnest($1::bigint[]) AS s(shard) WHERE NOT EXISTS (
    SELECT 1 FROM audit a
    WHERE a.shard = s.shard AND a.at >= $3 AND a.action = 'E' AND a.detail @> $2::text::jsonb)
"""


class Audit:
    """Appends audit rows for one caller on one connection."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._connection = connection
        self._caller = caller

    async def search(self, type_name: str | None, shards: Iterable[int], *, detail: Mapping[str, Any]) -> None:
        """A search: one row per patient whose data it returned, one row without patient when it returned none."""
        await self._append("S", shards, detail, type_name=type_name)

    async def read(
        self, type_name: str | None, shards: Iterable[int], *, id: str | None = None, detail: Mapping[str, Any]
    ) -> None:
        """A read that is not the read of one version: history, a summary, a page, a document."""
        await self._append("R", shards, detail, type_name=type_name, id=id)

    async def execute(
        self, operation: str, *, shards: Iterable[int] = (), person_id: str | None = None, detail: Mapping[str, Any]
    ) -> None:
        """An operation or an act of an operator, named in detail.operation."""
        await self._append("E", shards, {"operation": operation, **detail}, person_id=person_id)

    async def execute_once(
        self, operation: str, *, shards: Iterable[int], since: datetime, detail: Mapping[str, Any]
    ) -> None:
        """execute, for work in many transactions, begun at `since`: a patient whom an equal row names already gets no
        second one."""
        whole = orjson.dumps({"operation": operation, **detail}).decode()
        rows = await self._connection.fetch(_NEW, sorted(set(shards)), whole, since)
        if rows:
            await self.execute(operation, shards=[row["shard"] for row in rows], detail=detail)

    async def _append(
        self,
        action: str,
        shards: Iterable[int],
        detail: Mapping[str, Any],
        *,
        type_name: str | None = None,
        id: str | None = None,
        person_id: str | None = None,
    ) -> None:
        caller = self._caller
        await self._connection.execute(
            _ROWS,
            caller.kind,
            caller.id,
            caller.facility_id,
            action,
            TYPE_IDS[type_name] if type_name else None,
            id,
            person_id,
            caller.purpose,
            orjson.dumps(dict(detail)).decode() if detail else None,
            sorted(set(shards)) or [None],
        )
