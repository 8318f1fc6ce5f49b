"""Tables of long work, on the record's metadata: the queue, and what an import knows while it goes on."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from ehr.database.tables import C_TEXT, MOMENT, metadata

job = Table(
    "job",
    metadata,
    # The queue is here; Celery only wakes workers. state: queued → running → done | failed | cancelled
    Column("id", C_TEXT, primary_key=True),
    Column("kind", C_TEXT, nullable=False),
    Column("state", C_TEXT, nullable=False, server_default=text("'queued'")),
    Column("params", JSONB, nullable=False),
    Column("result", JSONB),
    Column("owner", C_TEXT, nullable=False),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
    Column("finished", MOMENT),
    Index("job_open_ix", "state", "created", postgresql_where=text("state in ('queued', 'running')")),
    Index("job_key_ix", "kind", text("(params ->> 'key')"), "id"),
)

job_chunk = Table(
    "job_chunk",
    metadata,
    # The unit of work: claimed with FOR UPDATE SKIP LOCKED, idempotent, leased.
    Column("job_id", C_TEXT, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", C_TEXT, nullable=False, server_default=text("'queued'")),
    Column("params", JSONB, nullable=False),
    Column("result", JSONB),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("due", MOMENT, nullable=False, server_default=func.now()),
    Column("lease_until", MOMENT),
    Column("error", Text),
    # Of the attempts those that found no room on the disk: they do not count.
    Column("waits", SmallInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("job_id", "number"),
    Index("job_chunk_open_ix", "state", "due", postgresql_where=text("state in ('queued', 'running')")),
)

import_unchanged = Table(
    "import_unchanged",
    metadata,
    # Lines of an import under way that changed nothing: no version tells how they ranked (ehr.bulk.winner).
    Column("job_id", C_TEXT, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("type_id", SmallInteger, nullable=False),
    Column("id", C_TEXT, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("line", Integer, nullable=False),
    PrimaryKeyConstraint("job_id", "type_id", "id"),
)
