"""How many rows of an order are passed, each asked by itself, before a page is looked up → a Lowering that knows.

Why:     twenty of many are met soon in any order, unless they lie together far off; to look up what many have is dear,
         and dearer the larger the store. As many rows are passed as cost what looking up would, and only where a page
         may be among half of them: neither way costs more than twice what the better one does, however the rows lie
For:     searches of one type that tokens decide, and _has by them: nothing else finds rows but the order
Source:  docs/adr/0105
"""

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ehr.search import expect, lower_values, order
from ehr.search.lower import Lowering
from ehr.search.plan import SearchPlan
from ehr.search.terms import Condition, Criterion, Has

if TYPE_CHECKING:
    from ehr.database.connection import Connection

GATHERED_MAX: Final = 5_000
"""Rows of a token that are looked up on any page, some five milliseconds, before any order is tried."""
POINTING_MAX: Final = 5_000
"""Resources by which _has finds patients: the same of them."""
PASSED: Final = 4
"""Rows of an order that are passed while one is looked up: they lie together, and what is looked up lies anywhere."""
PATIENTS_PASSED: Final = 0.2
"""The same of patients, each asked by itself whether such a resource points to it."""
POINTING_EACH: Final = 4
"""Resources with a code that a patient has who has any, for a guess how many patients have one."""


def may_pass(lowering: Lowering, plan: SearchPlan) -> bool:
    request = plan.request
    everything = lowering.of == "own" and request.compartment is None and plan.access.person_id is None
    asked = bool(request.count and plan.conditions) and len(plan.types) == 1
    return asked and everything and all(_by_tokens(lowering, one) for one in plan.conditions) and order.can_pass(plan)


def _by_tokens(lowering: Lowering, condition: Condition) -> bool:
    if isinstance(condition, Has):
        return lowering.joins(condition.type_name, condition) and is_plain(condition.inner)
    return is_plain(condition)


def is_plain(condition: Condition) -> bool:
    """A token, and one that many may have."""
    return (
        isinstance(condition, Criterion)
        and not condition.modifier
        and lower_values.by_hash(condition)
        and not lower_values.is_narrow(condition)
    )


async def paced(connection: "Connection", lowering: Lowering, plan: SearchPlan) -> Lowering:
    leads: list[tuple[int, Condition]] = []
    for one in plan.conditions:
        types, criterion = ((one.source,), one.inner) if isinstance(one, Has) else (plan.types, one)
        assert isinstance(criterion, Criterion), "asked of may_pass before"
        leads.append((await expect.rows_of(connection, lowering, plan, types, criterion), one))
    pointing = any(isinstance(one, Has) for one in plan.conditions)
    rows, lead = min(leads, key=itemgetter(0))
    few = tuple(one for n, one in leads if n <= (POINTING_MAX if isinstance(one, Has) else GATHERED_MAX))
    pass_rows = rounded(int(rows * (PATIENTS_PASSED if pointing else PASSED)))
    among = await expect.rows_of(connection, lowering, plan, plan.types)
    evenly = (plan.request.count + 1) * among * (POINTING_EACH if pointing else 1) / max(rows, 1)
    return replace(lowering, few=few, lead=lead, pass_rows=pass_rows if 2 * evenly <= pass_rows else 0)


def rounded(rows: int) -> int:
    """Down to its first two binary digits: each number is a statement of its own, which a connection plans once."""
    return rows >> (digits := max(rows.bit_length() - 2, 0)) << digits
