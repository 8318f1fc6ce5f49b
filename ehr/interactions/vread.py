"""vread: one resource as it was at one version.

Errors:  NotFound, also where the caller may not know; Gone where the version is a deletion
Source:  FHIR R4 http.html#vread
"""

from ehr.access.policy import Caller
from ehr.store.record import Record
from ehr.store.version import Version


async def vread(record: Record, caller: Caller, type_name: str, id: str, version: int) -> Version:
    """One version, current or not."""
    async with record.reading(caller) as uow:
        return await uow.resources.vread(type_name, id, version)
