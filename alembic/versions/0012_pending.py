"""How long pending lists of the token indexes grow is said by the session that writes, no longer by the index."""

from alembic import op
from ehr.database import partitions

revision = "0012"
down_revision = "0011"

BEFORE_KIB = 128


def upgrade() -> None:
    for name in partitions.TOKEN_INDEXES:
        op.execute(f"alter index {name} reset (gin_pending_list_limit)")


def downgrade() -> None:
    for name in partitions.TOKEN_INDEXES:
        op.execute(f"alter index {name} set (gin_pending_list_limit = {BEFORE_KIB})")
