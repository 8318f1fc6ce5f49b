"""Read the current resources of some compartments at once, with the facility each came from.

In:      shards of source Patients, resource types
Out:     Held rows, newest clinical date first
Access:  a confined caller's rows must lie in its person's shards; a type that is not granted is not read
Cost:    one statement; one index range a type and shard
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Held:
    """One current resource. sender is the facility's name, '' where the city wrote it."""

    type_name: str
    id: str
    tree: dict[str, Any]
    sender: str


_CURRENT: Final = """
select r.type_id, r.id, r.body, coalesce(f.name, '') as sender
from resource r left join facility f on f.id = r.source
where r.type_id = any($1::smallint[]) and r.shard = any($2::bigint[])
  and ($3::text is null or r.shard in (select l.shard from person_link l where l.person_id = $3))
order by r.date_lo_us desc nulls last, r.rid desc limit $4
"""


async def current(uow: "UnitOfWork", shards: Sequence[int], type_names: Sequence[str], *, count_max: int) -> list[Held]:
    """Current resources of the compartments, at most count_max."""
    granted = [TYPE_IDS[name] for name in type_names if uow.access.grants.allow(name, "r")]
    rows = await uow.connection.fetch(_CURRENT, granted, list(shards), uow.access.person_id, count_max)
    return [
        Held(
            TYPE_NAMES[row["type_id"]], row["id"], codec.loads(uow.record.bodies.decompress(row["body"])), row["sender"]
        )
        for row in rows
    ]
