"""How long an import lets the pending lists of the token indexes grow, and that they are empty at its end."""

from pathlib import Path

import pytest

from ehr.bulk import files, job
from ehr.bulk.ingest import Outcome, ingest
from ehr.database.partitions import GIN_LARGE_ROWS, TOKEN_INDEXES
from ehr.ids import new_id
from ehr.store.connection import Connection
from ehr.store.record import Record

LIMIT = "select current_setting('gin_pending_list_limit')"
CLEAN = "select gin_clean_pending_list($1::text::regclass)"
STATISTICS = "update pg_class set reltuples = $1 where oid = 'resource_observation'::regclass"
LINE = '{"resourceType":"Basic","id":"%s","code":{"text":"giấy hẹn"}}\n'


async def limit_of_an_import(record: Record, folder: Path, id: str) -> str:
    path = folder / f"{id}.ndjson"
    path.write_text(LINE % id)
    found = []

    async def finish(connection: Connection, _: Outcome) -> None:
        found.append(await connection.fetchval(LIMIT))

    (part,) = files.parts(path.name, path)
    outcome = await ingest(record, part, job_id=new_id(), finish=finish)
    assert outcome.tally.stored == 1
    (limit,) = found
    return str(limit)


async def test_an_import_into_a_large_record_lets_the_lists_grow_and_nobody_else_does(
    record: Record, tmp_path: Path
) -> None:
    assert await limit_of_an_import(record, tmp_path, "small") == "128kB"
    async with record.database.acquire() as connection:
        if not await connection.fetchval("select rolsuper from pg_roles where rolname = current_user"):
            pytest.skip("the statistics of a table are written by a superuser only")
        await connection.execute(STATISTICS, GIN_LARGE_ROWS + 1)
    assert await limit_of_an_import(record, tmp_path, "large") == "4MB"
    async with record.database.acquire() as connection:
        assert await connection.fetchval(LIMIT) == "128kB"


async def test_the_end_of_an_import_empties_them(record: Record, tmp_path: Path) -> None:
    await limit_of_an_import(record, tmp_path, "one")
    await job.put_in_order(record)
    async with record.database.acquire() as connection:
        left = [
            await connection.fetchval("select gin_clean_pending_list($1::text::regclass)", i) for i in TOKEN_INDEXES
        ]
    assert not any(left), "pages that were still pending"
