"""What an import leaves to its end: pending lists that it lets grow, and statistics of what has grown."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from ehr.bulk import files, job
from ehr.bulk.ingest import Outcome, ingest
from ehr.database.connection import Connection
from ehr.database.partitions import GIN_LARGE_ROWS, TOKEN_INDEXES
from ehr.ids import new_id
from ehr.jobs.queue import Queue
from ehr.jobs.work import work
from ehr.store.record import Record

LIMIT = "select current_setting('gin_pending_list_limit')"
CLEAN = "select gin_clean_pending_list($1::text::regclass)"
ROWS = "select reltuples from pg_class where oid = $1::text::regclass"
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


async def import_of(record: Record, folder: Path, ids: Iterable[str]) -> None:
    """As a job, by whatever workers there are."""
    folder.mkdir()
    (folder / "Basic.ndjson").write_text("".join(LINE % id for id in ids))
    queue = Queue(record.database)
    job_id = await job.plan(queue, [folder / "Basic.ndjson"], folder)
    await work(queue, job.handlers_of(record), record.clock, job_id=job_id, turn_s=60)
    assert (await job.summary(queue, job_id)).state == "done"


async def test_the_end_of_an_import_empties_them(record: Record, tmp_path: Path) -> None:
    await import_of(record, tmp_path / "in", ["one"])
    async with record.database.acquire() as connection:
        left = [await connection.fetchval(CLEAN, index) for index in TOKEN_INDEXES]
    assert not any(left), "pages that were still pending"


async def known_rows(record: Record) -> list[float]:
    """What the planner takes the default partition and the whole table to hold."""
    async with record.database.acquire() as connection:
        return [await connection.fetchval(ROWS, table) for table in ("resource_default", "resource")]


async def test_statistics_are_made_anew_where_a_table_has_grown_by_a_tenth(record: Record, tmp_path: Path) -> None:
    """Rows of which a page holds some thirty."""
    await import_of(record, tmp_path / "first", (f"a{n}" for n in range(900)))
    assert await known_rows(record) == [900, 900]
    await import_of(record, tmp_path / "few", (f"b{n}" for n in range(30)))
    assert await known_rows(record) == [900, 900]
    await import_of(record, tmp_path / "many", (f"c{n}" for n in range(300)))
    assert await known_rows(record) == [1_230, 1_230]
