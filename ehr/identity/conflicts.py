"""What identity cannot decide becomes a Task that operators see; what an operator decided stays decided.

differs    a source states a person's number under another name or birth date: not linked (`promises` C45)
numbers    one source states numbers of two persons: linked to the surest one's
unlinked   an operator took a source away from a person: it is not linked to it again by itself
Task ids are computed from what they are about, so the same message again opens nothing new.
No name and no number is in a Task: only references.
"""

import hashlib
from typing import TYPE_CHECKING, Any, Final, Literal

from ehr.clock import instant
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Kind = Literal["differs", "numbers", "unlinked"]
SYSTEM: Final = "urn:city-ehr:identity-task"
REASON: Final = "identity"

_TEXTS: Final[dict[Kind, str]] = {
    "differs": "The source states this person's national number under another name or birth date; it is not linked.",
    "numbers": "The source states national numbers of two persons; it is linked to the one of the surer number.",
    "unlinked": "An operator decided that the source is not this person.",
}


def task_id(kind: Kind, patient_id: str, person_id: str) -> str:
    about = f"{kind}\x1f{patient_id}\x1f{person_id}"
    return "identity-" + hashlib.sha256(about.encode()).hexdigest()[:32]


async def report(uow: "UnitOfWork", kind: Kind, patient_id: str, person_id: str, *, reason: str = "") -> None:
    """Open the Task. One that is open stays as it is; one about two numbers that was dealt with is not opened again."""
    stands = await standing(uow, task_id(kind, patient_id, person_id))
    if stands == "requested" or (stands == "completed" and kind != "differs"):
        return
    await _put(uow, kind, patient_id, person_id, status="completed" if kind == "unlinked" else "requested", why=reason)


async def settle(uow: "UnitOfWork", kind: Kind, patient_id: str, person_id: str) -> None:
    """The cause is gone: close the Task that is open, or take the decision back."""
    stands = await standing(uow, task_id(kind, patient_id, person_id))
    if kind == "unlinked" and stands == "completed":
        await _put(uow, kind, patient_id, person_id, status="cancelled")
    elif stands == "requested":
        await _put(uow, kind, patient_id, person_id, status="completed")


async def is_unlinked(uow: "UnitOfWork", patient_id: str, person_id: str) -> bool:
    return await standing(uow, task_id("unlinked", patient_id, person_id)) == "completed"


_BODY: Final = "SELECT body FROM resource WHERE type_id = $1 AND id = $2"


async def standing(uow: "UnitOfWork", id: str) -> str | None:
    """Task.status, or None where there is no Task."""
    frame = await uow.connection.fetchval(_BODY, TYPE_IDS["Task"], id)
    return str(codec.loads(uow.record.bodies.decompress(frame))["status"]) if frame is not None else None


async def _put(uow: "UnitOfWork", kind: Kind, patient_id: str, person_id: str, *, status: str, why: str = "") -> None:
    id = task_id(kind, patient_id, person_id)
    tree: dict[str, Any] = {
        "resourceType": "Task",
        "id": id,
        "status": status,
        "intent": "order",
        "code": {"coding": [{"system": SYSTEM, "code": kind}]},
        "description": _TEXTS[kind],
        "focus": {"reference": f"Person/{person_id}"},
        "for": {"reference": f"Patient/{patient_id}"},
        "authoredOn": instant(uow.now),
    }
    if why:
        tree["statusReason"] = {"text": why}
    await uow.as_city(REASON).update("Task", id, None, tree)
