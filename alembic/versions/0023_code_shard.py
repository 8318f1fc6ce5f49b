"""Codes are listed by whose they are, too."""

from alembic import op
from ehr.database import partitions

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    for statement in partitions.code_shard_indexes():
        op.execute(statement)


def downgrade() -> None:
    for name in map(partitions.partition_name, partitions.CODED_TYPES):
        op.execute(f"drop index {name}_code_shard_ix")
