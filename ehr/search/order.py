"""Sort keys of a request → keys of a shape, and what a cursor remembers of a row's place among them.

Order:   the request's keys, then rid in the direction of the last key: a total order, so pages never overlap
Nulls:   rows without a value come last in either direction; a single main date does it in two phases (rows with a
         date, then rows without), so that both walk an index
Shards:  patients that one code of their resources finds come in the order of their shards (ehr.search.coded_patients)
Values:  several values of one row: the least when ascending, the greatest when descending
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from ehr.index.main_date import main_date
from ehr.search.lower import parts_of
from ehr.search.plan import SearchPlan
from ehr.search.shape import Slot, Values, Wanted
from ehr.search.shape_statements import Key, SideValue
from ehr.search.terms import SortKey

if TYPE_CHECKING:
    from ehr.database.connection import Row

WITH_DATE: Final = 0
WITHOUT_DATE: Final = 1
_BY_DATE: Final = {way: (Key("date_lo_us", down), Key("rid", down)) for way, down in (("asc", False), ("desc", True))}
BY_SHARD: Final = (Key("shard", descending=False), Key("rid", descending=False))


def phases_of(plan: SearchPlan) -> tuple[int | None, ...]:
    """Which kinds of rows there are, in order; None: rows are not divided."""
    divided = len(plan.request.sort) == 1 and _is_main(plan, plan.request.sort[0])
    return (WITH_DATE, WITHOUT_DATE) if divided else (None,)


def can_pass(plan: SearchPlan) -> bool:
    """Whether rows can be passed in this order one by one. By id they could, and lie anywhere."""
    keys = keys_of(Values(), plan, phases_of(plan)[0])
    return not any(isinstance(key.by, SideValue) or key.filled or key.by == "id" for key in keys)


def keys_of(to: Values, plan: SearchPlan, phase: int | None) -> tuple[Key, ...]:
    """What rows of a phase are ordered by, rid at the end; rows without a date by rid alone."""
    made: list[Key] = []
    if phase is not None:
        return _BY_DATE[plan.request.sort[0].direction][phase:]
    for one in plan.request.sort:
        made += _keys(to, plan, one)
    last_down = bool(made) and made[-1].descending
    return (*made, Key("rid", last_down))


def kept(keys: Sequence[Key], row: "Row") -> list[Any]:
    """What a cursor remembers of a row's place: the columns k0, k1 … before rid. JSON holds moments as text."""
    found = [row[f"k{number}"] for number in range(len(keys) - 1)]
    return [value.isoformat() if key.by == "updated" else value for key, value in zip(keys, found, strict=False)]


def place(to: Values, keys: Sequence[Key], remembered: Sequence[Any], rid: int) -> tuple[Slot, ...]:
    """The place a cursor remembers, as values."""
    again = [
        datetime.fromisoformat(one) if key.by == "updated" else one
        for key, one in zip(keys[:-1], remembered, strict=True)
    ]
    return tuple(to.add(one) for one in (*again, rid))


def _is_main(plan: SearchPlan, key: SortKey) -> bool:
    return plan.type_name == key.parameter.type_name and key.parameter.code == main_date(plan.type_name)


def _keys(to: Values, plan: SearchPlan, sort: SortKey) -> list[Key]:
    down = sort.direction == "desc"
    if sort.parameter.code == "_id":
        return [Key("id", down)]
    if sort.parameter.code == "_lastUpdated":
        return [Key("updated", down)]
    by: Literal["date_lo_us"] | SideValue = "date_lo_us"
    if not _is_main(plan, sort):
        by = _value(to, sort)
    return [Key(by, descending=False, absent=True), Key(by, down, filled=True)]


def _value(to: Values, sort: SortKey) -> SideValue:
    which = [part.id for part in parts_of(sort.parameter)]
    parameters = Wanted(to.add(which[0] if len(which) == 1 else which), len(which) != 1)
    table: Literal["string", "date", "quantity"] = "quantity"
    if sort.parameter.kind in {"string", "date"}:
        table = "string" if sort.parameter.kind == "string" else "date"
    return SideValue(table, parameters, sort.direction == "desc")
