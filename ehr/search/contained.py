"""_contained: rows of contained resources → what is shown of them, the container or the contained resource alone.

In:      rows of a page, some of them of contained resources (they say what type contains them)
Out:     Found, in the same order; of a contained one what _containedType says. Its body is cut from the container's,
         digits as sent; its address is the container's with #id
Access:  the containers are read under the access condition
Source:  FHIR R4 search.html#contained; docs/adr/0095
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ehr import limits
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_NAMES
from ehr.index.contained import FIRST, container_of, rid_of
from ehr.search.found import CONTAINER, Bodies, Found, FoundInside, found_of
from ehr.search.lower import Lowering, typed
from ehr.search.plan import SearchPlan
from ehr.search.shape import (
    Clause,
    NotAfter,
    Numbered,
    Values,
)
from ehr.search.shape_statements import IncludedOf
from ehr.search.statements import sql_of

if TYPE_CHECKING:
    from ehr.store.connection import Connection, Row


def not_after(to: Values, plan: SearchPlan, rid_max: int) -> NotAfter:
    """Made, or contained in what was made, before the first page was read."""
    if plan.request.contained == "own":
        return NotAfter(to.add(rid_max))
    return NotAfter(to.add(rid_max), (to.add(FIRST), to.add(rid_of(rid_max + 1, 0))))


async def found(
    connection: "Connection", plan: SearchPlan, lowering: Lowering, rows: Sequence["Row"], bodies: Bodies
) -> list[Found]:
    containers = await _containers(connection, lowering, rows, bodies)
    shown: list[Found] = []
    for row in rows:
        if row[CONTAINER] is None:
            shown += found_of([row], bodies)
        elif (container := containers.get(container_of(row["rid"]))) is not None:
            whole = plan.request.contained_type == "container"
            one = container if whole else inside(container, row["id"], row["rid"])
            shown += [] if one is None else [one]
    return shown


async def _containers(
    connection: "Connection", lowering: Lowering, rows: Sequence["Row"], bodies: Bodies
) -> dict[int, Found]:
    """By rid: the resources that contain what was found."""
    inside = [row for row in rows if row[CONTAINER] is not None]
    if not inside:
        return {}
    to = Values()
    names = sorted({TYPE_NAMES[row[CONTAINER]] for row in inside})
    rids = sorted({container_of(row["rid"]) for row in inside})
    clauses: tuple[Clause, ...] = (typed(to, names), Numbered(to.add(rids)), *lowering.seen(to, names))
    sql = sql_of(IncludedOf(clauses, to.add(len(rids))))
    return {one.rid: one for one in found_of(await connection.fetch(sql.text, *sql.arguments(to)), bodies)}


def inside(container: Found, id: str, rid: int = 0) -> FoundInside | None:
    """A contained resource by itself; None where the container has none of this id, or no more."""
    for one in codec.loads(container.body, bytes_max=limits.bundle_bytes_max).get("contained", ()):
        if one.get("id") == id:
            body, address = codec.dumps(one), f"{container.id}#{id}"
            return FoundInside(container.type_name, address, rid, container.shard, body, one["resourceType"])
    return None
