"""Read whole compartments page by page, whatever the types in them.

In:      shards of source Patients, types, bounds of time, a place to go on from
Out:     Versions in the order of type and creation; and any resources by (type, id), for what they refer to
Access:  types that are not granted are not read; a confined caller sees its person's shards and the open types
Cost:    one statement a page, along the index of shard in each type's partition
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ehr.database.connection import Row
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.store.access_sql import arguments, seen
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Place = tuple[int, int]
"""type_id and rid of the last row that was read."""

START: Final[Place] = (0, 0)

NO_CARE: Final = [TYPE_IDS[name] for name in ("AllergyIntolerance", "Patient", "Person", "RelatedPerson")]
"""Types whose main date is none of care: a birth, or when something was written down. They belong to any period
(patient-operation-everything.html: "care dates, not record currency dates")."""

_COLUMNS: Final = "r.type_id, r.rid, r.id, r.version, r.updated, r.shard, r.source, r.body"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM resource r
WHERE r.shard = ANY($3::bigint[]) AND r.type_id = ANY($4::smallint[]) AND (r.type_id, r.rid) > ($5::smallint, $6)
  AND ($7::timestamptz IS NULL OR r.updated >= $7)
  AND ($8::bigint IS NULL OR r.date_hi_us IS NULL OR r.date_hi_us >= $8 OR r.type_id = ANY($11::smallint[]))
  AND ($9::bigint IS NULL OR r.date_lo_us IS NULL OR r.date_lo_us <= $9 OR r.type_id = ANY($11::smallint[]))
  AND {seen("r")}
ORDER BY r.type_id, r.rid LIMIT $10
"""  # noqa: S608 - constants of ours
_MANY: Final = f"""
SELECT {_COLUMNS} FROM resource r JOIN unnest($3::smallint[], $4::text[]) AS n(type_id, id)
  ON r.type_id = n.type_id AND r.id = n.id
WHERE {seen("r")} ORDER BY r.type_id, r.rid
"""  # noqa: S608 - constants of ours
_SHARDS: Final = "SELECT shard, patient_id FROM person_link WHERE person_id = $1 ORDER BY patient_id"


@dataclass(frozen=True, slots=True)
class Bounds:
    """updated at or after since; of clinical time between start and end, rows without one always included (NO_CARE)."""

    since: datetime | None = None
    start_us: int | None = None
    end_us: int | None = None


async def page(
    uow: "UnitOfWork", shards: Sequence[int], type_names: Iterable[str], bounds: Bounds, *, after: Place, count: int
) -> tuple[list[Version], Place | None]:
    """At most count rows, and where the next page begins, where there is one."""
    granted = [TYPE_IDS[name] for name in type_names if uow.access.grants.allow(name, "r")]
    rows = await uow.connection.fetch(
        _PAGE,
        *arguments(uow.access),
        list(shards),
        granted,
        after[0],
        after[1],
        bounds.since,
        bounds.start_us,
        bounds.end_us,
        count + 1,
        NO_CARE,
    )
    shown = rows[:count]
    following = (shown[-1]["type_id"], shown[-1]["rid"]) if len(rows) > count and shown else None
    return [_version(uow, row) for row in shown], following


async def many(uow: "UnitOfWork", wanted: Iterable[tuple[str, str]]) -> list[Version]:
    """The resources of these types and ids that exist and that the caller may see."""
    granted = [(TYPE_IDS[name], id) for name, id in wanted if uow.access.grants.allow(name, "r")]
    if not granted:
        return []
    type_ids, ids = [type_id for type_id, _ in granted], [id for _, id in granted]
    rows = await uow.connection.fetch(_MANY, *arguments(uow.access), type_ids, ids)
    return [_version(uow, row) for row in rows]


async def sources_of(uow: "UnitOfWork", person_id: str) -> list[tuple[int, str]]:
    """(shard, id) of the source Patients linked to a person now."""
    return [(row["shard"], row["patient_id"]) for row in await uow.connection.fetch(_SHARDS, person_id)]


def _version(uow: "UnitOfWork", row: Row) -> Version:
    body = uow.record.bodies.decompress(row["body"])
    return Version(
        TYPE_NAMES[row["type_id"]],
        row["id"],
        row["version"],
        row["updated"],
        "C" if row["version"] == 1 else "U",
        body,
        row["rid"],
        row["shard"],
        row["source"],
    )
