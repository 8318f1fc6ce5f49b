"""Rows are listed by their code, too; bodies are left out of the planner's statistics."""

from alembic import op
from ehr.database import partitions

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    for statement in partitions.code_indexes():
        op.execute(statement)
    op.execute("alter table resource alter body set statistics 0")
    op.execute("update installation set index_format = 5 where not exists (select 1 from resource)")


def downgrade() -> None:
    op.execute("update installation set index_format = least(index_format, 4)")
    op.execute("alter table resource alter body set statistics -1")
    for name in partitions.CODED_TYPES:
        op.execute(f"drop index {partitions.partition_name(name)}_code_ix")
