"""read: one resource as it is now.

Errors:  NotFound, also where the caller may not know; Gone after a deletion; Forbidden without the right to the type
Source:  FHIR R4 http.html#read
"""

from ehr.access.policy import Caller
from ehr.store.record import Record
from ehr.store.version import Version


async def read(record: Record, caller: Caller, type_name: str, id: str) -> Version:
    """The current version."""
    async with record.reading(caller, plans="once") as uow:
        return await uow.resources.read(type_name, id)
