"""SearchPlan → which resources it finds, by id or number, and nothing of what is in them.

Out:     ids of the first matches, for conditional interactions; numbers of all, for exports
Errors:  NotSupported where no index answers; those of ehr.search.resolve and ehr.search.probe
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ehr.errors import NotSupported, PreconditionFailed
from ehr.index.hashing import hasher_of
from ehr.search import probe
from ehr.search.found import Bodies
from ehr.search.page import refuse_retired
from ehr.search.plan import SearchPlan
from ehr.search.resolve import resolved
from ehr.search.shape import (
    From,
    Sharded,
    Values,
    Wanted,
)
from ehr.search.shape_statements import IdsOf, RidsOf
from ehr.search.statements import fetch

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.database.engine import Installation


async def match_ids(
    connection: "Connection",
    plan: SearchPlan,
    limit: int,
    *,
    installation: "Installation",
    bodies: Bodies,
    source: int | None = None,
) -> list[str]:
    """Ids of the first matches, for conditional interactions; source: only resources of this facility."""
    if plan.request.content:
        raise NotSupported("a condition is answered by the index, which has no _content", at="_content")
    if plan.request.contained != "own":
        raise NotSupported("a condition names resources that have an address", at="_contained")
    if not plan.conditions:
        raise PreconditionFailed("these criteria name no condition: they would match everything")
    hasher = hasher_of(installation.hash_key)
    plan = await resolved(connection, plan, installation, hasher, bodies)
    lowering = await probe.lowering_of(connection, plan, hasher)
    to = Values()
    clauses, narrow = lowering.plan(to, plan)
    if source is not None:
        clauses.append(From(to.add(source)))
    found = [str(one["id"]) for one in await fetch(connection, IdsOf(tuple(clauses), narrow, to.add(limit)), to)]
    await refuse_retired(connection, plan.request)
    return found


async def match_rids(
    connection: "Connection",
    plan: SearchPlan,
    *,
    installation: "Installation",
    bodies: Bodies,
    rids: tuple[int, int],
    shards: Sequence[int] | None,
) -> list[int]:
    """All matches made after the first number up to the second, in these compartments; for exports."""
    hasher = hasher_of(installation.hash_key)
    plan = await resolved(connection, plan, installation, hasher, bodies)
    lowering = await probe.lowering_of(connection, plan, hasher)
    to = Values()
    clauses, _ = lowering.plan(to, plan)
    if shards is not None:
        clauses.append(Sharded(Wanted(to.add(list(shards)), many=True)))
    found = [int(row["rid"]) for row in await fetch(connection, RidsOf(tuple(clauses), *map(to.add, rids)), to)]
    await refuse_retired(connection, plan.request)
    return found
