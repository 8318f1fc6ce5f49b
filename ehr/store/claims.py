"""Who owns an identifier or a condition: claim first, then search, so that nobody can slip in between.

In:      scope (0 the city, else facility.id), type, key ("system|value", or the normalised criteria), the id wanted
Out:     the id that owns the key: the wanted one when the key was free
Race:    the primary key makes the second writer wait for the first one's commit; then it sees the first one's row.
         32 parallel conditional creates make one resource; search-then-insert made up to 32
Order:   keys are claimed sorted, so that two transactions with several keys queue instead of deadlocking
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ehr.fhir.r4 import TYPE_IDS
from ehr.store.connection import Connection

_INSERT: Final = """
INSERT INTO claim (scope, type_id, key, id)
SELECT $1, $2, n.key, n.id FROM unnest($3::text[], $4::text[]) AS n(key, id) ORDER BY n.key
ON CONFLICT (scope, type_id, key) DO NOTHING
"""
_OWNERS: Final = """
SELECT key, id FROM claim WHERE scope = $1 AND type_id = $2 AND key = ANY($3::text[]) ORDER BY key FOR UPDATE
"""
_HAND_ON: Final = "UPDATE claim SET id = $4 WHERE scope = $1 AND type_id = $2 AND key = $3"
_OWNER: Final = "SELECT id FROM claim WHERE scope = $1 AND type_id = $2 AND key = $3"
_RELEASE: Final = "DELETE FROM claim WHERE scope = $1 AND type_id = $2 AND id = $3 AND key = ANY($4::text[])"


class Claims:
    """Claims made and held by one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def claim(self, scope: int, type_name: str, key: str, id: str) -> str:
        """The owner of one key; `id` when it was free. The row is locked until the transaction ends."""
        return (await self.claim_many(scope, type_name, {key: id}))[key]

    async def claim_many(self, scope: int, type_name: str, wanted: Mapping[str, str]) -> dict[str, str]:
        """key → owner, for key → id wanted."""
        if not wanted:
            return {}
        keys = sorted(wanted)
        type_id = TYPE_IDS[type_name]
        await self._connection.execute(_INSERT, scope, type_id, keys, [wanted[key] for key in keys])
        rows = await self._connection.fetch(_OWNERS, scope, type_id, keys)
        owners = {row["key"]: row["id"] for row in rows}
        missing = [key for key in keys if key not in owners]
        if missing:  # the owner was deleted, and its claims with it, between the two statements
            owners |= await self.claim_many(scope, type_name, {key: wanted[key] for key in missing})
        return owners

    async def pass_on(self, scope: int, type_name: str, key: str, id: str) -> None:
        """Give a key that this transaction holds to another resource."""
        done = await self._connection.execute(_HAND_ON, scope, TYPE_IDS[type_name], key, id)
        assert done == "UPDATE 1", "a claim is passed on by the transaction that holds it"

    async def owner(self, scope: int, type_name: str, key: str) -> str | None:
        """Who owns a key now, without claiming it."""
        owner: str | None = await self._connection.fetchval(_OWNER, scope, TYPE_IDS[type_name], key)
        return owner

    async def release(self, scope: int, type_name: str, id: str, keys: Iterable[str]) -> None:
        """Give keys up that this resource owns."""
        await self._connection.execute(_RELEASE, scope, TYPE_IDS[type_name], id, list(keys))
