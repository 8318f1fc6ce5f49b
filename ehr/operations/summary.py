"""Patient/<id>/$summary and Person/<id>/$summary: the International Patient Summary of the whole person.

Out:     Document (bytes of the document Bundle, entity tag)
Errors:  NotFound where there is no such person or the caller is confined to another; Forbidden without Patient.r
Source:  IPS 2.0.0, OperationDefinition $summary
"""

from typing import Literal

from ehr.access.policy import Caller
from ehr.errors import Forbidden
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from ehr.summary.gather import sources_of_patient, sources_of_person
from ehr.summary.refresh import Document, summary_of


async def summary(
    record: Record, caller: Caller, type_name: Literal["Patient", "Person"], id: str, *, base_url: str
) -> Document:
    """The summary as of the last acknowledged write."""
    if not caller.grants.allow("Patient", "r"):
        raise Forbidden("a summary needs the right to read Patient")

    async def read(uow: UnitOfWork) -> Document:
        find = sources_of_patient if type_name == "Patient" else sources_of_person
        sources = await find(uow, id)
        await uow.audit.execute("summary", shards=sources.shards, detail={"on": type_name})
        return await summary_of(uow, sources, base_url=base_url)

    return await record.run(caller, read)
