"""Lines of an import under way that changed nothing, so that no older line of a later part is taken for a change."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
        create table import_unchanged (
            job_id text collate "C" not null
                constraint import_unchanged_job_id_fk references job (id) on delete cascade,
            type_id smallint not null,
            id text collate "C" not null,
            updated_us bigint not null,
            number integer not null,
            line integer not null,
            constraint import_unchanged_pk primary key (job_id, type_id, id)
        )
    """)


def downgrade() -> None:
    op.execute("drop table import_unchanged")
