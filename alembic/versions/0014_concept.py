"""Concepts keep every code above them, definitions, typed properties and all designations; value sets their order."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0014"
down_revision = "0013"

CODE = sa.Text(collation="C")
SPLIT = """
update concept set
  active = properties -> 'inactive' is distinct from 'true',
  selectable = properties -> 'notSelectable' is distinct from 'true'
where not selectable"""
TYPED = """
update concept set properties = (
  select jsonb_object_agg(key, jsonb_build_array(jsonb_build_object(
    case jsonb_typeof(value) when 'boolean' then 'valueBoolean' when 'number' then 'valueDecimal'
      else 'valueString' end, value)))
  from jsonb_each(properties)
) where properties <> '{}'"""
UNTYPED = """
update concept set selectable = selectable and active, properties = coalesce((
  select jsonb_object_agg(key, coalesce(of.value -> 'code', of.value))
  from jsonb_each(properties) listed, jsonb_each(listed.value -> 0) of (kind, value)
), '{}')"""


NUMBERED = """
update designation t set place = n.place from (
  select ctid, row_number() over (partition by code_system_id, code order by language) - 1 as place from designation
) n where n.ctid = t.ctid"""
ORDERED = """
update value_set_code t set place = n.place from (
  select ctid, row_number() over (partition by value_set_id order by system, code) - 1 as place from value_set_code
) n where n.ctid = t.ctid"""
ONE_OF_A_LANGUAGE = """
delete from designation d using designation other where d.code_system_id = other.code_system_id
  and d.code = other.code and d.language = other.language and d.place > other.place"""


def _added() -> list[tuple[str, sa.Column[Any]]]:
    return [
        ("code_system", sa.Column("content", CODE, server_default=sa.text("'complete'"), nullable=False)),
        ("code_system", sa.Column("case_sensitive", sa.Boolean(), server_default=sa.text("true"), nullable=False)),
        ("code_system", sa.Column("value_set", CODE, server_default=sa.text("''"), nullable=False)),
        ("concept", sa.Column("definition", sa.Text(), server_default=sa.text("''"), nullable=False)),
        ("concept", sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False)),
        ("designation", sa.Column("place", sa.Integer(), server_default=sa.text("0"), nullable=False)),
        ("designation", sa.Column("use", postgresql.JSONB())),
        ("value_set_code", sa.Column("place", sa.Integer(), server_default=sa.text("0"), nullable=False)),
    ]


def upgrade() -> None:
    for table, column in _added():
        op.add_column(table, column)
    op.drop_index("concept_code_system_id_parent_ix", "concept")
    op.alter_column("concept", "parent", new_column_name="parents")
    op.execute(
        'alter table concept alter parents type text[] collate "C"'
        " using case when parents is null then '{}'::text[] else array[parents] end,"
        " alter parents set default '{}', alter parents set not null"
    )
    op.create_index("concept_parents_ix", "concept", ["parents"], postgresql_using="gin")
    op.execute(SPLIT)
    op.execute(TYPED)
    op.drop_constraint("designation_pk", "designation")
    op.execute(NUMBERED)
    op.create_primary_key("designation_pk", "designation", ["code_system_id", "code", "place"])
    op.execute(ORDERED)


def downgrade() -> None:
    op.drop_constraint("designation_pk", "designation")
    op.execute(ONE_OF_A_LANGUAGE)
    op.create_primary_key("designation_pk", "designation", ["code_system_id", "code", "language"])
    op.execute(UNTYPED)
    op.drop_index("concept_parents_ix", "concept")
    op.execute(
        "alter table concept alter parents drop default, alter parents drop not null,"
        ' alter parents type text collate "C" using parents[1]'
    )
    op.alter_column("concept", "parents", new_column_name="parent")
    op.create_index("concept_code_system_id_parent_ix", "concept", ["code_system_id", "parent"])
    for table, column in _added():
        op.drop_column(table, column.name)
