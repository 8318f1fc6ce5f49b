"""The chunk between checking an import and storing it: which lines are refused, because a reference leads nowhere.

In:      what every part left when it was checked (ehr.bulk.check)
Out:     settle()  a file a part: line → what it refers to that is absent; then the parts become chunks that are stored
         settled() the refusals of one part, when it is stored
Rule:    what is stored is the largest set of valid lines of which each refers only to what the record holds, or to
         what a line of the set holds. So a refused line refuses those that point to nothing else, and a circle stands
Memory:  PostgreSQL's: temporary tables of one session, which lie on its disk, and of which a kill leaves nothing. No
         transaction is around them: one that is open for minutes would hold back the feed
Why so:  docs/adr/0067
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ehr.bulk.check import CHECK, checked, entries, remove, wanted, write
from ehr.bulk.ingest import Settled
from ehr.bulk.prepare import Ready, Refusal
from ehr.bulk.read import read
from ehr.database.connection import Connection
from ehr.errors import Issue, Unavailable
from ehr.fhir import references
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.jobs.queue import Chunk, Queue

if TYPE_CHECKING:
    from ehr.store.record import Record

REFUSED: Final = "refused"
"""The parameter of a chunk that names the file of its refusals."""

NO_TYPE: Final = -1
"""Of a reference to a type that is none of R4: its id is the whole text, and nothing has it."""

_TABLES: Final = """
set statement_timeout = 0;
create temporary table import_wanted (type_id int2, id text collate "C");
create temporary table import_held (part int4, line int4, type_id int2, id text collate "C");
create temporary table import_points (part int4, line int4, type_id int2, id text collate "C");
create temporary table import_absent (
    type_id int2, id text collate "C", round int4, primary key (type_id, id));
create temporary table import_refused (part int4, line int4, round int4, primary key (part, line));
"""
_DROP: Final = """
drop table if exists pg_temp.import_wanted, pg_temp.import_held, pg_temp.import_points, pg_temp.import_absent,
    pg_temp.import_refused;
reset statement_timeout;
"""
_INDEX_HELD: Final = """
create index on import_held (type_id, id); create index on import_held (part, line);
analyze import_held; analyze import_wanted;
"""
_INDEX_POINTS: Final = "create index on import_points (type_id, id); analyze import_points;"
# offset 0: the record is asked key by key, however many keys there are; it is never read whole
_FIRST_ABSENT: Final = """
insert into import_absent select distinct w.type_id, w.id, 0 from import_wanted w
where not exists (select 1 from import_held h where h.type_id = w.type_id and h.id = w.id)
  and not exists (select 1 from resource r where r.type_id = w.type_id and r.id = w.id offset 0)
"""
_REFUSE: Final = """
insert into import_refused select distinct p.part, p.line, $1::int4
from import_absent a join import_points p on p.type_id = a.type_id and p.id = a.id
where a.round = $1 on conflict do nothing
"""
_NEXT_ABSENT: Final = """
insert into import_absent select distinct h.type_id, h.id, $1::int4 + 1
from import_refused f join import_held h on h.part = f.part and h.line = f.line
where f.round = $1
  and not exists (
    select 1 from import_held o where o.type_id = h.type_id and o.id = h.id
      and not exists (select 1 from import_refused x where x.part = o.part and x.line = o.line))
  and not exists (select 1 from resource r where r.type_id = h.type_id and r.id = h.id offset 0)
on conflict do nothing
"""
_NONE_MORE: Final = "INSERT 0 0"
_INDEX_REFUSED: Final = "create index on import_points (part, line); analyze import_refused"
_OF_PART: Final = """
select f.line, array_agg(p.type_id) as type_ids, array_agg(p.id) as ids
from import_refused f join import_points p on p.part = f.part and p.line = f.line
join import_absent a on a.type_id = p.type_id and a.id = p.id
where f.part = $1 group by f.line order by f.line
"""
_NOWHERE: Final = "the reference leads to nothing that is stored, and to no line of this import that is"


async def settle(record: "Record", chunk: Chunk) -> Mapping[str, Any]:
    """Be this chunk."""
    queue, folder = Queue(record.database), Path(chunk.job_params["home"]) / chunk.job_id
    parts = await queue.chunks_with(chunk.job_id, CHECK)
    async with record.database.acquire() as connection:
        await connection.execute(_DROP)
        await connection.execute(_TABLES)
        try:
            await _find(connection, folder, [number for number, _ in parts])
            after = [
                {**params[CHECK], **await _told(connection, folder, number, chunk.attempt)} for number, params in parts
            ]
        finally:
            await connection.execute(_DROP)
    result: dict[str, Any] = {}
    if not await queue.finish(chunk, result, then=after):
        raise Unavailable("another worker settles the references of this import")
    await asyncio.to_thread(remove, folder)
    return result


async def _find(connection: Connection, folder: Path, numbers: Sequence[int]) -> None:
    """Fill the tables. What lines point to is only looked at where something is absent."""
    for number in numbers:
        outside = (_address(one["reference"]) for one in entries(wanted(folder, number)))
        await connection.copy_records_to_table("import_wanted", records=outside)
        await connection.copy_records_to_table("import_held", records=_held(folder, number))
    await connection.execute(_INDEX_HELD)
    await connection.execute(_FIRST_ABSENT)
    if not await connection.fetchval("select exists (select 1 from import_absent)"):
        return
    for number in numbers:
        await connection.copy_records_to_table("import_points", records=_points(folder, number))
    await connection.execute(_INDEX_POINTS)
    for turn in count():
        await connection.execute(_REFUSE, turn)
        if await connection.execute(_NEXT_ABSENT, turn) == _NONE_MORE:
            break
    await connection.execute(_INDEX_REFUSED)


def _held(folder: Path, number: int) -> Iterator[tuple[int, int, int, str]]:
    for one in entries(checked(folder, number)):
        if "key" in one:
            yield number, one["line"], *_address(one["key"])


def _points(folder: Path, number: int) -> Iterator[tuple[int, int, int, str]]:
    for one in entries(checked(folder, number)):
        for reference in one.get("to", ()):
            yield number, one["line"], *_address(reference)


def _address(reference: str) -> tuple[int, str]:
    type_name, _, id = reference.partition("/")
    type_id = TYPE_IDS.get(type_name)
    return (NO_TYPE, reference) if type_id is None else (type_id, id)


def _text(type_id: int, id: str) -> str:
    return id if type_id == NO_TYPE else f"{TYPE_NAMES[type_id]}/{id}"


async def _told(connection: Connection, folder: Path, number: int, attempt: int) -> Mapping[str, str]:
    """Leave what is refused of a part; the parameter by which the chunk that stores it finds that, if anything is."""
    rows = await connection.fetch(_OF_PART, number)
    found: list[Mapping[str, Any]] = [
        {"line": row["line"], "absent": [_text(*one) for one in zip(row["type_ids"], row["ids"], strict=True)]}
        for row in rows
    ]
    name = f"refused-{number:06}-{attempt}.ndjson"
    told = await asyncio.to_thread(_leave, folder, number, name, found)
    return {REFUSED: name} if told else {}


def _leave(folder: Path, number: int, name: str, found: Iterable[Mapping[str, Any]]) -> bool:
    told = [*found, *(one for one in entries(checked(folder, number)) if "issues" in one)]
    if told:
        write(folder / name, told)
    return bool(told)


def settled(folder: Path, params: Mapping[str, Any]) -> Settled:
    """What was settled for the part of such a chunk."""
    known = {one["line"]: one for one in entries(folder / params[REFUSED])} if REFUSED in params else {}
    return lambda ready: [_refusal(one, known[one.line]) for one in ready if one.line in known]


def _refusal(one: Ready, why: Mapping[str, Any]) -> Refusal:
    """A line as it is told: each reference that leads nowhere with its place."""
    if "issues" in why:
        return Refusal(one.line, one.content, tuple(Issue(**issue) for issue in why["issues"]))
    absent = set(why["absent"])
    found = references.find(one.tree or read(one.content))
    places = [each.path for each in found if "/".join(each.value.split("/")[:2]) in absent]
    return Refusal(one.line, one.content, tuple(Issue("not-found", _NOWHERE, at) for at in places))
