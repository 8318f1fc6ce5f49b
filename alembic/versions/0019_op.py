"""How a version came says whether its first one was made under an id that was sent: P. An import's rows are such."""

from alembic import op

revision = "0019"
down_revision = "0018"

TABLES = ("resource", "resource_history")


def upgrade() -> None:
    op.execute("alter table resource alter column op set default 'P'")
    for table in TABLES:  # after a deletion, or with the version a sender kept: never under an id of ours
        op.execute(f"update {table} set op = 'P' where op = 'C' and version > 1")  # noqa: S608 - a name of ours


def downgrade() -> None:
    op.execute("alter table resource alter column op set default 'C'")
    for table in TABLES:
        op.execute(f"update {table} set op = 'C' where op = 'P'")  # noqa: S608 - a name of ours
