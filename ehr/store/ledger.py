"""Read the intake ledger for the people who run the city: who sends, what waits, what was refused.

Out:     FacilityStatus per facility; LedgerEntry per message; Cause per code and place of what is wrong;
         a message's bytes only through raw, whose caller writes an audit row with the reason in the same transaction
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
CAUSES_WINDOW: Final = timedelta(days=7)
CAUSES_MAX: Final = 200


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


@dataclass(frozen=True, slots=True)
class Cause:
    """Messages with one code at one place ('' for the whole message); text: what one of them was told."""

    state: str
    code: str
    at: str
    messages: int
    facilities: int
    oldest: datetime
    text: str


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


_CAUSES: Final = """
select m.state, i ->> 'code' as code, coalesce(i ->> 'at', '') as at, count(distinct m.id) as messages,
       count(distinct m.facility_id) as facilities, min(m.received) as oldest, min(i ->> 'text') as text
from intake_message m cross join lateral jsonb_array_elements(m.issues) i
where (m.state = 'failed' or m.state = 'refused' and m.received > now() - $1::interval)
  and i ->> 'severity' in ('error', 'fatal')
group by 1, 2, 3 order by m.state, messages desc, oldest limit $2
"""


async def causes(connection: Connection) -> list[Cause]:
    """Why messages did not get in, most first: all that failed, and what was refused in CAUSES_WINDOW."""
    return [Cause(*row.values()) for row in await connection.fetch(_CAUSES, CAUSES_WINDOW, CAUSES_MAX)]


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
    cause: tuple[str, str] | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[LedgerEntry]:
    """Messages newest first; cause: code and place of what is wrong; before is the id of the last one already seen."""
    issue = None if cause is None else orjson.dumps([{"code": cause[0], "at": cause[1] or None}]).decode()
    rows = await connection.fetch(
        _ENTRY + "where ($1::int is null or m.facility_id = $1) and ($2::text[] is null or m.state = any($2))"
        " and ($3::bigint is null or m.id < $3) and ($5::text is null or m.issues @> $5::text::jsonb)"
        " order by m.id desc limit $4",
        facility_id,
        list(states) if states else None,
        before,
        limit,
        issue,
    )
    return [_entry(r) for r in rows]


_WAITING: Final = """
select coalesce(f.code, '') as code, count(*) as waiting
from intake_message m left join facility f on f.id = m.facility_id
where m.state in ('received', 'failed') group by 1 order by 2 desc, 1
"""


async def waiting(connection: Connection) -> dict[str, int]:
    """How many messages of each facility, by code ('' for unknown senders), are neither applied nor refused."""
    return {row["code"]: row["waiting"] for row in await connection.fetch(_WAITING)}


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
