"""Distinct texts and units, by which :text and quantities in other units find resources."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute('create table term (param_id integer not null, value text collate "C" not null)')
    op.execute("create index term_value_ix on term (param_id, value)")


def downgrade() -> None:
    op.execute("drop table term")
