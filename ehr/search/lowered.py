"""SearchPlan → its Lowering, worked out anew only where what it depends on may have changed.

Keeps:   of a settled search (ehr.search.settled) for KEPT_S: it depends on how many rows are expected, and on nothing
         else, and that is kept as long. So of first pages of patients in the order of their shards, settled for as
         long as the index of codes can be read. Any other asks the store each time
"""

import asyncio
from typing import TYPE_CHECKING

from ehr.index.hashing import Hasher
from ehr.search import coded, coded_patients, probe
from ehr.search.cursor import Cursor
from ehr.search.expect import KEPT_S
from ehr.search.lower import Lowering
from ehr.search.plan import SearchPlan
from ehr.search.settled import is_page, settled

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.database.engine import Installation


async def lowered(
    connection: "Connection",
    plan: SearchPlan,
    cursor: Cursor | None,
    installation: "Installation",
    hasher: Hasher,
) -> Lowering:
    """cursor: where the page begins, in the order of the page before it."""
    kept, now_s = (plan.anyone or plan).kept.lowered, asyncio.get_running_loop().time()
    known = kept.get(hasher)
    if known is not None and 0 <= now_s - known[1] < KEPT_S:
        return known[0]
    kept.pop(hasher, None)
    found = await _lowered(connection, plan, cursor, installation, hasher)
    if settled(plan, hasher) or (found.by_shard and is_page(plan)):
        kept[hasher] = found, now_s
    return found


async def _lowered(
    connection: "Connection",
    plan: SearchPlan,
    cursor: Cursor | None,
    installation: "Installation",
    hasher: Hasher,
) -> Lowering:
    listed = await coded.listed(connection, plan, installation, hasher)
    listed = listed or await coded_patients.pointed_at(connection, plan, cursor, installation, hasher)
    return listed or await probe.lowering_of(connection, plan, hasher)
