"""The alembic history makes exactly the tables of the metadata, whole, from nothing and after going back."""

import asyncio
from itertools import chain

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

from ehr.database import index_tables, job_tables, migrate, partitions, sync_tables
from ehr.database.engine import Database
from ehr.database.tables import metadata
from ehr.fhir.r4 import TYPE_IDS
from terminology import tables as terminology_tables

CATALOG = {
    "columns": """
        select c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               a.attstorage, co.collname, pg_get_expr(d.adbin, d.adrelid)
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_collation co on co.oid = a.attcollation
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and c.relkind in ('r', 'p')
          and c.relname <> 'alembic_version'
        order by 1, 3""",
    "indexes": """
        select i.tablename, i.indexname, i.indexdef, c.reloptions from pg_indexes i
        join pg_class c on c.relname = i.indexname and c.relnamespace = 'public'::regnamespace
        where i.schemaname = 'public' and i.tablename <> 'alembic_version' order by 1, 2""",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint
        where connamespace = 'public'::regnamespace and conrelid::regclass::text <> 'alembic_version' order by 1, 2""",
    "sequences": """
        select sequencename, data_type::text, start_value, increment_by, cache_size from pg_sequences
        where schemaname = 'public' order by 1""",
    "views": "select viewname, definition from pg_views where schemaname = 'public' order by 1",
    "statistics": """
        select stxname, pg_get_statisticsobjdef(oid) from pg_statistic_ext
        where stxnamespace = 'public'::regnamespace order by 1""",
    "partitions": """
        select relname, relkind, pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid) from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname <> 'alembic_version'
        order by 1""",
}


async def catalog(url: str) -> dict[str, list[tuple[object, ...]]]:
    connection = await asyncpg.connect(url)
    try:
        return {name: [tuple(row) for row in await connection.fetch(sql)] for name, sql in CATALOG.items()}
    finally:
        await connection.close()


async def create_from_metadata(url: str) -> None:
    assert sync_tables.sync_batch.metadata is metadata
    assert index_tables.search_parameter.metadata is job_tables.job.metadata is metadata
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda *_: asyncpg.connect(url))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.run_sync(terminology_tables.metadata.create_all)
        ddl = (
            partitions.statements(TYPE_IDS),
            partitions.key_constraints(),
            partitions.indexes(),
            partitions.code_indexes(),
            partitions.code_shard_indexes(),
            partitions.lasting_statistics(),
        )
        for statement in chain.from_iterable(ddl):
            await connection.exec_driver_sql(statement)
    await engine.dispose()


async def test_history_equals_metadata(database_url: str, empty_database_url: str) -> None:
    await create_from_metadata(empty_database_url)
    migrated, made = await catalog(database_url), await catalog(empty_database_url)
    assert migrated["columns"], "the catalog query found the tables"
    for name in CATALOG:
        assert migrated[name] == made[name], name


async def test_up_down_up(empty_database_url: str) -> None:
    await migrate.upgrade(empty_database_url)
    first = await catalog(empty_database_url)
    await migrate.downgrade(empty_database_url, "base")
    assert not (await catalog(empty_database_url))["columns"]
    await migrate.upgrade(empty_database_url)
    assert await catalog(empty_database_url) == first
    assert await migrate.current(empty_database_url) == migrate.newest()


async def test_processes_that_start_together_migrate_once(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(empty_database_url) for _ in range(3)))
    opened = await Database.open(empty_database_url, connections_max=2)
    try:
        assert await opened.pool.fetchval("select count(*) from installation") == 1
        assert opened.installation.hash_key > 0
        assert len(opened.installation.cursor_key) == 32
    finally:
        await opened.close()


async def test_two_installations_have_different_keys(database_url: str, empty_database_url: str) -> None:
    await migrate.upgrade(empty_database_url)
    keys = []
    for url in (database_url, empty_database_url):
        opened = await Database.open(url, connections_max=2)
        keys.append(opened.installation)
        await opened.close()
    assert keys[0].hash_key != keys[1].hash_key
    assert keys[0].cursor_key != keys[1].cursor_key


WRITTEN = """
    insert into resource (type_id, rid, shard, id, version, updated, source, tokens, body, xid) values
        (1, 1, 5, 'a', 2, '2026-01-02', 0, '{7}', 'now', '20'), (1, 2, 6, 'b', 1, '2026-01-01', 3, '{8}', 'b', '10');
    insert into resource_history (type_id, rid, version, id, shard, updated, source, op, body, xid) values
        (1, 1, 1, 'a', 5, '2026-01-01', 0, 'C', 'then', '10'), (2, 3, 1, 'c', 7, '2026-01-01', 0, 'C', 'c', '10'),
        (2, 3, 2, 'c', 7, '2026-01-03', 0, 'D', null, '30');
    insert into change (type_id, rid, id, version, op, shard, source, updated, xid) values
        (2, 3, 'c', 1, 'C', 7, 0, '2026-01-01', '10'), (1, 1, 'a', 1, 'C', 5, 0, '2026-01-01', '10'),
        (1, 2, 'b', 1, 'C', 6, 3, '2026-01-01', '10'), (1, 1, 'a', 2, 'U', 5, 0, '2026-01-02', '20'),
        (2, 3, 'c', 2, 'D', 7, 0, '2026-01-03', '30');
"""
HELD = {
    "feed": "select xid, seq, type_id, rid, id, version, op, shard, source, updated from change order by xid, seq",
    "rows": "select type_id, rid, shard, id, version, updated, xid, source, tokens, body from resource order by rid",
    "history": "select rid, version, op, xid, body from resource_history order by rid, version",
}


async def held(url: str) -> dict[str, list[tuple[object, ...]]]:
    connection = await asyncpg.connect(url)
    try:
        return {name: [tuple(row) for row in await connection.fetch(sql)] for name, sql in HELD.items()}
    finally:
        await connection.close()


async def test_the_feed_of_an_older_store_is_carried_over_and_back(empty_database_url: str) -> None:
    await migrate.upgrade(empty_database_url, "0010")
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(WRITTEN)
    await connection.close()
    before = await held(empty_database_url)
    assert len(before["feed"]) == 5
    await migrate.upgrade(empty_database_url, "0011")
    assert await held(empty_database_url) == before
    await migrate.downgrade(empty_database_url, "0010")
    assert await held(empty_database_url) == before


MADE = """
    insert into resource (type_id, rid, shard, id, version, updated, source, tokens, body) values
        (1, 1, 5, 'a', 1, now(), 0, '{}', ''), (1, 2, 6, 'b', 3, now(), 0, '{}', '');
"""
CAME = "select id, version, op from change order by id, version"


async def test_who_chose_an_id_is_told_where_the_versions_say_it(empty_database_url: str) -> None:
    await migrate.upgrade(empty_database_url, "0018")
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(MADE)
        before = await connection.fetch(CAME)
        await migrate.upgrade(empty_database_url, "0019")
        assert [tuple(row) for row in await connection.fetch(CAME)] == [("a", 1, "C"), ("b", 3, "P")]
        await migrate.downgrade(empty_database_url, "0018")
        assert await connection.fetch(CAME) == before
    finally:
        await connection.close()


MAPPED = """
    insert into concept_map (url, file_name, digest) values ('urn:m', 'm.json', ''), ('urn:n', 'n.json', '');
    insert into concept_map_entry select m.id, s, c, t, '1', 'equal' from concept_map m,
        (values ('urn:a', 'x', 'urn:b'), ('urn:a', 'y', 'urn:b'), ('urn:a', 'y', 'urn:c')) given (s, c, t);
"""
MAPPINGS = "select * from concept_map_entry order by 1, 2, 3, 4"
GROUPED = """
    select e.place, m.groups -> e.group_place, e.source_code, e.target_code
    from concept_map_entry e join concept_map m on m.id = e.concept_map_id where m.url = 'urn:n' order by 1"""


async def test_the_mappings_of_an_older_store_are_carried_over_and_back(empty_database_url: str) -> None:
    await migrate.upgrade(empty_database_url, "0012")
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(MAPPED)
        before = await connection.fetch(MAPPINGS)
        await migrate.upgrade(empty_database_url, "0013")
        rows = [tuple(row) for row in await connection.fetch(GROUPED)]
        b, c = (f'{{"source": "urn:a", "target": "urn:{one}"}}' for one in "bc")
        assert rows == [(0, b, "x", "1"), (1, b, "y", "1"), (2, c, "y", "1")]
        await migrate.downgrade(empty_database_url, "0012")
        assert await connection.fetch(MAPPINGS) == before
    finally:
        await connection.close()


CODED = """
    insert into code_system (url, file_name, digest, language, concept_count) values ('urn:s', 's.json', '', 'en', 3);
    insert into concept (code_system_id, code, place, parent, display, selectable, properties)
    select id, c, p, a, c, s, j::jsonb from code_system, (values
        ('a', 0, null, false, '{"notSelectable": true}'), ('b', 1, 'a', true, '{"tone": "deep", "n": 2}'),
        ('c', 2, 'a', false, '{"inactive": true}')) given (c, p, a, s, j);
    insert into designation select id, 'b', l, l from code_system, (values ('fr'), ('vi')) given (l);
    insert into value_set (url, file_name, digest) values ('urn:v', 'v.json', '');
    insert into value_set_code select id, 'urn:s', c, '' from value_set, (values ('b'), ('a')) given (c);
"""
CONCEPTS = {
    "concepts": "select code, parent, selectable, properties from concept order by place",
    "names": "select code, language, value from designation order by 1, 2",
    "codes": "select system, code, display from value_set_code order by 1, 2",
}
CONCEPTS_AFTER = {
    "concepts": "select code, parents, selectable, active, properties::text from concept order by place",
    "names": "select language, place from designation order by 1",
    "codes": "select code, place from value_set_code order by 2",
}


async def test_the_concepts_of_an_older_store_are_carried_over_and_back(empty_database_url: str) -> None:
    await migrate.upgrade(empty_database_url, "0013")
    connection = await asyncpg.connect(empty_database_url)

    async def kept(asked: dict[str, str]) -> dict[str, list[tuple[object, ...]]]:
        return {name: [tuple(row) for row in await connection.fetch(sql)] for name, sql in asked.items()}

    try:
        await connection.execute(CODED)
        before = await kept(CONCEPTS)
        await migrate.upgrade(empty_database_url, "0014")
        assert await kept(CONCEPTS_AFTER) == {
            "concepts": [
                ("a", [], False, True, '{"notSelectable": [{"valueBoolean": true}]}'),
                ("b", ["a"], True, True, '{"n": [{"valueDecimal": 2}], "tone": [{"valueString": "deep"}]}'),
                ("c", ["a"], True, False, '{"inactive": [{"valueBoolean": true}]}'),
            ],
            "names": [("fr", 0), ("vi", 1)],
            "codes": [("a", 0), ("b", 1)],
        }
        await migrate.downgrade(empty_database_url, "0013")
        assert await kept(CONCEPTS) == before
    finally:
        await connection.close()
