"""transaction: many interactions in one request, all of them or none.

Source:  FHIR R4 http.html#transaction
"""

from collections.abc import Mapping
from typing import Any

from ehr.store import bundles
from ehr.store.bundle_entries import Entry
from ehr.store.bundles import Getter, Prefer
from ehr.store.unit_of_work import UnitOfWork


async def transaction(
    uow: UnitOfWork, bundle: Mapping[str, Any], entries: list[Entry], *, prefer: Prefer, get: Getter
) -> dict[str, Any]:
    """Every entry's answer. entries: the Bundle's, as bundles.checked gives them."""
    return await bundles.transaction(uow, bundle, prefer=prefer, get=get, entries=entries)
