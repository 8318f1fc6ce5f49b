"""The feed is the versions themselves; fewer and narrower indexes of resource; columns by width.

How      the tables move into a schema of their own, are made anew and filled from there: it needs as much disk again
         as the record takes, and some minutes for a million resources. The index of older rows is made smaller
         by workers afterwards (ehr.store.backfill)
"""

from alembic import op
from ehr.database import partitions
from ehr.fhir.r4 import TYPE_IDS

revision = "0011"
down_revision = "0010"

ASIDE = "before"

COLUMNS = "rid, shard, updated, xid, version, source, type_id, id"
ORDERED = "type_id, xid, seq, rid, id, version, op, shard, source, updated"

AFTER = """
CREATE TABLE resource (
    rid BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    updated TIMESTAMP WITH TIME ZONE NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    seq BIGINT DEFAULT nextval('change_seq') NOT NULL,
    date_lo_us BIGINT,
    date_hi_us BIGINT,
    version INTEGER NOT NULL,
    source INTEGER NOT NULL,
    type_id SMALLINT NOT NULL,
    op TEXT COLLATE "C" DEFAULT 'C' NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    tokens BIGINT[] NOT NULL,
    body BYTEA NOT NULL,
    CONSTRAINT resource_pk PRIMARY KEY (type_id, rid),
    CONSTRAINT resource_type_id_id_uq UNIQUE (type_id, id)
) PARTITION BY LIST (type_id);

CREATE INDEX resource_tokens_ix ON resource USING gin (tokens) WITH (fastupdate = on);

CREATE TABLE resource_history (
    rid BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    updated TIMESTAMP WITH TIME ZONE NOT NULL,
    xid xid8 NOT NULL,
    seq BIGINT DEFAULT nextval('change_seq') NOT NULL,
    version INTEGER NOT NULL,
    source INTEGER NOT NULL,
    type_id SMALLINT NOT NULL,
    op TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    body BYTEA,
    CONSTRAINT resource_history_pk PRIMARY KEY (type_id, rid, version)
);

CREATE INDEX resource_history_id_ix ON resource_history (type_id, id, version DESC);

CREATE INDEX resource_history_feed_ix ON resource_history (xid, seq);

CREATE INDEX resource_history_type_feed_ix ON resource_history (type_id, xid, seq);

CREATE INDEX resource_history_deleted_ix ON resource_history (type_id, updated) WHERE op = 'D'
"""
VIEW = """
CREATE VIEW change AS
SELECT xid, seq, type_id, rid, id, version, op, shard, source, updated FROM resource UNION ALL
SELECT xid, seq, type_id, rid, id, version, op, shard, source, updated FROM resource_history
"""
FILLED = f"""
INSERT INTO resource ({COLUMNS}, seq, date_lo_us, date_hi_us, op, tokens, body)
SELECT {COLUMNS}, c.seq, date_lo_us, date_hi_us, c.op, tokens, body
FROM {ASIDE}.resource JOIN (SELECT type_id, rid, version, seq, op FROM {ASIDE}.change) c USING (type_id, rid, version)
ORDER BY type_id, rid;

INSERT INTO resource_history ({COLUMNS}, seq, op, body)
SELECT {COLUMNS}, c.seq, c.op, body
FROM {ASIDE}.resource_history h
JOIN (SELECT type_id, rid, version, seq, op FROM {ASIDE}.change) c USING (type_id, rid, version)
ORDER BY type_id, rid, version
"""  # noqa: S608 - constants of ours

BEFORE = """
CREATE TABLE resource (
    type_id SMALLINT NOT NULL,
    rid BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    version INTEGER NOT NULL,
    updated TIMESTAMP WITH TIME ZONE NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    source INTEGER NOT NULL,
    date_lo_us BIGINT,
    date_hi_us BIGINT,
    tokens BIGINT[] NOT NULL,
    body BYTEA NOT NULL,
    CONSTRAINT resource_pk PRIMARY KEY (type_id, rid),
    CONSTRAINT resource_type_id_id_uq UNIQUE (type_id, id)
) PARTITION BY LIST (type_id);

CREATE INDEX resource_date_hi_ix ON resource (type_id, date_hi_us, rid) WHERE date_hi_us IS NOT NULL;

CREATE INDEX resource_date_ix ON resource (type_id, date_lo_us, rid) WHERE date_lo_us IS NOT NULL;

CREATE INDEX resource_shard_date_ix ON resource (type_id, shard, date_lo_us DESC, rid);

CREATE INDEX resource_tokens_ix ON resource USING gin (tokens) WITH (fastupdate = on);

CREATE INDEX resource_updated_ix ON resource (type_id, updated, rid);

CREATE TABLE resource_history (
    type_id SMALLINT NOT NULL,
    rid BIGINT NOT NULL,
    version INTEGER NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    shard BIGINT NOT NULL,
    updated TIMESTAMP WITH TIME ZONE NOT NULL,
    xid xid8 NOT NULL,
    source INTEGER NOT NULL,
    op TEXT COLLATE "C" NOT NULL,
    body BYTEA,
    CONSTRAINT resource_history_pk PRIMARY KEY (type_id, rid, version)
);

CREATE INDEX resource_history_id_ix ON resource_history (type_id, id, version DESC);

CREATE TABLE change (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    seq BIGINT DEFAULT nextval('change_seq') NOT NULL,
    type_id SMALLINT NOT NULL,
    rid BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    version INTEGER NOT NULL,
    op TEXT COLLATE "C" NOT NULL,
    shard BIGINT NOT NULL,
    source INTEGER NOT NULL,
    updated TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT change_pk PRIMARY KEY (xid, seq)
);

CREATE INDEX change_type_ix ON change (type_id, xid, seq);

CREATE INDEX change_deleted_ix ON change (type_id, updated) WHERE op = 'D'
"""
REFILLED = f"""
INSERT INTO resource ({COLUMNS}, date_lo_us, date_hi_us, tokens, body)
SELECT {COLUMNS}, date_lo_us, date_hi_us, tokens, body FROM {ASIDE}.resource ORDER BY type_id, rid;

INSERT INTO resource_history ({COLUMNS}, op, body)
SELECT {COLUMNS}, op, body FROM {ASIDE}.resource_history ORDER BY type_id, rid, version;

INSERT INTO change ({ORDERED})
SELECT {ORDERED} FROM {ASIDE}.resource UNION ALL SELECT {ORDERED} FROM {ASIDE}.resource_history ORDER BY xid, seq
"""  # noqa: S608 - constants of ours


def upgrade() -> None:
    _aside("resource", "resource_history", "change")
    _run(AFTER)
    _partition()
    _run(FILLED)
    for statement in partitions.indexes():
        op.execute(statement)
    op.execute(VIEW)
    op.execute(f"drop schema {ASIDE} cascade")
    op.execute("alter index contained_tokens_ix set (gin_pending_list_limit = 128)")
    op.execute("update installation set index_format = 4 where not exists (select 1 from resource)")
    op.execute("analyze resource, resource_history")


def downgrade() -> None:
    op.execute("alter index contained_tokens_ix reset (gin_pending_list_limit)")
    op.execute("update installation set index_format = least(index_format, 3)")
    op.execute("drop view change")
    _aside("resource", "resource_history")
    _run(BEFORE)
    _partition()
    _run(REFILLED)
    op.execute(f"drop schema {ASIDE} cascade")


def _aside(*tables: str) -> None:
    op.execute(f"create schema {ASIDE}")
    owned = [*map(partitions.partition_name, partitions.OWN_TYPES), "resource_default"]
    for table in (*tables, *owned):
        op.execute(f"alter table {table} set schema {ASIDE}")


def _partition() -> None:
    for statement in partitions.statements(TYPE_IDS):
        op.execute(statement)


def _run(script: str) -> None:
    for statement in script.split(";"):
        op.execute(statement)
