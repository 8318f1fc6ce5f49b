"""Who owns an identifier or a condition: claim first, then search, so that nobody can slip in between.

In:      scope (0 the city, else facility.id), type, key ("system|value", or the normalised criteria), the id wanted
Out:     the id that owns the key: the wanted one when the key was free
Race:    the primary key makes the second writer wait for the first one's commit; then it locks the first one's row.
         32 parallel conditional creates make one resource; search-then-insert made up to 32
Order:   keys are claimed sorted, so that two transactions with several keys queue instead of deadlocking
Cost:    one statement; a second one for owners only where keys were taken
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ehr.database.connection import Connection
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES

# WHERE false: the row that is there is locked and stays as it is
_CLAIM: Final = """
INSERT INTO claim AS c (scope, type_id, key, id)
SELECT $1, n.type_id, n.key, n.id FROM unnest($2::smallint[], $3::text[], $4::text[]) AS n(type_id, key, id)
ORDER BY n.type_id, n.key
ON CONFLICT (scope, type_id, key) DO UPDATE SET id = c.id WHERE false
RETURNING type_id, key
"""
_OWNERS: Final = """
SELECT c.type_id, c.key, c.id FROM unnest($2::smallint[], $3::text[]) AS n(type_id, key)
JOIN claim c ON c.scope = $1 AND c.type_id = n.type_id AND c.key = n.key
"""
_HAND_ON: Final = """
UPDATE claim c SET id = n.id FROM unnest($2::smallint[], $3::text[], $4::text[]) AS n(type_id, key, id)
WHERE c.scope = $1 AND c.type_id = n.type_id AND c.key = n.key
"""
_OWNER: Final = "SELECT id FROM claim WHERE scope = $1 AND type_id = $2 AND key = $3"
_RELEASE: Final = "DELETE FROM claim WHERE scope = $1 AND type_id = $2 AND id = $3 AND key = ANY($4::text[])"

Claimed = tuple[str, str]
"""Type and key."""


class Claims:
    """Claims made and held by one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held: dict[tuple[int, str, str], str] = {}

    async def claim(self, scope: int, type_name: str, key: str, id: str) -> str:
        """The owner of one key; `id` when it was free. The row is locked until the transaction ends."""
        return (await self.claim_many(scope, type_name, {key: id}))[key]

    async def claim_many(self, scope: int, type_name: str, wanted: Mapping[str, str]) -> dict[str, str]:
        """key → owner, for key → id wanted. What this transaction holds already costs nothing."""
        asked = {(type_name, key): id for key, id in wanted.items() if (scope, type_name, key) not in self._held}
        taken = await self.claim_new(scope, asked)
        if taken:
            self.told(scope, await self.owners(scope, taken))
        return {key: self._held[scope, type_name, key] for key in wanted}

    async def claim_new(self, scope: int, wanted: Mapping[Claimed, str]) -> list[Claimed]:
        """Claim keys of any types; those that were taken already, whose rows are locked now but not yet read."""
        if not wanted:
            return []
        keys = sorted((TYPE_IDS[name], key, id) for (name, key), id in wanted.items())
        columns = [list(column) for column in zip(*keys, strict=True)]
        made = {(row[0], row[1]) for row in await self._connection.fetch(_CLAIM, scope, *columns)}
        for type_id, key, id in keys:
            if (type_id, key) in made:
                self._held[scope, TYPE_NAMES[type_id], key] = id
        return [(TYPE_NAMES[type_id], key) for type_id, key, _ in keys if (type_id, key) not in made]

    async def owners(self, scope: int, taken: Iterable[Claimed]) -> dict[Claimed, str]:
        """The owners of keys that claim_new found taken."""
        columns = [list(column) for column in zip(*((TYPE_IDS[name], key) for name, key in taken), strict=True)]
        rows = await self._connection.fetch(_OWNERS, scope, *columns)
        return {(TYPE_NAMES[row["type_id"]], row["key"]): row["id"] for row in rows}

    def told(self, scope: int, owners: Mapping[Claimed, str]) -> None:
        """Owners that another statement of this transaction has read."""
        for (type_name, key), id in owners.items():
            self._held[scope, type_name, key] = id

    async def pass_on(self, scope: int, type_name: str, key: str, id: str) -> None:
        """Give a key that this transaction holds to another resource."""
        await self.pass_on_many(scope, {(type_name, key): id})

    async def pass_on_many(self, scope: int, settled: Mapping[Claimed, str]) -> None:
        if not settled:
            return
        rows = sorted((TYPE_IDS[name], key, id) for (name, key), id in settled.items())
        columns = [list(column) for column in zip(*rows, strict=True)]
        done = await self._connection.execute(_HAND_ON, scope, *columns)
        assert done == f"UPDATE {len(rows)}", "a claim is passed on by the transaction that holds it"
        self.told(scope, settled)

    async def owner(self, scope: int, type_name: str, key: str) -> str | None:
        """Who owns a key now, without claiming it."""
        owner: str | None = await self._connection.fetchval(_OWNER, scope, TYPE_IDS[type_name], key)
        return owner

    async def release(self, scope: int, type_name: str, id: str, keys: Iterable[str]) -> None:
        """Give keys up that this resource owns."""
        given_up = list(keys)
        if given_up:
            await self._connection.execute(_RELEASE, scope, TYPE_IDS[type_name], id, given_up)
            self.forget()

    def forget(self) -> None:
        """Claims fell with a resource: what is remembered may be wrong."""
        self._held.clear()
