"""Several lines of one job with the same id → the one that counts: the newest meta.lastUpdated, then the last line.

In:      the valid lines of a part; of ids that are stored already, the parts of this job that stored them
Out:     winners, and the lines they supersede, which are told in the error file and counted
Why so:  parts are stored in any order, by several workers; so who comes later must know how the earlier line ranked.
         It is rare, so nothing is kept of lines that are stored: the transaction number of the version says which part
         it came from, and that part is read again. A line that changed nothing left no version; its rank is kept
         while the job goes on
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from ehr.bulk.files import Part, lines
from ehr.bulk.prepare import Preparer, Ready, Refusal
from ehr.database.connection import Connection
from ehr.errors import Issue
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES

Key = tuple[str, str]
Rank = tuple[int, int, int]
"""meta.lastUpdated, number of the part, line: the greatest wins."""

_PART_OF: Final = """
select number, params, result ->> 'xid' as xid from job_chunk
where job_id = $1 and state = 'done' and result ->> 'xid' = any($2::text[])
"""
_UNCHANGED: Final = """
select u.type_id, u.id, u.updated_us, u.number, u.line
from unnest($2::int2[], $3::text[]) as n (type_id, id)
join import_unchanged u on u.job_id = $1 and u.type_id = n.type_id and u.id = n.id
"""
_KEEP: Final = """
insert into import_unchanged as u (job_id, type_id, id, updated_us, number, line)
select $1, n.type_id, n.id, n.updated_us, $2, n.line
from unnest($3::int2[], $4::text[], $5::int8[], $6::int4[]) as n (type_id, id, updated_us, line)
on conflict (job_id, type_id, id) do update
set updated_us = excluded.updated_us, number = excluded.number, line = excluded.line
where (excluded.updated_us, excluded.number, excluded.line) > (u.updated_us, u.number, u.line)
"""
_FORGET: Final = """
delete from import_unchanged u using job j where j.id = u.job_id and j.state in ('done', 'cancelled')
"""
_SUPERSEDED: Final = Issue("duplicate", "another line of this import with the same id is newer", severity="information")


def rank(one: Ready, number: int) -> Rank:
    return one.last_updated_us, number, one.line


def superseded(one: Ready) -> Refusal:
    return Refusal(one.line, one.content, (_SUPERSEDED,))


def winners(ready: Iterable[Ready], number: int) -> tuple[list[Ready], list[Refusal]]:
    """One line for each id of a part; the others."""
    best: dict[Key, Ready] = {}
    lost: list[Refusal] = []
    for one in ready:
        other = best.setdefault(one.key, one)
        if other is not one:
            first, second = sorted((one, other), key=lambda each: rank(each, number))
            best[one.key] = second
            lost.append(superseded(first))
    return list(best.values()), lost


async def ranks(
    connection: Connection, job_id: str, stored: Mapping[Key, str], preparer: Preparer
) -> Mapping[Key, Rank]:
    """Of resources that are stored (with the number of the transaction), how the best line of this job ranked."""
    found = await connection.fetch(_PART_OF, job_id, sorted(set(stored.values())))
    known: dict[Key, Rank] = {}
    for row in found:
        keys = {key for key, xid in stored.items() if xid == row["xid"]}
        part = Part.of(json.loads(row["params"]))
        known |= _ranked(part, row["number"], keys, preparer)
    type_ids, ids = [TYPE_IDS[name] for name, _ in stored], [id for _, id in stored]
    for type_id, id, *unchanged in await connection.fetch(_UNCHANGED, job_id, type_ids, ids):
        key, rank = (TYPE_NAMES[type_id], id), (unchanged[0], unchanged[1], unchanged[2])
        known[key] = max(rank, known.get(key, rank))
    return known


async def keep(connection: Connection, job_id: str, unchanged: Sequence[Ready], number: int) -> None:
    """Note lines that changed nothing, until the job is over."""
    if unchanged:
        columns = zip(*((one.type_id, one.id, one.last_updated_us, one.line) for one in unchanged), strict=True)
        await connection.execute(_KEEP, job_id, number, *map(list, columns))


async def forget(connection: Connection) -> None:
    """Remove what is kept of jobs that are over."""
    await connection.execute(_FORGET)


def _ranked(part: Part, number: int, keys: Collection[Key], preparer: Preparer) -> Mapping[Key, Rank]:
    """Read a part again for some ids."""
    ids = {id.encode() for _, id in keys}
    mentioned = (line for line in lines(part) if line.content is not None and any(id in line.content for id in ids))
    made = (preparer.of(part.name).prepare(line) for line in mentioned)
    best, _ = winners((one for one in made if isinstance(one, Ready) and one.key in keys), number)
    return {one.key: rank(one, number) for one in best}


def decided(met: Sequence[Ready], known: Mapping[Key, Rank], number: int) -> tuple[list[Ready], list[Refusal]]:
    """Lines whose ids are stored: those that are written, and those an earlier line of this job is newer than."""
    written: list[Ready] = []
    lost: list[Refusal] = []
    for one in met:
        earlier = known.get(one.key)
        if earlier is not None and earlier > rank(one, number):
            lost.append(superseded(one))
        else:
            written.append(one)
    return written, lost
