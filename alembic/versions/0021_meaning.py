"""What the hierarchy of a loaded code system means; of one loaded before, it is read when it is loaded again."""

import sqlalchemy as sa

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    meaning = sa.Column("meaning", sa.Text(collation="C"), server_default=sa.text("''"), nullable=False)
    op.add_column("code_system", meaning)


def downgrade() -> None:
    op.drop_column("code_system", "meaning")
