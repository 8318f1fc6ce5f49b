"""$viewdefinition-run: the rows of a view over the caller's part of the store, now and in one answer.

In:      a View; the only patients wanted, a moment since which resources changed, how many rows
Out:     rows, in the order of creation of their resources; audit rows of every patient they were made of
Access:  as in a search of the type: the grant, and the condition in the statement
Limits:  limits.view_resources_max resources are looked at, limits.view_rows_max rows made; more is an export's
Source:  SQL on FHIR v2, $viewdefinition-run
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from typing import Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.errors import TooMuch
from ehr.fhir import codec
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.views import Row, View
from ehr.store import versions
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

PAGE: Final = 100
"""Resources read at once; between two of them others have their turn."""


async def run_view(
    record: Record,
    caller: Caller,
    view: View,
    *,
    patients: Sequence[str] | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Row]:
    """At most limit rows; TooMuch where there are more than may be, and no limit says how many are wanted."""
    wanted = limits.view_rows_max + 1 if limit is None else limit

    async def read(uow: UnitOfWork) -> list[Row]:
        shards = None if patients is None else [record.hasher.shard("Patient", id) for id in patients]
        rows: list[Row] = []
        seen: set[int] = set()
        after = 0
        for number in count(1):
            page = await versions.page(uow, view.resource, after=after, shards=shards, since=since, count=PAGE)
            for rid, shard, body in page:
                rows += view.rows(codec.loads(body))
                seen.add(shard)
                after = rid
                if len(rows) >= wanted:
                    break
            if len(rows) >= wanted or len(page) < PAGE:
                break
            if number * PAGE >= limits.view_resources_max:
                raise TooMuch(f"the view looks at more than {limits.view_resources_max} resources; export it instead")
            await asyncio.sleep(0)
        if limit is None and len(rows) >= wanted:
            raise TooMuch(f"the view has more than {limits.view_rows_max} rows; give _limit, or export it instead")
        detail = {"resource": view.resource, "rows": len(rows)}
        shown = seen if view.resource in PATIENT_TYPES else ()
        await uow.audit.execute("viewdefinition-run", shards=shown, detail=detail)
        return rows[:wanted]

    return await record.run(caller, read)
