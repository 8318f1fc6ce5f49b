"""transaction and batch: many interactions in one request.

Source:  FHIR R4 http.html#transaction
"""

from collections.abc import Mapping
from typing import Any

from ehr.access.policy import Caller
from ehr.store import bundles
from ehr.store.bundles import Getter, Prefer
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork


async def transaction(uow: UnitOfWork, bundle: Mapping[str, Any], *, prefer: Prefer, get: Getter) -> dict[str, Any]:
    """All entries or none."""
    return await bundles.transaction(uow, bundle, prefer=prefer, get=get)


async def batch(
    record: Record, caller: Caller, bundle: Mapping[str, Any], *, prefer: Prefer, get: Getter
) -> dict[str, Any]:
    """Each entry by itself."""
    return await bundles.batch(record, caller, bundle, prefer=prefer, get=get)
