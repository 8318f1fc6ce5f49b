"""The patients whom a search names → their shards, for the audit: whatever it finds, it tells something of them.

Why:     that a patient has no such result, or how many, is told without showing one
Not for: a caller who sees one person's record, who is told nothing of others
"""

from ehr.search.lower import Lowering
from ehr.search.plan import SearchPlan
from ehr.search.terms import Criterion, Ids


def named(lowering: Lowering, plan: SearchPlan) -> list[int]:
    """In the order of the search, so that a search of anyone (ehr.search.anyone) says the same; one may come twice."""
    if plan.access.person_id is not None:
        return []
    ids: list[str] = []
    found: list[int] = []
    for one in plan.conditions:
        if isinstance(one, Criterion):
            found.extend(lowering.shards_of(plan.type_name, one))
        elif isinstance(one, Ids) and plan.type_name == "Patient":
            ids.extend(one.ids)
    if plan.request.compartment is not None and plan.request.compartment.name == "Patient":
        ids.append(plan.request.compartment.id)
    return [*found, *(lowering.hasher.shard("Patient", id) for id in ids)]
