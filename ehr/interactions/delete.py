"""delete: a resource is not there any more; its versions and its id remain.

Source:  FHIR R4 http.html#delete
"""

from ehr.store.preconditions import Versions
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version


async def delete(uow: UnitOfWork, type_name: str, id: str, *, if_match: Versions | None = None) -> Version | None:
    """The deletion; the earlier one when it was deleted already; None when it never was."""
    return await uow.resources.delete(type_name, id, if_match=if_match)
