"""Jobs are found by their kind and key through an index: a drop folder asks for each file, and jobs are kept."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("create index job_key_ix on job (kind, (params ->> 'key'), id)")


def downgrade() -> None:
    op.execute("drop index job_key_ix")
