"""$viewdefinition-run: the rows of a view over the caller's part of the store, now and in one answer.

In:      a View, or the Binary that holds one; the only patients wanted, or Groups of them; a moment since which
         resources changed; how many rows
Out:     rows, in the order of creation of their resources; audit rows of every patient they were made of
Access:  as in a search of the type: the grant, and the condition in the statement; what is named is read as by anybody
Limits:  limits.view_resources_max resources are looked at, limits.view_rows_max rows made; more is an export's
Source:  SQL on FHIR v2, $viewdefinition-run
"""

import asyncio
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.errors import Invalid, Refused, TooMuch
from ehr.fhir import codec
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.views import Row, View
from ehr.store import group_members, versions
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

PAGE: Final = 100
"""Resources read at once; between two of them others have their turn."""


async def stored_view(record: Record, caller: Caller, id: str) -> View:
    """R4 has no type ViewDefinition: the view is the content of a Binary."""
    async with record.reading(caller) as uow:
        version = await uow.resources.read("Binary", id)
    assert version.body is not None, "a current version has a body"
    try:
        tree = codec.loads(b64decode(codec.loads(version.body).get("data", "")))
    except Refused as error:
        raise Invalid("the Binary does not hold a ViewDefinition as JSON", at="viewReference") from error
    return View(tree)


async def members(record: Record, caller: Caller, group_ids: Sequence[str]) -> list[str]:
    """The patients of Groups, each once."""
    found: list[str] = []
    async with record.reading(caller) as uow:
        for id in group_ids:
            found += (await group_members.members(uow, id)).patients
    if len(found) > limits.export_patients_max:
        raise TooMuch(f"the Groups have more than {limits.export_patients_max} patients; export them", at="group")
    return list(dict.fromkeys(found))


def rows_of_files(view: View, places: Iterable[Path], limit: int | None) -> list[Row]:
    """The rows of resources in files of NDJSON."""
    lines = (line for place in places for line in _lines(place))
    rows: list[Row] = []
    for number, line in enumerate(lines):
        if number == limits.view_resources_max:
            raise TooMuch(f"the files have more than {limits.view_resources_max} resources; read them as files")
        rows += view.rows(codec.loads(line, bytes_max=limits.ndjson_line_bytes_max))
        if limit is not None and len(rows) >= limit:
            break
    if limit is None and len(rows) > limits.view_rows_max:
        raise TooMuch(f"the view has more than {limits.view_rows_max} rows; give _limit, or read the files")
    return rows[:limit]


def _lines(place: Path) -> Iterator[bytes]:
    with place.open("rb") as file:
        yield from file


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
