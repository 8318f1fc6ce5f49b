"""A canonical URL → the stored resource it names.

In:      a unit of work, a resource type that has a url, "url" or "url|version"
Out:     bytes of the resource; None where none is stored
Keeps:   without a version the newest one that is not retired; read as the city, because definitions bind everyone
Source:  FHIR R4 references.html#canonical
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr.access.policy import Caller, predicate
from ehr.fhir.r4 import TYPE_IDS

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

_BODIES: Final = "SELECT body FROM resource WHERE type_id = $1 AND id = ANY($2) ORDER BY updated DESC, rid DESC"
_VERSIONS_MAX: Final = 100
"""Resources of one canonical URL that are looked at."""


async def by_canonical(uow: "UnitOfWork", type_name: str, canonical: str) -> bytes | None:
    record = uow.record
    assert record.matcher is not None, "a record that follows canonical URLs can search"
    url, _, version = canonical.partition("|")
    await uow.plan("values")
    ids = await record.matcher(
        uow.connection,
        type_name,
        [("url", _escaped(url)), *([("version", _escaped(version))] if version else [])],
        predicate(Caller.system("definitions")),
        source=None,
        limit=_VERSIONS_MAX,
    )
    if not ids:
        return None
    rows = await uow.connection.fetch(_BODIES, TYPE_IDS[type_name], ids)
    bodies = [record.bodies.decompress(row["body"]) for row in rows]
    return max(bodies, key=lambda body: _rank(orjson.loads(body)))


def _rank(tree: Mapping[str, Any]) -> tuple[bool, list[tuple[int, str]]]:
    """By which the newest of a canonical URL is the greatest: 1.10.0 is after 1.9.0, and a release after its draft."""
    release, _, draft = str(tree.get("version", "")).partition("-")
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in release.split(".")]
    return tree.get("status") != "retired", [*parts, (0, "") if not draft else (-1, draft)]


def _escaped(value: str) -> str:
    """A value of a search parameter, whose separators are escaped with a backslash (search.html#escaping)."""
    return "".join("\\" + char if char in "\\,|$" else char for char in value)
