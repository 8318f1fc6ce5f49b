"""Statements that read one resource: as it is now, as it was, and whether it was deleted.

Audit:   of types of the patient compartment, the statement that reads writes the row
Why so:  what a caller or a type does not need is not in it: each parameter and each condition costs both processes
"""

from functools import cache
from typing import Final

from ehr.store.access_sql import seen

_NOTED: Final = """
INSERT INTO audit (actor_kind, actor, facility_id, action, type_id, resource_id, shard, person_id, purpose)
SELECT $3, $4, $5, 'R', $1, $2, f.shard, (SELECT l.person_id FROM person_link l WHERE l.shard = f.shard), $6
FROM found f
"""
_READ: Final = """
SELECT r.rid, r.version, r.updated, r.shard, r.source, r.body FROM <partition> r
WHERE r.type_id = $1 AND r.id = $2 <confined>
"""
_READ_NOTED: Final = f"WITH found AS ({_READ}), noted AS ({_NOTED}) SELECT *, $7::integer FROM found"  # noqa: S608 - constants of ours
ASKER: Final = 6
"""The place of $7 among the values: whose a row is, where several read together."""
VREAD: Final = f"""
WITH found AS (
    SELECT r.rid, r.version, r.updated, r.shard, r.source, r.op, r.body FROM resource r
    WHERE r.type_id = $1 AND r.id = $2 AND r.version = $10 AND {seen("r", 7)}
    UNION ALL
    SELECT h.rid, h.version, h.updated, h.shard, h.source, h.op, h.body FROM resource_history h
    WHERE h.type_id = $1 AND h.id = $2 AND h.version = $10 AND {seen("h", 7)}
), noted AS ({_NOTED} WHERE $9)
SELECT * FROM found
"""  # noqa: S608 - constants of ours
DELETED: Final = f"""
SELECT h.op FROM resource_history h WHERE h.type_id = $3 AND h.id = $4 AND {seen("h")} ORDER BY h.version DESC LIMIT 1
"""  # noqa: S608 - constants of ours


@cache
def read(partition: str, *, noted: bool, confined: bool) -> str:
    """noted: it is of a patient. confined: the caller sees one person's only. Planned over one table, not over all."""
    text = _READ_NOTED if noted else _READ
    condition = f"AND {seen('r', 8 if noted else 3)}" if confined else ""
    return text.replace("<partition>", partition).replace("<confined>", condition)
