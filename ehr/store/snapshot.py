"""One state of the record that any transaction can read later: everything below a transaction number.

In:      a connection
Out:     Snapshot: xid, the feed's watermark; time, a moment before which nothing is missing from it
State    the version of a resource in a snapshot is its newest one with a smaller xid; ehr.store.versions reads it from
         resource, and from resource_history where it was replaced or deleted since
Time     nothing outside the snapshot says it was changed before `time`: not what runs or is open now (its start), not
         what has ended above the watermark (its rows), not what begins later (now). So an export since that time
         misses nothing, and may repeat what was written at the edge
Why:     an exported snapshot of PostgreSQL lives in one open transaction: it holds back vacuum for hours and dies with
         its connection, and with it the job. A number can be written down (docs/adr/0068)
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ehr.database.connection import Connection

EXPORTING: Final = "city-ehr export"
"""application_name of transactions that read snapshots: they write nothing that the feed tells."""

_BEGUN: Final = """
SELECT date_trunc('milliseconds', least(now(), (
    SELECT min(a.xact_start) FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.backend_type = 'client backend'
      AND a.pid <> pg_backend_pid() AND a.application_name <> $1
)))
"""
_TAKE: Final = """
SELECT w.xid, date_trunc('milliseconds', least($1::timestamptz, greatest(
    $1::timestamptz - interval '5 minutes',
    coalesce((SELECT min(c.updated) FROM change c WHERE c.xid >= w.xid), $1)
))) AS time
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid) w
"""
"""The five minutes: no transaction is open for longer, and an import may keep its resources' own moments."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    xid: int
    time: datetime


async def take(connection: Connection) -> Snapshot:
    """The state now. Two statements, outside a transaction: what is open is looked at before what has ended."""
    begun: datetime = await connection.fetchval(_BEGUN, EXPORTING)
    row = await connection.fetchrow(_TAKE, begun)
    assert row is not None, "a row without a table"
    return Snapshot(row["xid"], row["time"])
