"""Tell a citizen who looked at their record, from the audit table itself.

Out:     Look: day, who, action, purpose, times; every audit row of the person's shards or person id is counted
         in exactly one Look, so the page cannot show less than the audit holds
Why:     a log of its own once went two years without some lookups and nobody noticed; this one is computed
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Final

from ehr.clock import ICT, day_of

if TYPE_CHECKING:
    from ehr.database.connection import Connection


@dataclass(frozen=True, slots=True)
class Look:
    """One line: what one party did on one day (calendar of Viet Nam). facility is its name, '' if none.

    refused: nothing was given out or changed
    """

    day: date
    actor_kind: str
    actor: str
    facility: str
    action: str
    purpose: str
    refused: bool
    times: int


_LOOKS: Final = """
select (a.at at time zone 'Asia/Ho_Chi_Minh')::date as day, a.actor_kind, a.actor,
       coalesce(f.name, '') as facility, a.action, a.purpose,
       coalesce(a.detail ? 'refused', false) as refused, count(*) as times
from audit a left join facility f on f.id = a.facility_id
where (a.shard = any($1::bigint[]) or a.person_id = $2) and a.at >= $3 and ($4::timestamptz is null or a.at < $4)
group by 1, 2, 3, 4, 5, 6, 7
order by 1 desc, 4, 3, 5, 7
"""


_NEWEST: Final = """
select max(found.at) from (
    select max(a.at) as at from unnest($1::bigint[]) as s(shard)
    cross join lateral (select max(b.at) as at from audit b where b.shard = s.shard and b.at < $3) a
    union all select max(c.at) from audit c where c.person_id = $2 and c.at < $3
) found
"""


async def looks(
    connection: "Connection",
    *,
    shards: Sequence[int],
    person_id: str | None,
    since: datetime,
    before: datetime | None = None,
) -> list[Look]:
    """All accesses to a person's data since a moment, or until another, newest day first."""
    rows = await connection.fetch(_LOOKS, list(shards), person_id, since, before)
    return [Look(*row.values()) for row in rows]


async def newest_day(
    connection: "Connection", *, shards: Sequence[int], person_id: str | None, before: datetime
) -> date | None:
    """The last day before a moment on which anybody looked; None where nobody did."""
    found = await connection.fetchval(_NEWEST, list(shards), person_id, before)
    return None if found is None else day_of(found)


def midnight(day: date) -> datetime:
    """The moment a day begins in Viet Nam."""
    return datetime.combine(day, time(), ICT)
