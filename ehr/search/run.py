"""Run a SearchRequest inside a unit of work: one page of what the caller may see, with its audit rows.

In:      a UnitOfWork, whose caller's access is an argument of the search; the request
Out:     Page
Errors:  Forbidden for a type the token does not grant; those of ehr.search.page
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from ehr.fhir.compartments import PATIENT_TYPES
from ehr.search.lower import Lowering
from ehr.search.named import named
from ehr.search.page import Note, Page
from ehr.search.page import search as search_page
from ehr.search.plan import plan
from ehr.search.terms import SearchRequest

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork


async def run(uow: "UnitOfWork", request: SearchRequest) -> Page:
    """One page."""
    planned = plan(request, uow.access)
    record, names = uow.record, tuple([name for name, _ in request.served])
    note = Note(uow.caller, _detail(names))
    page = await search_page(
        uow.connection,
        planned,
        installation=record.installation,
        bodies=record.bodies,
        note=note,
        counts=record.counts,
        ask=uow.fetch,
    )
    if not page.noted:
        shards = {found.shard for found in (*page.matches, *page.included) if found.type_name in PATIENT_TYPES}
        shards.update(named(Lowering(record.hasher, planned.access, of=request.contained), planned))
        await uow.audit.search(request.type_name, shards, detail=orjson.loads(note.detail))
    return page


@lru_cache(1_024)
def _detail(names: tuple[str, ...]) -> str:
    """What the audit says of a search: its parameters, and never their values."""
    return orjson.dumps({"parameters": sorted(set(names))}).decode()
