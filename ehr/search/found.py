"""A row of resource → Found: one current resource with its bytes as they were sent."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ehr.fhir.r4 import TYPE_NAMES

if TYPE_CHECKING:
    from ehr.store.connection import Row


class Bodies(Protocol):
    """The part of ehr.store.body.BodyCodec that reading needs."""

    def decompress(self, frame: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Found:
    type_name: str
    id: str
    version: int
    updated: datetime
    body: bytes
    rid: int
    shard: int

    @property
    def reference(self) -> str:
        return f"{self.type_name}/{self.id}"


def found_of(row: "Row", bodies: Bodies) -> Found:
    return Found(
        TYPE_NAMES[row["type_id"]],
        row["id"],
        row["version"],
        row["updated"],
        bodies.decompress(row["body"]),
        row["rid"],
        row["shard"],
    )
