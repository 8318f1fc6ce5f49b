"""history: the versions of one resource, of a type, of one patient's compartment, or of everything.

Source:  FHIR R4 http.html#history
"""

from datetime import datetime

from ehr.access.policy import Caller
from ehr.store.history import HistoryPage
from ehr.store.record import Record


async def history(
    record: Record,
    caller: Caller,
    type_name: str | None = None,
    id: str | None = None,
    *,
    since: datetime | None = None,
    at: tuple[datetime, datetime] | None = None,
    count: int | None = None,
    cursor: str | None = None,
) -> HistoryPage:
    """One page, newest first; its audit rows are committed before anything is answered."""
    async with record.reading(caller) as uow:
        return await uow.resources.history(type_name, id, since=since, at=at, count=count, cursor=cursor)
