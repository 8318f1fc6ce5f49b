"""What a resource costs on disk: the same lines as benchmarks/ingest, and where the bytes lie.

Run:     python -m benchmarks.bytes [FILE.ndjson[.gz]…]      default: synthea-100 beside the checkout, else made lines
Out:     bytes a resource and per byte of NDJSON, by table and index; bodies, and how far they shrank
How:     after vacuum, because that is how a store stands; toast and free space counted. What an empty store takes
         (every partition and index has its first page) is taken off the sum: a city does not notice it
"""

import asyncio
import sys
from pathlib import Path

import asyncpg

from benchmarks._scratch import scratch
from benchmarks.ingest import inputs
from ehr.bulk import files
from ehr.bulk.ingest import ingest
from ehr.database import migrate
from ehr.database.embedded import EmbeddedPostgres
from ehr.ids import new_id
from ehr.record import open_record
from ehr.settings import Settings

TARGET = 1126

PARTS = """
with recursive tree as (
    select oid, relname::text as root, oid as leaf from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
    union all
    select t.oid, t.root, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.leaf
)
select root, 'rows' as part, sum(pg_table_size(leaf))::bigint as bytes from tree group by root
union all
select root, regexp_replace(c.relname, '^(' || (select string_agg(relname, '|') from pg_class where oid in (
           select leaf from tree)) || ')_', ''), sum(pg_relation_size(c.oid))
from tree join pg_index x on x.indrelid = leaf join pg_class c on c.oid = x.indexrelid
group by 1, 2 order by 3 desc
"""


async def run(paths: list[Path], folder: Path) -> None:
    postgres = EmbeddedPostgres(folder / "data")
    url = await postgres.start()
    try:
        await migrate.upgrade(url)
        empty = await disk(url)
        record = await open_record(Settings(data_dir=folder, pool_connections_max=2), url)
        count = size = 0
        for path in paths:
            for part in files.parts(path.name, path):
                outcome = await ingest(record, part, job_id=new_id())
                count, size = count + outcome.tally.stored, size + part.length
        await record.close()
        await show(url, count, size, empty)
    finally:
        await postgres.stop()


async def disk(url: str) -> int:
    connection = await asyncpg.connect(url)
    await connection.execute("vacuum analyze")
    found: int = sum(row["bytes"] for row in await connection.fetch(PARTS))
    await connection.close()
    return found


async def show(url: str, count: int, size: int, empty: int) -> None:
    whole = await disk(url) - empty
    connection = await asyncpg.connect(url)
    body = await connection.fetchval("select sum(octet_length(body))::bigint from resource")
    tokens = await connection.fetchval("select sum(cardinality(tokens))::bigint from resource")
    rows = await connection.fetch(PARTS)
    await connection.close()
    for row in rows:
        if row["bytes"] * 200 > whole:
            name = f"{row['root']} {row['part']}"
            print(f"{name:45} {row['bytes'] / count:8,.0f} B a resource {row['bytes'] / size:6.3f}")
    print(f"{'NDJSON':45} {size / count:8,.0f} B a resource  {count:,} resources")
    print(f"{'bodies in their frames':45} {body / count:8,.0f} B a resource  {size / body:.1f} times smaller")
    print(f"{'tokens':45} {tokens / count:8.1f}   a resource")
    print(f"{'disk':45} {whole / count:8,.0f} B a resource (goal: at most {TARGET:,})")
    print(f"disk / NDJSON {whole / size:.2f}")


def main() -> None:
    with scratch() as folder:
        asyncio.run(run(inputs(sys.argv[1:], folder), folder))


if __name__ == "__main__":
    main()
