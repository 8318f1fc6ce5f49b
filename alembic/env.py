"""Alembic's entry: run the revisions on the connection of ehr.database.migrate (or, alone, on EHR_DATABASE_URL)."""

import asyncio

from alembic import context
from ehr.database import index_tables, job_tables, migrate, sync_tables
from ehr.database.tables import metadata
from ehr.settings import Settings
from terminology import tables as terminology_tables

assert (
    job_tables.job.metadata is index_tables.search_parameter.metadata is sync_tables.sync_batch.metadata is metadata
), "one metadata"
target = [metadata, terminology_tables.metadata]

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (connection := context.config.attributes.get("connection")) is not None:
    context.configure(connection=connection, target_metadata=target)
    with context.begin_transaction():
        context.run_migrations()
else:
    url = Settings().database_url
    assert url is not None, "set EHR_DATABASE_URL, or use: ehr db upgrade"
    asyncio.run(migrate.upgrade(url.get_secret_value()))
