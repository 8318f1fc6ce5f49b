"""An access that was refused → its audit row, of whom it was, where that is known.

In:      what was tried: action, type and id as the address names them, and the status it was answered with
Out:     one row of audit with detail.refused; the record of whom it was tells the citizen, too
Order:   in a transaction of its own: that of the access was never begun, or left nothing
Never:   an id that no resource has: it may be anything, as a number of a person
Source:  FHIR R4 AuditEvent.outcome; IHE ITI TF-2 3.20 (a refused access is an event)
"""

from typing import TYPE_CHECKING, Final, Literal

from ehr.fhir.r4 import TYPE_IDS
from ehr.store.access_sql import PERSON, arguments, seen

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Action = Literal["R", "S", "C", "U", "D", "E"]

_OF: Final = f"""
    SELECT r.id, r.shard FROM resource r WHERE r.type_id = $7 AND r.id = $8 AND ($9 OR NOT {seen("r")})
    UNION ALL
    SELECT h.id, h.shard FROM resource_history h WHERE h.type_id = $7 AND h.id = $8 AND ($9 OR NOT {seen("h")})
    LIMIT 1
"""  # noqa: S608 - constants of ours
_REFUSED: Final = f"""
INSERT INTO audit (actor_kind, actor, facility_id, action, type_id, resource_id, shard, person_id, purpose, detail)
SELECT $3, $4, $5, $6, $7, f.id, f.shard, CASE WHEN $7 = {PERSON} THEN f.id
           ELSE (SELECT l.person_id FROM person_link l WHERE l.shard = f.shard) END,
       $10, jsonb_build_object('refused', $11::int)
FROM (SELECT) AS one LEFT JOIN ({_OF}) AS f ON true
"""  # noqa: S608 - constants of ours


async def note(uow: "UnitOfWork", action: Action, type_name: str | None, id: str | None, *, status: int) -> None:
    """status 404: of what the caller may not know only; the same work is done where there is nothing."""
    caller, type_id = uow.caller, TYPE_IDS[type_name] if type_name else None
    who = (caller.kind, caller.id, caller.facility_id)
    asked = (action, type_id, id, status != 404, caller.purpose, status)
    await uow.connection.execute(_REFUSED, *arguments(uow.access), *who, *asked)
