"""A request that access refused leaves its audit row before it is answered (docs/adr/0115).

In:      who asked, the method and path, and the refusal
Out:     a row for each 403, and for each 404 of a caller who may not know all there is: what is hidden is not there
Cost:    nothing for what is not refused
"""

from typing import Final

from ehr.access.policy import Caller
from ehr.errors import EhrError, Forbidden, NotFound
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import FHIR_ID
from ehr.store import refused
from ehr.store.record import Record
from ehr.store.refused import Action
from ehr.store.unit_of_work import UnitOfWork

_ACTIONS: Final[dict[str, Action]] = {"POST": "C", "PUT": "U", "PATCH": "U", "DELETE": "D"}


async def note(record: Record, caller: Caller, method: str, path: str, error: EhrError) -> None:
    """path: below the base."""
    type_name, id = _named(path)
    hidden = isinstance(error, NotFound) and caller.person_id is not None and id is not None
    if not (hidden or isinstance(error, Forbidden)):
        return

    async def work(uow: UnitOfWork) -> None:
        await refused.note(uow, _action(method, path, type_name, id), type_name, id, status=error.http_status)

    await record.run(caller, work)


def _named(path: str) -> tuple[str | None, str | None]:
    """The type and id of "Patient/1/_history"; None for what is no such."""
    type_name, _, rest = path.strip("/").partition("/")
    id = rest.partition("/")[0]
    if type_name not in TYPE_IDS:
        return None, None
    return type_name, id if FHIR_ID.fullmatch(id) else None


def _action(method: str, path: str, type_name: str | None, id: str | None) -> Action:
    if method in ("GET", "HEAD"):
        return "E" if "$" in path else "R" if id else "S"
    if path.endswith("/_search"):
        return "S"
    return "E" if "$" in path or type_name is None else _ACTIONS.get(method, "E")
