"""Contained resources that are found by themselves, and the format that every row is indexed in at least."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "contained",
        sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type_id", sa.SmallInteger(), nullable=False),
        sa.Column("shard", sa.BigInteger(), nullable=False),
        sa.Column("container_type", sa.SmallInteger(), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("date_lo_us", sa.BigInteger()),
        sa.Column("date_hi_us", sa.BigInteger()),
        sa.Column("tokens", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.PrimaryKeyConstraint("rid", name="contained_pk"),
    )
    op.create_index("contained_type_ix", "contained", ["type_id", "rid"])
    op.create_index("contained_tokens_ix", "contained", ["tokens"], postgresql_using="gin")
    op.add_column("installation", sa.Column("index_format", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.execute("update installation set index_format = 2 where not exists (select 1 from resource)")


def downgrade() -> None:
    op.drop_column("installation", "index_format")
    op.drop_table("contained")
