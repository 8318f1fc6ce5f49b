"""patch: the next version of a resource, said as what changes.

In:      a Patch (ehr.fhir.patch)
Out:     the version that now stands; the earlier one where nothing changed
Errors:  NotFound, Gone; Invalid from the patch, and from the gate, which what comes of it passes; PreconditionFailed
         by If-Match
Source:  FHIR R4 http.html#patch
"""

from ehr.fhir.patch import Patch
from ehr.store.preconditions import Versions
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version


async def patch(
    uow: UnitOfWork, type_name: str, id: str, change: Patch, *, if_match: Versions | None = None
) -> Version:
    """The version that now stands."""
    (written,) = await uow.resources.apply([Write("U", type_name, id, if_match=if_match, patch=change)])
    assert written.version is not None, "a patch makes or keeps a version"
    return written.version
