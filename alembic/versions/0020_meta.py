"""Profiles, tags and security labels are terms, too: a store that has resources is read for them."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("update installation set index_format = 6 where not exists (select 1 from resource)")


def downgrade() -> None:
    op.execute("update installation set index_format = least(index_format, 5)")
