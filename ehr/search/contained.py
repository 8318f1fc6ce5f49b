"""_contained: rows of contained resources → what is shown of them, the container or the contained resource alone.

In:      rows of a page, some of them of contained resources (they say what type contains them)
Out:     Found, in the same order; of a contained one what _containedType says. Its body is cut from the container's,
         digits as sent; its address is the container's with #id
Access:  the containers are read under the access condition
Source:  FHIR R4 search.html#contained; docs/adr/0095
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from ehr.search.statements import fetch

if TYPE_CHECKING:
    from ehr.database.connection import Connection, Row


def not_after(to: Values, plan: SearchPlan, rid_max: int) -> NotAfter:
    """Made, or contained in what was made, before the first page was read."""
    if plan.request.contained == "own":
        return NotAfter(to.add(rid_max))
    return NotAfter(to.add(rid_max), (to.add(FIRST), to.add(rid_of(rid_max + 1, 0))))


async def found(
    connection: "Connection", plan: SearchPlan, lowering: Lowering, rows: Sequence["Row"], bodies: Bodies
) -> list[Found]:
    """What is shown of them."""
    whole = plan.request.contained_type == "container"
    containers = await _containers(connection, lowering, rows, bodies)
    shown: list[Found] = []
    for row in rows:
        if row[CONTAINER] is None:
            shown += found_of([row], bodies)
        elif (container := containers.get(container_of(row["rid"]))) is not None:
            one = container.found if whole else container.part(row["id"], row["rid"])
            shown += [] if one is None else [one]
    return shown


async def read(
    connection: "Connection", lowering: Lowering, rows: Sequence["Row"], bodies: Bodies
) -> list[tuple[Found, Found]]:
    """The resources themselves, each with what contains it (itself, where nothing does)."""
    containers = await _containers(connection, lowering, rows, bodies)
    made: list[tuple[Found, Found]] = []
    for row in rows:
        if row[CONTAINER] is None:
            (own,) = found_of([row], bodies)
            made.append((own, own))
        elif (container := containers.get(container_of(row["rid"]))) is not None:
            one = container.part(row["id"], row["rid"])
            made += [] if one is None else [(one, container.found)]
    return made


@dataclass(slots=True)
class _Container:
    """A container; its body is taken apart once, however many of its parts are wanted."""

    found: Found
    parts: dict[Any, dict[str, Any]] | None = None

    def part(self, id: str, rid: int) -> FoundInside | None:
        """A contained resource by itself; None where the container has none of this id, or no more."""
        if self.parts is None:
            inside = codec.loads(self.found.body, bytes_max=limits.bundle_bytes_max).get("contained", ())
            self.parts = {one.get("id"): one for one in inside}
        one = self.parts.get(id)
        if one is None:
            return None
        address = f"{self.found.id}#{id}"
        return FoundInside(self.found.type_name, address, rid, self.found.shard, codec.dumps(one), one["resourceType"])


async def _containers(
    connection: "Connection", lowering: Lowering, rows: Sequence["Row"], bodies: Bodies
) -> dict[int, _Container]:
    """By rid: the resources that contain what was found."""
    inside = [row for row in rows if row[CONTAINER] is not None]
    if not inside:
        return {}
    to = Values()
    names = sorted({TYPE_NAMES[row[CONTAINER]] for row in inside})
    rids = sorted({container_of(row["rid"]) for row in inside})
    clauses: tuple[Clause, ...] = (typed(to, names), Numbered(to.add(rids)), *lowering.seen(to, names))
    rows = await fetch(connection, IncludedOf(clauses, to.add(len(rids))), to)
    return {one.rid: _Container(one) for one in found_of(rows, bodies)}


def inside(container: Found, id: str) -> FoundInside | None:
    """A contained resource that a reference of its container names."""
    return _Container(container).part(id, 0)
