"""Idempotency-Key: the same request of the same client gets the first answer, for as long as the record lives.

In:      client, key, SHA-256 of the request
Out:     the kept answer, or None: then the caller works and keeps its answer in the same transaction
Errors:  Invalid   the key was used for another request
Race:    two equal requests at once: the second waits on the first one's row and then reads its answer
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from ehr.database.connection import Connection
from ehr.errors import Invalid

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1 || E'\\x1f' || $2, 0))"
_FIND: Final = (
    "SELECT request_sha256, status, headers::text AS headers, body FROM idempotency WHERE client = $1 AND key = $2"
)
_KEEP: Final = """
INSERT INTO idempotency (client, key, request_sha256, status, headers, body)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6)
"""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def find(connection: Connection, client: str, key: str, request_sha256: bytes) -> KeptAnswer | None:
    """The answer this key got before, or None. Holds the key until the transaction ends."""
    await connection.execute(_LOCK, client, key)
    row = await connection.fetchrow(_FIND, client, key)
    if row is None:
        return None
    if row["request_sha256"] != request_sha256:
        raise Invalid("this Idempotency-Key was used for another request; choose a new one", at="Idempotency-Key")
    return KeptAnswer(row["status"], orjson.loads(row["headers"]), row["body"])


async def keep(connection: Connection, client: str, key: str, request_sha256: bytes, answer: KeptAnswer) -> None:
    """Keep the answer; in the transaction of the work it answers."""
    await connection.execute(
        _KEEP, client, key, request_sha256, answer.status, orjson.dumps(dict(answer.headers)).decode(), answer.body
    )
