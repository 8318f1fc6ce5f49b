"""Whole statements of a search: what is asked of rows (ehr.search.shape), in which order, and what is done with them.

Out:     a Shape, the key under which its SQL is kept
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ehr.search.shape import Clause, Coded, Listed, Slot, Typed, Wanted
from ehr.search.terms import Rows

# -- order -------------------------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class SideValue:
    """The least or greatest value a side table has for a row."""

    table: Literal["string", "date", "quantity"]
    parameters: Wanted
    greatest: bool


@dataclass(slots=True, unsafe_hash=True)
class Key:
    """One expression to order by.

    by      a column of resource, or a value of a side table
    absent  whether there is a value, instead of the value
    filled  where there is none, something takes its place (an absent key before this one decides)
    """

    by: Literal["rid", "id", "updated", "date_lo_us", "shard"] | SideValue
    descending: bool
    absent: bool = False
    filled: bool = False


# -- statements --------------------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class Noted:
    """The audit rows of a search, in its own statement: one a shard whose rows are shown.

    caller     kind, id, facility and purpose of who searches
    shown      how many of the page's rows are shown
    kept_full  only where more rows were found than are shown: else another statement goes on, and notes
    earlier    shards that statements before this one have shown, and those of patients who are named
    patients   rows of these types belong to patients; or all rows do, or none
    """

    caller: tuple[Slot, Slot, Slot, Slot]
    type_id: Slot
    detail: Slot
    shown: Slot
    earlier: Slot | None
    kept_full: bool
    patients: Literal["all", "none"] | Slot


@dataclass(slots=True, unsafe_hash=True)
class PageOf:
    """Rows in order, beyond a place where there is one.

    narrow     looked up before any order is tried
    dated      each says which snapshot it was found in
    passing    only among so many rows of the order, each asked by itself. Part of the text, since the planner must see
               it, so few different ones are asked for
    partition  the table of the one type; None: of all types
    coded      the first coding's token, by which the index of codes lists rows in order; and that of further codings
    asker      each row says whose it is, where several ask together
    """

    clauses: tuple[Clause, ...]
    types: Typed
    narrow: bool
    keys: tuple[Key, ...]
    forward: bool
    place: tuple[Slot, ...] | None
    count: Slot
    noted: Noted | None = None
    dated: bool = False
    of: Rows = "own"
    passing: int | None = None
    partition: str | None = None
    coded: tuple[Slot, Slot] | None = None
    asker: Slot | None = None


@dataclass(slots=True, unsafe_hash=True)
class CountOf:
    """How many rows there are, of a code patients who have it, counted up to a bound where there is one; dated: and in
    which snapshot; partition: the table whose rows need not be asked for their type."""

    clauses: tuple[Clause, ...] | Listed | Coded
    count_max: Slot | None
    of: Rows = "own"
    dated: bool = False
    partition: str | None = None


@dataclass(slots=True, unsafe_hash=True)
class SinceOf:
    """How many rows were written since a snapshot; and versions that stood in it and stand no more, some of them."""

    clauses: tuple[Clause, ...]
    types: Typed
    since: Slot
    count: Slot


@dataclass(slots=True, unsafe_hash=True)
class EstimateOf:
    """How many rows the planner expects."""

    clauses: tuple[Clause, ...]
    of: Rows = "own"


@dataclass(slots=True, unsafe_hash=True)
class IdsOf:
    """Ids in the order of creation."""

    clauses: tuple[Clause, ...]
    narrow: bool
    count: Slot


@dataclass(slots=True, unsafe_hash=True)
class MovedOf:
    """Rows whose first change since `began` lies between two snapshots, with the version that stood then."""

    clauses: tuple[Clause, ...]
    began: Slot
    seen: Slot
    upto: Slot | None
    after: Slot
    count: Slot


@dataclass(slots=True, unsafe_hash=True)
class RidsOf:
    """The numbers of all rows made after one number, up to another."""

    clauses: tuple[Clause, ...]
    after: Slot
    upto: Slot


@dataclass(slots=True, unsafe_hash=True)
class PlacesOf:
    """Types and rids in the order of creation."""

    clauses: tuple[Clause, ...]
    narrow: bool
    count: Slot
    of: Rows = "own"


@dataclass(slots=True, unsafe_hash=True)
class IncludedOf:
    """Rows around a page, by type and creation, beyond a place where there is one.

    each  partitions, and what is asked of their rows beside; they are looked up before any order is tried
    """

    clauses: tuple[Clause, ...]
    count: Slot
    place: tuple[Slot, Slot] | None = None
    of: Rows = "own"
    each: tuple[tuple[str, tuple[Clause, ...]], ...] = ()


Shape: TypeAlias = PageOf | CountOf | SinceOf | EstimateOf | IdsOf | MovedOf | RidsOf | PlacesOf | IncludedOf
