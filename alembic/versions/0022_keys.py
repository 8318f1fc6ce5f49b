"""Each partition keeps its own numbers and ids apart, where it has one type without saying so in every entry."""

from alembic import op
from ehr.database import partitions

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.execute("alter table resource drop constraint resource_pk, drop constraint resource_type_id_id_uq")
    for statement in partitions.key_constraints():
        op.execute(statement)


def downgrade() -> None:
    for name in map(partitions.partition_name, partitions.OWN_TYPES):
        op.execute(f"alter table {name} drop constraint {name}_pk, drop constraint {name}_id_ex")
    op.execute(
        "alter table resource_default drop constraint resource_default_pk, "
        "drop constraint resource_default_type_id_id_uq"
    )
    op.execute("alter table resource add constraint resource_pk primary key (type_id, rid)")
    op.execute("alter table resource add constraint resource_type_id_id_uq unique (type_id, id)")
