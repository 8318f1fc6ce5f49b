"""The audit rows of a page, written by the statement that finds it → SQLAlchemy."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    SmallInteger,
    Text,
    any_,
    cast,
    false,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ehr.database.tables import C_TEXT, audit, person_link
from ehr.search.compile_values import value
from ehr.search.shape_statements import Noted


def noted(asked: Noted, shown: Any, order: Sequence[Any]) -> Any:
    """The audit rows of the rows that are shown: one a shard, or one without a shard where there is none."""
    kind, actor, facility, purpose = asked.caller
    touched = _touched(asked, shown, order).subquery("touched")
    person = select(person_link.c.person_id).where(person_link.c.shard == touched.c.shard).scalar_subquery()
    once = select(literal_column("1").label("one")).subquery("once")
    audited = select(
        value(kind, C_TEXT),
        value(actor, C_TEXT),
        value(facility, Integer()),
        literal_column("'S'"),
        value(asked.type_id, SmallInteger()),
        touched.c.shard,
        person,
        value(purpose, C_TEXT),
        cast(value(asked.detail, Text()), JSONB),
    ).select_from(once.outerjoin(touched, true()))
    if asked.kept_full:
        count = select(func.count()).select_from(shown).scalar_subquery()
        audited = audited.where(count > value(asked.shown, Integer()))
    columns = ["actor_kind", "actor", "facility_id", "action", "type_id", "shard", "person_id", "purpose", "detail"]
    return insert(audit).from_select(columns, audited).cte("noted")


def _touched(asked: Noted, shown: Any, order: Sequence[Any]) -> Any:
    """The shards of patients that this statement shows, those before it showed, and those of patients who are named."""
    parts: list[Any] = []
    if asked.patients != "none":
        first = select(shown.c.type_id, shown.c.shard).order_by(*order).limit(value(asked.shown, Integer()))
        rows = first.subquery("first")
        parts.append(select(rows.c.shard).distinct())
        if asked.patients != "all":
            parts[0] = parts[0].where(rows.c.type_id == any_(value(asked.patients, ARRAY(SmallInteger))))
    if asked.earlier is not None:
        parts.append(select(func.unnest(value(asked.earlier, ARRAY(BigInteger))).label("shard")).distinct())
    return union(*parts) if parts else select(null().cast(BigInteger).label("shard")).where(false())
