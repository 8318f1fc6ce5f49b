"""What left its place while its pages were walked: rows whose order may change, each shown once all the same.

Why:     a page begins after a place. A row that is updated may move from ahead of the walk to behind it, and would be
         missed, or back, and would come twice
Rule:    a row stands where it stood when the walk began. Later pages look for rows that have not changed since, and
         with each come those whose first change since the walk began fell between it and the page before, and which
         then still lay ahead
Not for: orders that are read from the resources, which keep the same rule in ehr.search.read
Cost:    nothing on a first page and in orders that no update changes; one statement for each later page
Limits:  limits.page_moved_max changes are looked at for one page; the next page goes on with them
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ehr import limits
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_NAMES
from ehr.index.extract import Extractor, IndexRows
from ehr.index.hashing import Hasher
from ehr.search import order
from ehr.search.cursor import Cursor, Walk
from ehr.search.found import Bodies
from ehr.search.plan import SearchPlan
from ehr.search.shape import Clause, Values
from ehr.search.shape_statements import Key, MovedOf, SideValue
from ehr.search.statements import fetch

if TYPE_CHECKING:
    from ehr.database.connection import Connection, Row


def may_move(plan: SearchPlan) -> bool:
    """Whether an update can change a row's place in the order that is asked for. Contained ones have no versions."""
    return plan.request.contained == "own" and any(sort.parameter.code != "_id" for sort in plan.request.sort)


@dataclass(frozen=True, slots=True)
class Moved:
    """rows that are to be shown, at most as many as asked for; walk: how the next page goes on."""

    rows: list["Row"]
    walk: Walk


@dataclass(frozen=True, slots=True)
class Left:
    """One look for rows that left. cursor: where the page begins; None: at the beginning."""

    connection: "Connection"
    plan: SearchPlan
    hasher: Hasher
    bodies: Bodies
    cursor: Cursor | None

    async def rows(self, clauses: tuple[Sequence[Clause], Values], walk: Walk, count: int, upto: str | None) -> Moved:
        """Rows that left since the walk last looked, up to the snapshot `upto` (None: now)."""
        given, to = clauses
        asked = MovedOf(
            tuple(given),
            began=to.add(walk.began),
            seen=to.add(walk.seen),
            upto=None if upto is None else to.add(upto),
            after=to.add(walk.after),
            count=to.add(limits.page_moved_max),
        )
        rows = await fetch(self.connection, asked, to)
        until = upto or (rows[0]["snapshot"] if rows else walk.seen)
        extractor = Extractor(self.hasher, self.plan.request.known)
        found: list[Row] = []
        for row in rows:
            if not self._lay_ahead(row, extractor):
                continue
            if len(found) == count:
                return Moved(found, replace(walk, upto=until, after=found[-1]["rid"]))
            found.append(row)
        if len(rows) == limits.page_moved_max:
            return Moved(found, replace(walk, upto=until, after=rows[-1]["rid"]))
        return Moved(found, Walk(walk.began, until))

    def _lay_ahead(self, row: "Row", extractor: Extractor) -> bool:
        """Whether the version that stood when the walk began stands beyond the place where the page begins."""
        cursor, plan = self.cursor, self.plan
        if cursor is None:
            return True
        tree = codec.loads(self.bodies.decompress(row["was_body"]))
        indexed = extractor.extract(tree, TYPE_NAMES[row["type_id"]], row["id"])
        phase: int | None = None
        if len(order.phases_of(plan)) > 1:
            phase = order.WITHOUT_DATE if indexed.date_lo_us is None else order.WITH_DATE
            if phase != cursor.phase:
                return phase > cursor.phase
        to = Values()
        for key, there in zip(order.keys_of(to, plan, phase), [*cursor.keys, cursor.rid], strict=True):
            stood = _stood(key, row, indexed, to)
            place = datetime.fromisoformat(there) if key.by == "updated" else there
            if stood != place:
                return bool(stood < place) if key.descending else bool(stood > place)
        return False


def _stood(key: Key, row: "Row", indexed: IndexRows, to: Values) -> Any:
    """The value a version had for a sort key, as ehr.search.statements computes it of current rows."""
    if key.by in {"rid", "id"}:
        return row[key.by]
    if key.by == "updated":
        return row["was_updated"]
    value = _side_value(key.by, indexed, to) if isinstance(key.by, SideValue) else indexed.date_lo_us
    if key.absent:
        return int(value is None)
    if value is None and key.filled:
        return "" if isinstance(key.by, SideValue) and key.by.table == "string" else 0
    return value


def _side_value(asked: SideValue, indexed: IndexRows, to: Values) -> Any:
    wanted = to.all[asked.parameters.at]
    numbers = set(wanted if asked.parameters.many else [wanted])
    table: Sequence[tuple[Any, ...]] = indexed.quantities
    if asked.table != "quantity":
        table = indexed.strings if asked.table == "string" else indexed.dates
    return (max if asked.greatest else min)((one[1] for one in table if one[0] in numbers), default=None)
