"""Indexes by what grows with time keep no room in their pages."""

from alembic import op
from ehr.database import partitions

revision = "0018"
down_revision = "0017"

NAMES = [
    f"{partitions.partition_name(type_name)}_{order}_ix"
    for type_name in partitions.OWN_TYPES
    for order in ("updated", "feed")
] + ["resource_default_updated_ix", "resource_default_feed_ix", "resource_default_xid_ix"]


def upgrade() -> None:
    for name in NAMES:
        op.execute(f"alter index {name} set (fillfactor = 100)")


def downgrade() -> None:
    for name in NAMES:
        op.execute(f"alter index {name} reset (fillfactor)")
