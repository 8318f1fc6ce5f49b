"""What a value set itself calls its codes."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("value_set_code", sa.Column("designations", postgresql.JSONB()))


def downgrade() -> None:
    op.drop_column("value_set_code", "designations")
