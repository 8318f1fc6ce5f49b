"""Deletions by type and time, for exports that tell what is gone since: few rows, found without a walk of the feed."""

from sqlalchemy import text

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index("change_deleted_ix", "change", ["type_id", "updated"], postgresql_where=text("op = 'D'"))


def downgrade() -> None:
    op.drop_index("change_deleted_ix", "change")
