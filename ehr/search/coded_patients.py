"""_has of patients by one code alone → a Lowering that reads the index of codes and shards (docs/adr/0117, 0118).

Where no order is asked for they are found one from another, in that of their shards, until the page is full. In one:

Few    patients have the code: they are found one from another, whatever of it each has, and looked up
Many   they are met soon in the order of the page: as many patients are passed as cost what looking up would, each asked
       by one look at the index, before they are looked up after all
Not    what else is asked for, or who may not see all, or where the index cannot be read: as ehr.search.probe finds it
"""

from math import isqrt
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ehr.index.hashing import Hasher
from ehr.search import coded, expect, pace
from ehr.search.cursor import Cursor
from ehr.search.lower import Lowering
from ehr.search.plan import SearchPlan
from ehr.search.terms import Has

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.database.engine import Installation

PASSED: Final = 5
"""Patients that are passed, each with a look at the index (some 0.8 µs), while one is found and looked up (some 4)."""


async def pointed_at(
    connection: "Connection",
    plan: SearchPlan,
    cursor: Cursor | None,
    installation: "Installation",
    hasher: Hasher,
) -> Lowering | None:
    """cursor: a page goes on in the order of the page before it."""
    has = plan.conditions[0] if len(plan.conditions) == 1 else None
    asked = coded.one_code(has.source, has.inner) if isinstance(has, Has) else None
    lowering = Lowering(hasher, plan.access, of=plan.request.contained)
    if has is None or not isinstance(has, Has) or asked is None or not pace.may_pass(lowering, plan):
        return None
    first, further = coded.tokens_of(hasher, asked)
    lowering = replace(lowering, pointing=(first, further), by_shard=not plan.request.sort)
    if cursor is not None and lowering.by_shard:
        return lowering if cursor.keys else None
    if not await coded.can_list(connection, (has.source,), installation, hasher, further):
        return None
    if lowering.by_shard:
        return lowering
    all_patients = await expect.rows_of(connection, lowering, plan, plan.types)
    worth = isqrt(2 * (plan.request.count + 1) * all_patients // PASSED)
    if await expect.patients(connection, hasher, has.source, first, worth + 1) <= worth:
        return replace(lowering, few=(has,))
    rows = await expect.rows_of(connection, lowering, plan, (has.source,), asked)
    some = max(worth, min(rows // pace.POINTING_EACH, all_patients))
    return replace(lowering, lead=has, pass_rows=pace.rounded(PASSED * some))
