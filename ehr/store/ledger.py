"""Read the intake ledger for the people who run the city: who sends, what waits, what was refused.

Out:     FacilityStatus per facility; LedgerEntry per message; a message's bytes only through raw, whose
         caller writes an audit row with the operator's reason in the same transaction
Cost:    one index range per facility and one scan of the unfinished messages; never of the applied ones
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson
import zstandard

from ehr import limits
from ehr.database.connection import Connection

RATE_WINDOW: Final = timedelta(minutes=5)
ERROR_WINDOW: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class FacilityStatus:
    """One line of the console. rate_per_minute over RATE_WINDOW; refused over ERROR_WINDOW."""

    id: int
    code: str
    name: str
    kind: str
    feed: str
    district: str
    last_received: datetime | None
    waiting: int
    oldest_waiting: datetime | None
    rate_per_minute: float
    refused: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """facility: code of the sender; '' where nobody knows it."""

    id: int
    facility: str
    channel: str
    kind: str
    control_id: str
    received: datetime
    finished: datetime | None
    state: str
    attempts: int
    issues: list[dict[str, Any]]


_STATUS: Final = """
select f.id, f.code, f.name, f.kind, f.feed, f.district, l.received as last_received,
       coalesce(o.waiting, 0) as waiting, o.oldest as oldest_waiting,
       coalesce(r.recent, 0) as recent, coalesce(o.refused, 0) as refused
from facility f
left join lateral (
    select m.received from intake_message m where m.facility_id = f.id order by m.received desc limit 1
) l on true
left join lateral (
    select count(*) as recent from intake_message m where m.facility_id = f.id and m.received > now() - $1::interval
) r on l.received > now() - $1::interval
left join (
    select facility_id,
           count(*) filter (where state in ('received', 'failed')) as waiting,
           min(received) filter (where state in ('received', 'failed')) as oldest,
           count(*) filter (where state = 'refused' and received > now() - $2::interval) as refused
    from intake_message where state <> 'applied' group by facility_id
) o on o.facility_id = f.id
where f.active and ($3::text is null or f.code = $3)
order by o.oldest nulls last, f.code
"""

_ENTRY: Final = """
select m.id, coalesce(f.code, '') as facility, m.channel, m.kind, m.control_id, m.received, m.finished, m.state,
       m.attempts, m.issues
from intake_message m left join facility f on f.id = m.facility_id
"""


async def facility_status(connection: Connection, code: str | None = None) -> list[FacilityStatus]:
    """Every active facility (or the one of a code), those with the oldest waiting message first."""
    rows = await connection.fetch(_STATUS, RATE_WINDOW, ERROR_WINDOW, code)
    minutes = RATE_WINDOW / timedelta(minutes=1)
    return [
        FacilityStatus(
            r["id"],
            r["code"],
            r["name"],
            r["kind"],
            r["feed"],
            r["district"],
            r["last_received"],
            r["waiting"],
            r["oldest_waiting"],
            round(r["recent"] / minutes, 1),
            r["refused"],
        )
        for r in rows
    ]


async def entries(
    connection: Connection,
    *,
    facility_id: int | None = None,
    states: Sequence[str] | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[LedgerEntry]:
    """Messages newest first; before is the id of the last one already seen."""
    rows = await connection.fetch(
        _ENTRY + "where ($1::int is null or m.facility_id = $1) and ($2::text[] is null or m.state = any($2))"
        " and ($3::bigint is null or m.id < $3) order by m.id desc limit $4",
        facility_id,
        list(states) if states else None,
        before,
        limit,
    )
    return [_entry(r) for r in rows]


async def entry(connection: Connection, message_id: int) -> LedgerEntry | None:
    row = await connection.fetchrow(_ENTRY + "where m.id = $1", message_id)
    return _entry(row) if row else None


async def raw(connection: Connection, message_id: int) -> bytes:
    """The bytes of a message as received; whoever asks writes an audit row in the same transaction."""
    body = await connection.fetchval("select body from intake_message where id = $1", message_id)
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=limits.claim_xml_bytes_max)


def _entry(row: asyncpg.Record) -> LedgerEntry:
    issues = orjson.loads(row["issues"]) if row["issues"] else []
    return LedgerEntry(
        row["id"],
        row["facility"],
        row["channel"],
        row["kind"],
        row["control_id"],
        row["received"],
        row["finished"],
        row["state"],
        row["attempts"],
        issues,
    )
