"""SearchPlan → its Lowering, worked out anew only where what it depends on may have changed.

Keeps:   of a settled search (ehr.search.settled) for KEPT_S: it depends on how many rows are expected, and on nothing
         else, and that is kept as long. Any other asks the store each time
"""

import asyncio
from typing import TYPE_CHECKING

from ehr.index.hashing import Hasher
from ehr.search import coded, coded_patients, probe
from ehr.search.expect import KEPT_S
from ehr.search.lower import Lowering
from ehr.search.plan import SearchPlan
from ehr.search.settled import settled

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.database.engine import Installation


async def lowered(connection: "Connection", plan: SearchPlan, installation: "Installation", hasher: Hasher) -> Lowering:
    if not settled(plan, hasher):
        return await _lowered(connection, plan, installation, hasher)
    kept, now_s = (plan.anyone or plan).kept.lowered, asyncio.get_running_loop().time()
    known = kept.get(hasher)
    if known is None or not 0 <= now_s - known[1] < KEPT_S:
        known = kept[hasher] = await _lowered(connection, plan, installation, hasher), now_s
    return known[0]


async def _lowered(
    connection: "Connection", plan: SearchPlan, installation: "Installation", hasher: Hasher
) -> Lowering:
    listed = await coded.listed(connection, plan, installation, hasher)
    listed = listed or await coded_patients.pointed_at(connection, plan, installation, hasher)
    return listed or await probe.lowering_of(connection, plan, hasher)
