"""What must happen because of a commit: rows written with it, drained by workers at least once.

add     one row per (topic, key) and transaction; nothing is compared with rows of other transactions
take    leases due rows; rows of one key come as one Work, so a hot patient is done once
finish  deletes what was taken; a row added meanwhile has a number of its own and is taken next time
Why:    skipping an insert because an equal row waits is a race (it may be in a worker's hands already), and
        locking that row would make all writers of a hot patient wait; appending and merging at take is neither
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ehr import limits
from ehr.database.connection import Connection

BACKOFF_FIRST_S: Final = 2
BACKOFF_MAX_S: Final = 3_600

_ADD: Final = "INSERT INTO outbox (topic, key) SELECT $1, k FROM unnest($2::text[]) AS k"
_TAKE: Final = """
WITH due AS (
    SELECT id FROM outbox WHERE topic = $1 AND due <= now() ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET due = now() + $3 * interval '1 second', attempts = o.attempts + 1
FROM due WHERE o.id = due.id RETURNING o.id, o.key, o.attempts
"""
_FINISH: Final = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_FAIL: Final = """
UPDATE outbox SET error = $2, due = CASE WHEN attempts >= $3 THEN 'infinity'::timestamptz
    ELSE now() + least($4 * 2 ^ (attempts - 1), $5) * interval '1 second' END
WHERE id = ANY($1::bigint[])
"""


@dataclass(frozen=True, slots=True)
class Work:
    """One key to act on, and the rows that asked for it."""

    topic: str
    key: str
    ids: tuple[int, ...]
    attempts: int


class Outbox:
    """Adds rows inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._added: set[tuple[str, str]] = set()

    async def add(self, topic: str, keys: str | Iterable[str]) -> None:
        fresh = self.fresh(topic, [keys] if isinstance(keys, str) else keys)
        if fresh:
            await self._connection.execute(_ADD, topic, fresh)

    def fresh(self, topic: str, keys: Iterable[str]) -> list[str]:
        """The keys this transaction has not added yet; they count as added from now on."""
        new = [key for key in dict.fromkeys(keys) if (topic, key) not in self._added]
        self._added.update((topic, key) for key in new)
        return new


async def take(connection: Connection, topic: str, limit: int, *, lease_s: float = limits.job_lease_s) -> list[Work]:
    """Lease due rows of a topic, merged by key. Not finished within the lease, they come again."""
    rows = await connection.fetch(_TAKE, topic, limit, lease_s)
    by_key: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        by_key.setdefault(row["key"], []).append((row["id"], row["attempts"]))
    return [
        Work(topic, key, tuple(id for id, _ in found), max(attempts for _, attempts in found))
        for key, found in by_key.items()
    ]


async def finish(connection: Connection, work: Iterable[Work]) -> None:
    await connection.execute(_FINISH, [id for done in work for id in done.ids])


async def fail(connection: Connection, work: Work, error: str) -> None:
    """Try again later, each time twice as late; after outbox_attempts_max tries the row waits for an operator."""
    await connection.execute(
        _FAIL, list(work.ids), error[:2000], limits.outbox_attempts_max, BACKOFF_FIRST_S, BACKOFF_MAX_S
    )
