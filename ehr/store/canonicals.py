"""A canonical URL → the stored resource it names.

In:      a connection, a resource type that has a url, "url" or "url|version"
Out:     bytes of the resource; None where none is stored
Keeps:   without a version the newest one that is not retired; read as the city, because definitions bind everyone
Source:  FHIR R4 references.html#canonical
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from ehr.fhir import parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import Hasher

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.store.unit_of_work import UnitOfWork

_BODIES: Final = """
SELECT body FROM resource WHERE type_id = $1 AND tokens @> ARRAY[$2::bigint] ORDER BY updated DESC, rid DESC LIMIT $3"""
_VERSIONS_MAX: Final = 100
"""Resources of one canonical URL that are looked at."""


class Bodies(Protocol):
    """The part of ehr.store.body.BodyCodec that reading needs."""

    def decompress(self, frame: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Canonicals:
    """Where they are followed."""

    connection: "Connection"
    hasher: Hasher
    bodies: Bodies

    @classmethod
    def within(cls, uow: "UnitOfWork") -> "Canonicals":
        return cls(uow.connection, uow.record.hasher, uow.record.bodies)

    async def follow(self, type_name: str, canonical: str) -> bytes | None:
        url, _, version = canonical.partition("|")
        token = self.hasher.uri(parameters.of(type_name)["url"].id, url)
        rows = await self.connection.fetch(_BODIES, TYPE_IDS[type_name], token, _VERSIONS_MAX)
        bodies = [self.bodies.decompress(row["body"]) for row in rows]
        named = [(body, tree) for body in bodies if _is_named(tree := orjson.loads(body), url, version)]
        return max(named, key=lambda one: _rank(one[1]))[0] if named else None


def _is_named(tree: Mapping[str, Any], url: str, version: str) -> bool:
    return tree.get("url") == url and version in {"", tree.get("version")}


def _rank(tree: Mapping[str, Any]) -> tuple[bool, list[tuple[int, str]]]:
    """By which the newest of a canonical URL is the greatest: 1.10.0 is after 1.9.0, and a release after its draft."""
    release, _, draft = str(tree.get("version", "")).partition("-")
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in release.split(".")]
    return tree.get("status") != "retired", [*parts, (0, "") if not draft else (-1, draft)]
