"""Concept maps keep their groups, and what a mapping depends on and yields."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0013"
down_revision = "0012"

CODE = sa.Text(collation="C")
EMPTY_TEXT, EMPTY_LIST = sa.text("''"), sa.text("'[]'")

ENTRIES = """
insert into concept_map_entry (concept_map_id, place, group_place, source_code, target_code, equivalence)
select concept_map_id,
  row_number() over (partition by concept_map_id order by source_system, target_system, source_code, target_code) - 1,
  dense_rank() over (partition by concept_map_id order by source_system, target_system) - 1,
  source_code, target_code, equivalence
from before"""
GROUPS = """
update concept_map set groups = made.groups from (
  select concept_map_id, jsonb_agg(jsonb_build_object('source', source_system, 'target', target_system)
    order by source_system, target_system) as groups
  from (select distinct concept_map_id, source_system, target_system from before) pairs
  group by concept_map_id
) made where made.concept_map_id = concept_map.id"""
BACK = """
insert into concept_map_entry
select e.concept_map_id, m.groups -> e.group_place ->> 'source', e.source_code,
  m.groups -> e.group_place ->> 'target', e.target_code, e.equivalence
from before e join concept_map m on m.id = e.concept_map_id on conflict do nothing"""


def upgrade() -> None:
    for name in ("source", "target"):
        op.add_column("concept_map", sa.Column(name, CODE, server_default=EMPTY_TEXT, nullable=False))
    op.add_column("concept_map", sa.Column("groups", postgresql.JSONB(), server_default=EMPTY_LIST, nullable=False))
    _put_aside()
    op.create_table(
        "concept_map_entry",
        sa.Column("concept_map_id", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("group_place", sa.Integer(), nullable=False),
        sa.Column("source_code", CODE, nullable=False),
        sa.Column("target_code", CODE, nullable=False),
        sa.Column("equivalence", CODE, nullable=False),
        sa.Column("source_display", sa.Text(), server_default=EMPTY_TEXT, nullable=False),
        sa.Column("target_display", sa.Text(), server_default=EMPTY_TEXT, nullable=False),
        sa.Column("depends_on", postgresql.JSONB(), server_default=EMPTY_LIST, nullable=False),
        sa.Column("product", postgresql.JSONB(), server_default=EMPTY_LIST, nullable=False),
        sa.PrimaryKeyConstraint("concept_map_id", "place", name="concept_map_entry_pk"),
        _of_map(),
    )
    for name in ("source_code", "target_code"):
        op.create_index(f"concept_map_entry_concept_map_id_{name}_ix", "concept_map_entry", ["concept_map_id", name])
    op.execute(ENTRIES)
    op.execute(GROUPS)
    op.drop_table("before")


def downgrade() -> None:
    _put_aside()
    pair = ("concept_map_id", "source_system", "source_code", "target_system", "target_code")
    op.create_table(
        "concept_map_entry",
        sa.Column("concept_map_id", sa.BigInteger(), nullable=False),
        *(sa.Column(name, CODE, nullable=False) for name in (*pair[1:], "equivalence")),
        sa.PrimaryKeyConstraint(*pair, name="concept_map_entry_pk"),
        _of_map(),
    )
    op.execute(BACK)
    op.drop_table("before")
    for name in ("groups", "target", "source"):
        op.drop_column("concept_map", name)


def _put_aside() -> None:
    """The rows, in a table of this session; the names of the table and of its constraints are free."""
    op.execute("create temporary table before as table concept_map_entry")
    op.drop_table("concept_map_entry")


def _of_map() -> sa.ForeignKeyConstraint:
    name = "concept_map_entry_concept_map_id_fk"
    return sa.ForeignKeyConstraint(["concept_map_id"], ["concept_map.id"], name=name, ondelete="CASCADE")
