"""Resources about to be written: their current rows, locked, and the last version of those that are deleted.

Order:  by type, then id, in every transaction: two writers of the same resources queue and cannot deadlock
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from ehr.fhir.r4 import TYPE_IDS
from ehr.store.connection import Connection
from ehr.store.version import Op, Version

_CURRENT: Final = """
SELECT id, rid, version, updated, shard, source, body FROM resource
WHERE type_id = $1 AND id = ANY($2::text[]) ORDER BY id FOR UPDATE
"""
_LAST: Final = """
SELECT DISTINCT ON (id) id, rid, version, updated, shard, source, op FROM resource_history
WHERE type_id = $1 AND id = ANY($2::text[]) ORDER BY id, version DESC
"""


@dataclass(frozen=True, slots=True)
class Current:
    """The current row of a resource, ours until the transaction ends. body is the stored frame."""

    rid: int
    version: int
    updated: datetime
    shard: int
    source: int
    body: bytes

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


async def current(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Current]:
    """Lock the current rows of these (type, id)."""
    found: dict[tuple[str, str], Current] = {}
    for type_name, ids in _by_type(wanted):
        for row in await connection.fetch(_CURRENT, TYPE_IDS[type_name], ids):
            found[type_name, row["id"]] = Current(
                row["rid"], row["version"], row["updated"], row["shard"], row["source"], row["body"]
            )
    return found


async def last_of_deleted(
    connection: Connection, absent: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Tombstone]:
    """The tombstones of these (type, id), which have no current row."""
    found: dict[tuple[str, str], Tombstone] = {}
    for type_name, ids in _by_type(absent):
        for row in await connection.fetch(_LAST, TYPE_IDS[type_name], ids):
            if row["op"] == "D":
                found[type_name, row["id"]] = Tombstone(
                    row["rid"], row["version"], row["updated"], row["shard"], row["source"]
                )
    return found


def _by_type(wanted: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    for type_name, group in groupby(sorted(set(wanted)), key=lambda key: key[0]):
        yield type_name, [id for _, id in group]
