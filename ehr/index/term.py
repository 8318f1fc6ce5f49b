"""The texts, units and outlines that tokens are known by: one row for each distinct one, whatever the number of
resources.

term     (param_id, folded text) of a display or text, for :text; (UNIT, code) of a UCUM unit, for quantities in
         other units; (-param_id, token) of an outline that has a value for a parameter (ehr.index.outline);
         (BESIDE + param_id, token) of what stands in meta (ehr.index.meta), up to a number of each parameter
Why:     a resource holds the hash of a text, which cannot be looked through; a search first finds the texts that
         begin as asked, then the resources by their hashes. A text on a million resources costs one row here
Keeps:   what is written in the transaction of the first resource that has it. An Extractor knows what is committed and
         offers the rest again; two writers may both write a term, which is harmless. Never deleted: a rebuild may
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, TypeAlias

from ehr import limits
from ehr.index.meta import BESIDE

if TYPE_CHECKING:
    from ehr.database.connection import Connection

Term: TypeAlias = tuple[int, str]

UNIT: Final = 0
"""The param_id of units: they are the same whatever is measured."""
KEPT_MAX: Final = 262_144
"""Terms a process remembers; a full memory is emptied, and terms are offered again."""

_KEEP: Final = """
insert into term (param_id, value)
select n.param_id, n.value from unnest($1::int[], $2::text[]) as n (param_id, value)
where not exists (select 1 from term t where t.param_id = n.param_id and t.value = n.value)
  and (n.param_id < $3 or not exists (select 1 from term t where t.param_id = n.param_id offset $4))
"""


async def keep(connection: "Connection", terms: Collection[Term]) -> None:
    """Write those that are not there. The caller tells its Extractor after the commit."""
    ordered = sorted(terms)
    ids, values = [param_id for param_id, _ in ordered], [value for _, value in ordered]
    await connection.execute(_KEEP, ids, values, BESIDE, limits.meta_values_max)
