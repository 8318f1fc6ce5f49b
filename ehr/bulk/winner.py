"""Several lines of one job with the same id → the one that counts: the newest meta.lastUpdated, then the last line.

In:      the valid lines of a part; of ids that are stored already, the parts of this job that stored them
Out:     winners, and the lines they supersede, which are told in the error file and counted
Why so:  parts are stored in any order, by several workers; so who comes later must know how the earlier line ranked.
         Mostly nothing comes twice, so nothing is kept of lines that are stored: the transaction number of the version
         says which part it came from, and that part is read again. A line that changed nothing left no version; its
         rank is kept while the job goes on
Cost:    a part that is read again is looked through for ids, and only what names a wanted one is parsed: where a second
         file holds the next year of the same resources, all of a part is wanted
"""

import asyncio
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from ehr.bulk.files import Line, Part, lines
from ehr.bulk.prepare import YIELD_LINES, Preparer, Ready, Refusal, last_updated_us
from ehr.bulk.read import read
from ehr.database.connection import Connection
from ehr.errors import EhrError, Issue
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
_ID: Final = re.compile(rb'"id"[ \t\r]*:[ \t\r]*"([^"]*)"')
_ESCAPED: Final = rb"\u00"
"""What an id, or its name, may be written with."""
_AWAKE: Final = "select"
"""A transaction that asks nothing while parts are read would be ended (limits.transaction_idle_s)."""
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
        known |= await reread(part, row["number"], keys, preparer)
        await connection.execute(_AWAKE)
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


async def reread(part: Part, number: int, keys: Collection[Key], preparer: Preparer) -> Mapping[Key, Rank]:
    """Read a part again for some ids. Of several lines of one, the best that is valid."""
    ids = frozenset(id.encode() for _, id in keys)
    found: dict[Key, list[tuple[Rank, Line]]] = {}
    for count, line in enumerate(lines(part)):
        if count % YIELD_LINES == 0:
            await asyncio.sleep(0)
        tree = _mentioned(line, ids)
        key = (str(tree.get("resourceType")), str(tree.get("id")))
        if key in keys:
            found.setdefault(key, []).append(((last_updated_us(tree), number, line.number), line))
    again = preparer.of(part.name)
    return {key: _best(lines_of, again) for key, lines_of in found.items()}


def _mentioned(line: Line, ids: Collection[bytes]) -> Mapping[str, Any]:
    """The tree of a line that may have one of the ids."""
    content = line.content
    if content is None or (_ESCAPED not in content and not any(one in ids for one in _ID.findall(content))):
        return {}
    try:
        return read(content)
    except EhrError:  # such a line was refused
        return {}


def _best(found: Sequence[tuple[Rank, Line]], preparer: Preparer) -> Rank:
    ranked = sorted(found, key=lambda one: one[0], reverse=True)
    valid = (rank for rank, line in ranked if isinstance(preparer.prepare(line), Ready))
    return ranked[0][0] if len(ranked) == 1 else next(valid)


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
