"""Resources about to be written: their current rows, locked, and the last version of those that are deleted.

In:      (type, id) pairs, any number, of any types
Out:     Holding: the current rows, ours until the transaction ends; tombstones of what has none
Order:   by type, then id, in every transaction: two writers of the same resources queue and cannot deadlock
Cost:    one statement
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ehr.database.connection import Connection, Row
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.store.body import BodyCodec
from ehr.store.version import Op, Version

HELD_COLUMNS: Final = """
r.type_id, r.id, r.rid, r.version, r.updated, r.shard, r.source, r.body,
(SELECT l.person_id FROM person_link l WHERE l.shard = r.shard) AS person_id
"""

_HOLD: Final = f"""
WITH wanted AS MATERIALIZED (SELECT * FROM unnest($1::smallint[], $2::text[]) AS w(type_id, id)
), held AS MATERIALIZED (
    SELECT {HELD_COLUMNS} FROM wanted w JOIN resource r ON r.type_id = w.type_id AND r.id = w.id
    ORDER BY r.type_id, r.id FOR UPDATE OF r
)
SELECT h.*, NULL AS op FROM held h
UNION ALL
SELECT t.type_id, t.id, t.rid, t.version, t.updated, t.shard, t.source, NULL, NULL, t.op
FROM (SELECT * FROM wanted w WHERE NOT EXISTS (SELECT 1 FROM held h WHERE h.type_id = w.type_id AND h.id = w.id)) a
CROSS JOIN LATERAL (
    SELECT h.* FROM resource_history h WHERE h.type_id = a.type_id AND h.id = a.id ORDER BY h.version DESC LIMIT 1
) t WHERE t.op = 'D'
"""  # noqa: S608 - a constant of ours

Key = tuple[str, str]
"""Type and id."""


@dataclass(frozen=True, slots=True)
class Current:
    """The current row of a resource, ours until the transaction ends. body is the stored frame.

    person_id  the person its shard is linked to
    """

    rid: int
    version: int
    updated: datetime
    shard: int
    source: int
    body: bytes
    person_id: str | None

    def as_version(self, type_name: str, id: str, body: bytes) -> Version:
        op: Op = "C" if self.version == 1 else "U"
        return Version(type_name, id, self.version, self.updated, op, body, self.rid, self.shard, self.source)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The deletion of a resource: the next version continues after it, under the same number."""

    rid: int
    version: int
    updated: datetime
    shard: int
    source: int

    def as_version(self, type_name: str, id: str) -> Version:
        return Version(type_name, id, self.version, self.updated, "D", None, self.rid, self.shard, self.source)


@dataclass(slots=True)
class Holding:
    """What this transaction has locked, and which keys it has looked for."""

    asked: set[Key] = field(default_factory=set)
    current: dict[Key, Current] = field(default_factory=dict)
    tombstones: dict[Key, Tombstone] = field(default_factory=dict)
    _texts: dict[Key, bytes] = field(default_factory=dict)
    _trees: dict[Key, dict[str, Any]] = field(default_factory=dict)

    def take(self, row: Row | Sequence[Any]) -> None:
        """One row of HELD_COLUMNS and op."""
        type_id, id, rid, version, updated, shard, source, body, person_id, op = row
        key = TYPE_NAMES[type_id], id
        if op == "D":
            self.tombstones[key] = Tombstone(rid, version, updated, shard, source)
        else:
            self.current[key] = Current(rid, version, updated, shard, source, body, person_id)

    def text(self, key: Key, bodies: BodyCodec) -> bytes:
        """The current version as it is stored."""
        found = self._texts.get(key)
        if found is None:
            found = self._texts[key] = bodies.decompress(self.current[key].body)
        return found

    def tree(self, key: Key, bodies: BodyCodec) -> dict[str, Any]:
        """The same as a tree, not to be changed."""
        found = self._trees.get(key)
        if found is None:
            found = self._trees[key] = codec.loads(self.text(key, bodies))
        return found


async def hold(connection: Connection, wanted: Iterable[Key], into: Holding | None = None) -> Holding:
    """Lock the current rows of these (type, id). What `into` holds already is not asked for again."""
    holding = into if into is not None else Holding()
    fresh = {key for key in wanted if key not in holding.asked}
    if fresh:
        type_ids, ids = [TYPE_IDS[name] for name, _ in fresh], [id for _, id in fresh]
        for row in await connection.fetch(_HOLD, type_ids, ids):
            holding.take(row)
        holding.asked |= fresh
    return holding
