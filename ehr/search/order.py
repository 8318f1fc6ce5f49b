"""Sort keys of a request → keys of a shape, and what a cursor remembers of a row's place among them.

Order:   the request's keys, then rid in the direction of the last key: a total order, so pages never overlap
Nulls:   rows without a value come last in either direction; a single main date does it in two phases (rows with a
         date, then rows without), so that both walk an index
Values:  several values of one row: the least when ascending, the greatest when descending
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from ehr.index.main_date import main_date
from ehr.search.lower import parts_of
from ehr.search.plan import SearchPlan
from ehr.search.shape import Key, SideValue, Slot, Values, Wanted
from ehr.search.terms import SortKey

WITH_DATE: Final = 0
WITHOUT_DATE: Final = 1


@dataclass(frozen=True, slots=True)
class Order:
    """keys end with rid. phases: which kinds of rows there are, in order; None: rows are not divided."""

    keys: tuple[Key, ...]
    phases: tuple[int | None, ...] = (None,)

    def of_phase(self, phase: int | None) -> tuple[Key, ...]:
        """Rows without a date are ordered by rid alone."""
        return self.keys[-1:] if phase == WITHOUT_DATE else self.keys

    def kept(self, phase: int | None, row: Sequence[Any]) -> list[Any]:
        """What a cursor remembers of a row, given its key columns: JSON holds moments as text."""
        keys = self.of_phase(phase)[:-1]
        return [value.isoformat() if key.by == "updated" else value for key, value in zip(keys, row, strict=True)]

    def place(self, to: Values, phase: int | None, kept: Sequence[Any], rid: int) -> tuple[Slot, ...]:
        """The place a cursor remembers, as values."""
        again = [
            datetime.fromisoformat(one) if key.by == "updated" else one
            for key, one in zip(self.of_phase(phase)[:-1], kept, strict=True)
        ]
        return tuple(to.add(one) for one in (*again, rid))


def order_of(to: Values, plan: SearchPlan) -> Order:
    sort = plan.request.sort
    if len(sort) == 1 and _is_main(plan, sort[0]):
        down = sort[0].direction == "desc"
        return Order((Key("date_lo_us", down), Key("rid", down)), (WITH_DATE, WITHOUT_DATE))
    made: list[Key] = []
    for one in sort:
        made += _keys(to, plan, one)
    last_down = bool(made) and made[-1].descending
    return Order((*made, Key("rid", last_down)))


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
