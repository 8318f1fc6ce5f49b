"""What a large write leaves to its end, so that the first searches after it need not pay.

Lists       the pending entries of the token indexes go to their places: every search reads what is pending
Statistics  of the tables that have grown by a tenth since they were last looked at. A look takes the same time at any
            size, some seconds of CPU for all tables: a facility's day is not worth it in the record of a city
Otherwise   autovacuum does both within minutes, but for the statistics of the partitioned table as a whole
Source:     PostgreSQL documentation, "GIN Fast Update Technique", "Updating Planner Statistics"
"""

from typing import Final

from ehr.database.engine import Database
from ehr.database.partitions import TOKEN_INDEXES

_CLEAN: Final = "select gin_clean_pending_list($1::text::regclass)"
_WHOLE: Final = "resource"
_BESIDE: Final = ("contained", "string_index", "date_index", "quantity_index")
_GROWN: Final = f"""
with leaf as (
    select c.oid::regclass::text as name, i.inhparent is not null as is_partition, c.relpages, c.reltuples,
           pg_relation_size(c.oid) / current_setting('block_size')::bigint as pages
    from pg_class c left join pg_inherits i on i.inhrelid = c.oid
    where i.inhparent = '{_WHOLE}'::regclass or c.oid = any($1::text[]::regclass[])
)
select name from leaf where pages * 10 > relpages * 11
union all
select relname::text from pg_class where oid = '{_WHOLE}'::regclass and reltuples * 1.1 < (
    select sum(pages * greatest(reltuples, 1) / greatest(relpages, 1)) from leaf where is_partition
)
"""  # noqa: S608 - a name of ours


async def put_in_order(database: Database) -> None:
    """Empty the lists, and look at what has grown; takes as long as it takes."""
    async with database.acquire() as connection:
        await connection.execute("set statement_timeout = 0")
        try:
            for index in TOKEN_INDEXES:
                await connection.execute(_CLEAN, index)
            grown = {row["name"] for row in await connection.fetch(_GROWN, list(_BESIDE))}
            if _WHOLE in grown:  # its partitions are looked at with it
                grown.intersection_update((_WHOLE, *_BESIDE))
            if grown:
                await connection.execute(f"analyze {', '.join(sorted(grown))}")
        finally:
            await connection.execute("reset statement_timeout")
