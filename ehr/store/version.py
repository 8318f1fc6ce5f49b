"""One version of one resource, as every room above the store sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Op = Literal["C", "P", "U", "D"]
"""What made this version: a create, one by a PUT that brought its own id, an update, a deletion."""


@dataclass(slots=True)
class Version:
    """A stored version. body is the JSON as sent with id and meta set; None for a deletion. Never changed after it is
    made; not frozen, because a frozen one takes three times as long to make, and every read makes one.

    rid     the row's number: join key and page cursor
    shard   keyed hash of the compartment's source Patient, else of the resource itself
    source  facility.id that sent the resource; 0 = the city
    """

    type_name: str
    id: str
    version: int
    updated: datetime
    op: Op
    body: bytes | None
    rid: int
    shard: int
    source: int

    @property
    def reference(self) -> str:
        return f"{self.type_name}/{self.id}"

    @property
    def location(self) -> str:
        return f"{self.type_name}/{self.id}/_history/{self.version}"

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


@dataclass(frozen=True, slots=True)
class Before:
    """What an update replaces: the tree of the earlier version, and the person its shard was linked to."""

    tree: Mapping[str, Any]
    person_id: str | None
