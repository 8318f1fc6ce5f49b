"""Search parameters that an installation adds, and the version of the table that rows are indexed by."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("installation", sa.Column("index_version", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "search_parameter",
        sa.Column("id", sa.Integer(), sa.Identity(start=1_000_000), nullable=False),
        sa.Column("base", sa.Text(collation="C"), nullable=False),
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("resource_id", sa.Text(collation="C"), nullable=False),
        sa.Column("definition", postgresql.JSONB(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(collation="C"), server_default=sa.text("'backfilling'"), nullable=False),
        sa.Column("job_id", sa.Text(collation="C"), nullable=False),
        sa.Column("pending", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("declared", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="search_parameter_pk"),
    )
    op.create_index(
        "search_parameter_code_ix",
        "search_parameter",
        ["base", "code"],
        unique=True,
        postgresql_where=sa.text("state in ('backfilling', 'serving')"),
    )
    op.create_index("search_parameter_resource_id_ix", "search_parameter", ["resource_id"])


def downgrade() -> None:
    op.drop_table("search_parameter")
    op.drop_column("installation", "index_version")
