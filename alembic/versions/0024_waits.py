"""What a chunk of a job waited for a full disk does not count among its attempts."""

import sqlalchemy as sa

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("job_chunk", sa.Column("waits", sa.SmallInteger, server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("job_chunk", "waits")
