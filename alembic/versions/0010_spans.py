"""Variants are indexed as spans: an empty store has no older rows."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("update installation set index_format = 3 where not exists (select 1 from resource)")


def downgrade() -> None:
    op.execute("update installation set index_format = least(index_format, 2)")
