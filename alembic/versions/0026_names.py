"""The planner knows how frequent a value is of a parameter: names, of those who have the same."""

from alembic import op
from ehr.database.tables import STRING_STATISTICS

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.execute(STRING_STATISTICS)
    op.execute("analyze string_index")


def downgrade() -> None:
    op.execute("drop statistics string_index_value_st")
