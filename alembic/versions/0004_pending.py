"""Shorter pending lists of the token indexes: every search reads them, and a shorter one costs a load nothing."""

from alembic import op
from ehr.database import partitions

revision = "0004"
down_revision = "0003"

BEFORE_KIB = 64 * 1024
AFTER_KIB = 1024


def upgrade() -> None:
    _limit(AFTER_KIB)


def downgrade() -> None:
    _limit(BEFORE_KIB)


def _limit(kib: int) -> None:
    for name in [*map(partitions.partition_name, partitions.OWN_TYPES), "resource_default"]:
        op.execute(f"alter index {name}_tokens_idx set (gin_pending_list_limit = {kib})")
