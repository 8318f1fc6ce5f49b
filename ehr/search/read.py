"""What the index keeps only as hashes, or not at all, is read from the resources themselves: an order by tokens,
references and uris, and _content.

In:      a plan whose sort keys or content ask for it; rows are found by all its other conditions
Out:     places in order, as ehr.search.page has them of a statement; a page is one more look at the rows it shows
Cost:    paid by such a search alone: about 20 µs a resource found, whatever the page; nothing is stored for it
Keeps:   the order of ehr.search.order: the least of several values ascending, the greatest descending, rows without a
         value last, then rid; a later page reads again, up to the rid of the first page's time, and what has changed
         since then in the version that stood then, so that each row stands where it stood when the walk began
Errors:  TooMuch  more than limits.search_read_max resources would be read
Source:  FHIR R4 3.1.1.5.2 _sort, 3.1.1.4.15 _content; docs/adr/0091
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr import limits
from ehr.errors import TooMuch
from ehr.fhir.parameters import Parameter, walk
from ehr.index.contained import container_of
from ehr.index.extract import Extractor, IndexRows
from ehr.index.main_date import main_date
from ehr.index.ranges import date_range
from ehr.index.words import content
from ehr.search import contained
from ehr.search.chosen import Chosen, Placed
from ehr.search.cursor import Cursor, Walk
from ehr.search.found import Bodies, Found, found_of
from ehr.search.lower import Lowering, parts_of, typed
from ehr.search.moved import may_move
from ehr.search.plan import SearchPlan
from ehr.search.served import read_to_sort
from ehr.search.shape import (
    Clause,
    Numbered,
    Unchanged,
    Values,
)
from ehr.search.shape_statements import (
    IncludedOf,
    MovedOf,
    PlacesOf,
)
from ehr.search.statements import fetch
from ehr.search.terms import AllOf, AnyOf, Condition, Criterion, Not, SortKey, WordValue

if TYPE_CHECKING:
    from ehr.database.connection import Connection, Row

BATCH_COUNT: Final = 200


def asked_of(plan: SearchPlan) -> bool:
    """Whether a search needs more than the index has."""
    return bool(plan.request.content) or any(map(_by_hash, plan.request.sort))


def _by_hash(key: SortKey) -> bool:
    return read_to_sort(key.parameter)


@dataclass(slots=True)
class Place:
    """One match: values of the sort keys, None where there is none."""

    keys: list[Any]
    rid: int


@dataclass(slots=True)
class Reading:
    """One search while it runs. noted: its audit rows are left to the caller."""

    connection: "Connection"
    plan: SearchPlan
    lowering: Lowering
    cursor: Cursor | None
    bodies: Bodies
    noted: bool = False
    rid_max: int = 0
    walk: Walk | None = None
    _places: list[Place] | None = None
    _extractors: list[Extractor] = field(default_factory=list)

    async def total(self) -> int | None:
        if self.plan.request.total == "none":
            return None
        if self.cursor is not None and self.cursor.total is not None:
            return self.cursor.total
        return len(await self._ordered())

    async def choose(self, count: int) -> Chosen:
        """The rows of the page. They are ordered anew each time, as they stood when the walk began."""
        placed: list[Placed] = [*await self.rows(count)]
        return Chosen(placed[:count], [], len(placed) > count, self.walk)

    async def rows(self, count: int) -> list[tuple["Row", list[Any]]]:
        """Beyond the cursor, in the order asked or, going back, against it; one above count where there are more."""
        places = await self._ordered()
        if self.cursor is not None:
            here = Place(self.cursor.keys, self.cursor.rid)
            beyond = [one for one in places if one.rid != here.rid and self._before(here, one) == self.cursor.forward]
            places = beyond if self.cursor.forward else beyond[::-1]
        chosen = places[: count + 1]
        rows = {row["rid"]: row for row in await self._bodies(chosen)}
        return [(rows[one.rid], one.keys) for one in chosen if one.rid in rows]

    # -- order ---------------------------------------------------------------------------------------------

    async def _ordered(self) -> list[Place]:
        if self._places is None:
            self._places = await self._read()
            sort = self.plan.request.sort
            self._places.sort(key=lambda one: one.rid, reverse=bool(sort) and sort[-1].direction == "desc")
            for number in range(len(sort) - 1, -1, -1):
                _sort(self._places, number, descending=sort[number].direction == "desc")
        return self._places

    def _before(self, one: Place, other: Place) -> bool:
        sort = self.plan.request.sort
        for key, mine, others in zip(sort, one.keys, other.keys, strict=True):
            if mine != others:
                if mine is None or others is None:
                    return others is None
                return bool(mine > others) == (key.direction == "desc")
        return (one.rid > other.rid) == (bool(sort) and sort[-1].direction == "desc")

    # -- reading -------------------------------------------------------------------------------------------

    async def _read(self) -> list[Place]:
        found: dict[int, Place] = {}
        numbers = await self._numbers()
        changed = self.cursor is not None and self.cursor.walk is not None
        for start in range(0, len(numbers), BATCH_COUNT):
            batch = [Place([], rid) for rid in numbers[start : start + BATCH_COUNT]]
            rows = await self._bodies(batch, began=self.walk)
            changed = changed or len(rows) < len(batch)
            for one, whole in await self._resources(rows):
                tree = orjson.loads(one.body)
                if self._holds(tree):
                    found[one.rid] = Place(self._keys(tree, whole), one.rid)
        if self.lowering.of != "own" and self.plan.request.contained_type == "container":
            found = _foremost(found)
        if self.walk is not None and changed:
            found |= {one.rid: one for one in await self._moved(self.walk)}
        return list(found.values())

    async def _resources(self, rows: Sequence["Row"]) -> list[tuple[Found, Found]]:
        """Each with what contains it, or itself."""
        if self.lowering.of == "own":
            return [(one, one) for one in found_of(rows, self.bodies)]
        return await contained.read(self.connection, self.lowering, rows, self.bodies)

    async def _numbers(self) -> list[int]:
        """Of the rows that stand as they stood when the walk began; on its first page this is when it begins."""
        forward = self.cursor is None or self.cursor.forward
        self.walk = self.cursor.walk if self.cursor is not None else None
        to = Values()
        clauses, narrow = self._clauses(to)
        if self.walk is not None:
            clauses.append(Unchanged(to.add(self.walk.began)))
        asked = PlacesOf(tuple(clauses), narrow, to.add(limits.search_read_max + 1), self.lowering.of)
        rows = await fetch(self.connection, asked, to)
        self._refuse_many(rows)
        self.rid_max = rows[0]["rid_max"] if rows else 0
        if rows and self.walk is None and forward and may_move(self.plan):
            self.walk = Walk(rows[0]["snapshot"], rows[0]["snapshot"])
        return [row["rid"] for row in rows]

    async def _moved(self, walk: Walk) -> list[Place]:
        """What has changed since the walk began: as it is now in what is asked, as it was in its place."""
        to = Values()
        clauses, _ = self._clauses(to)
        began, now, count = to.add(walk.began), None, to.add(limits.search_read_max + 1)
        rows = await fetch(self.connection, MovedOf(tuple(clauses), began, began, now, to.add(0), count), to)
        self._refuse_many(rows)
        made = []
        for row, one in zip(rows, found_of(rows, self.bodies), strict=True):
            if self._holds(orjson.loads(one.body)):
                was = one.with_body(self.bodies.decompress(row["was_body"]))
                made.append(Place(self._keys(orjson.loads(was.body), was), one.rid))
        return made

    def _clauses(self, to: Values) -> tuple[list[Clause], bool]:
        clauses, narrow = self.lowering.plan(to, self.plan, each=True)
        if self.cursor is not None:
            clauses.append(contained.not_after(to, self.plan, self.cursor.rid_max))
        return clauses, narrow

    def _refuse_many(self, rows: Sequence["Row"]) -> None:
        count_max = limits.search_read_max
        if len(rows) > count_max:
            what = "_content" if self.plan.request.content else "_sort"
            text = f"more than {count_max} resources would be read for this; narrow the search down by other parameters"
            raise TooMuch(text, at=what)

    async def _bodies(self, places: Sequence[Place], began: Walk | None = None) -> Sequence["Row"]:
        """began: only of rows that have not changed since."""
        if not places:
            return []
        to = Values()
        clauses: list[Clause] = [typed(to, self.plan.types), Numbered(to.add([one.rid for one in places]))]
        clauses += self.lowering.seen(to, self.plan.types)
        clauses += [Unchanged(to.add(began.began))] if began is not None else []
        return await fetch(self.connection, IncludedOf(tuple(clauses), to.add(len(places)), of=self.lowering.of), to)

    # -- one resource --------------------------------------------------------------------------------------

    def _holds(self, tree: Any) -> bool:
        asked = self.plan.request.content
        if not asked:
            return True
        there = content(tree)
        return all(_holds(one, there) for one in asked)

    def _keys(self, tree: Any, whole: Found) -> list[Any]:
        sort = self.plan.request.sort
        indexed = None
        if not all(_by_hash(key) or key.parameter.code in {"_id", "_lastUpdated"} for key in sort):
            indexed = self._extractor().extract(tree, tree["resourceType"], tree["id"])
        made = []
        for key in sort:
            if key.parameter.code == "_lastUpdated":
                values = _updated(whole)
            else:
                values = list(_values(key.parameter, tree, indexed))
            made.append((max(values) if key.direction == "desc" else min(values)) if values else None)
        return made

    def _extractor(self) -> Extractor:
        if not self._extractors:
            self._extractors.append(Extractor(self.lowering.hasher, self.plan.request.known))
        return self._extractors[0]


def _sort(places: list[Place], number: int, *, descending: bool) -> None:
    """By one key, keeping the order of equals. What is absent comes last either way."""
    there = [one for one in places if one.keys[number] is not None]
    absent = [one for one in places if one.keys[number] is None]
    there.sort(key=lambda one: one.keys[number], reverse=descending)
    places[:] = there + absent


def _foremost(places: dict[int, Place]) -> dict[int, Place]:
    """Each container once: as a match itself, else by the first of its parts that is one."""
    first: dict[int, Place] = {}
    for rid in sorted(places):
        first.setdefault(container_of(rid), places[rid])
    return {one.rid: one for one in first.values()}


def _holds(condition: Condition, there: set[str]) -> bool:
    match condition:
        case Criterion(values=values):
            return any(isinstance(value, WordValue) and value.word in there for value in values)
        case AllOf(conditions):
            return all(_holds(one, there) for one in conditions)
        case AnyOf(conditions):
            return any(_holds(one, there) for one in conditions)
        case Not(inner):
            return not _holds(inner, there)
    raise AssertionError("words are asked for in no other way")


def _updated(whole: Found) -> list[Any]:
    """A contained resource is as old as its container."""
    moment = date_range(str(orjson.loads(whole.body).get("meta", {}).get("lastUpdated")))
    return [] if moment is None else [moment[0]]


def _values(parameter: Parameter, tree: Any, indexed: IndexRows | None) -> Iterator[Any]:
    """What a resource is ordered by, in one type for each parameter."""
    if parameter.code == "_id":
        yield tree["id"]
    elif read_to_sort(parameter):
        for part in parts_of(parameter):
            for path in part.paths:
                for value in walk(tree, path.steps):
                    for text in _texts(value, path.type):
                        if parameter.only is None or text.startswith(f"{parameter.only}/"):
                            yield text
    elif indexed is not None:
        yield from _indexed(parameter, tree["resourceType"], indexed)


def _indexed(parameter: Parameter, type_name: str, indexed: IndexRows) -> Iterator[Any]:
    ids = {part.id for part in parts_of(parameter)}
    if parameter.kind == "string":
        yield from (text for param_id, text in indexed.strings if param_id in ids)
    elif parameter.kind != "date":
        yield from (row[1] for row in indexed.quantities if row[0] in ids)
    elif parameter.code == main_date(type_name):
        yield from () if indexed.date_lo_us is None else (indexed.date_lo_us,)
    else:
        yield from (low for param_id, low, _ in indexed.dates if param_id in ids)


def _texts(value: Any, type_name: str) -> Iterator[str]:
    """Code, value of an identifier, reference or uri."""
    if type_name == "Deceased":
        yield "true" if value.get("deceasedBoolean") is True or value.get("deceasedDateTime") else "false"
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        codings = value.get("coding") if type_name == "CodeableConcept" else None
        for one in codings if isinstance(codings, list) and codings else [value]:
            names = ("code", "value", "reference", "text", "display")
            text = next((one[name] for name in names if isinstance(one.get(name), str)), None)
            if text is not None:
                yield text
