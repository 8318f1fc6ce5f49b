"""The planner is told how many rows last long."""

from alembic import op
from ehr.database import partitions

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    for statement in partitions.lasting_statistics():
        op.execute(statement)
    for name in _partitions():
        op.execute(f"analyze {name}")


def downgrade() -> None:
    for name in _partitions():
        op.execute(f"drop statistics {name}_lasting_st")


def _partitions() -> tuple[str, ...]:
    return (*map(partitions.partition_name, partitions.OWN_TYPES), "resource_default")
