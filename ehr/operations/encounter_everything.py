"""$everything of an Encounter: the Encounter, what lies in its compartment, and what these refer to, page by page.

In:      id; _type, _since, _count; the place of the next page
Out:     Page of a search of the Encounter compartment, whose order later writes do not change
Errors:  NotFound, also where the caller may not know; NotSupported for a type that no compartment of an Encounter has;
         Forbidden for one the token does not grant
Source:  FHIR R4 encounter-operation-everything.html, compartmentdefinition-encounter.html
"""

from collections.abc import Sequence

from ehr.access.policy import Caller
from ehr.errors import NotSupported
from ehr.fhir.compartments import members
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.page import Page
from ehr.search.parse import CURSOR, parse
from ehr.search.run import run
from ehr.store.record import Record


async def encounter_everything(
    record: Record,
    caller: Caller,
    id: str,
    *,
    types: Sequence[str] = (),
    since: str | None = None,
    count: int | None = None,
    cursor: str | None = None,
) -> Page:
    """One page; its audit rows are committed before anything is answered."""
    query = [("_include", "*")]
    query += [("_type", ",".join(_within(types)))] if types else []
    query += [("_lastUpdated", f"ge{since}")] if since else []
    query += [("_count", str(count))] if count else []
    query += [(CURSOR, cursor)] if cursor else []
    request = parse(None, query, compartment=("Encounter", id))
    async with record.reading(caller) as uow:
        read = await uow.resources.read("Encounter", id)
        page = await run(uow, request)
        await uow.audit.execute("everything", shards=[read.shard], detail={"on": "Encounter"})
    if types:
        page.included = [one for one in page.included if one.type_name in types]
    return page


def _within(types: Sequence[str]) -> list[str]:
    """Those of the types that the compartment has; what it refers to may be of the others."""
    for name in types:
        if name not in TYPE_IDS:
            raise NotSupported("there is no such resource type", at="_type")
    found = [name for name in types if name == "Encounter" or name in members("Encounter")]
    if not found:
        raise NotSupported("the record of an Encounter has no resources of this type", at="_type")
    return found
