"""Whether a first page is found in the same way whatever its values are: then it is planned once, not for each request.

In:      a SearchPlan
Out:     True  one patient's resources, which the index by shard finds; rows looked up by a token that few have; or a
               pass through an order with what is looked up instead (ehr.search.pace): the text itself says the way;
               patients found in the order of their shards, once that was seen (ehr.search.lowered)
         False the planner is to choose by the values, as it must between an order and a lookup
Keeps:   beside the page only statements that name their rows by key: no includes, no total, nothing to be resolved
Why:     planning a page takes PostgreSQL twice as long as running it (docs/adr/0103)
"""

from ehr.index.hashing import Hasher
from ehr.index.main_date import main_date
from ehr.search import lower_values, pace, read
from ehr.search.lower import Lowering
from ehr.search.plan import SearchPlan
from ehr.search.terms import Condition, Criterion


def settled(plan: SearchPlan, hasher: Hasher) -> bool:
    """Worked out once for a plan; once for all patients where it is one of anyone's."""
    of = plan.anyone or plan
    if of.kept.settled is None:
        of.kept.settled = is_page(of) and _is_settled(of, Lowering(hasher, of.access))
    return of.kept.settled or hasher in of.kept.lowered


def is_page(plan: SearchPlan) -> bool:
    """The first rows of one type, and nothing else."""
    request = plan.request
    one = request.type_name is not None and request.compartment is None and request.contained == "own"
    page = request.count > 0 and request.total == "none" and request.cursor is None
    return one and page and not plan.includes and not read.asked_of(plan) and plan.access.person_id is None


def _is_settled(plan: SearchPlan, lowering: Lowering) -> bool:
    if lowering.sharded(plan):
        return all(_of_row(plan, one) for one in plan.conditions)
    if not all(_by_token(one) for one in plan.conditions):
        return False
    return any(_is_narrow(one) for one in plan.conditions) or pace.may_pass(lowering, plan)


def _of_row(plan: SearchPlan, condition: Condition) -> bool:
    """What the row itself answers."""
    if not isinstance(condition, Criterion):
        return False
    is_date = condition.parameter.kind == "date" and condition.parameter.code == main_date(plan.type_name)
    return is_date or _by_token(condition)


def _by_token(condition: Condition) -> bool:
    return isinstance(condition, Criterion) and not condition.modifier and lower_values.by_hash(condition)


def _is_narrow(condition: Condition) -> bool:
    return isinstance(condition, Criterion) and lower_values.is_narrow(condition)
