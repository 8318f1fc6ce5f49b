"""SearchPlan → one page of resources, and the audit rows of what it shows.

Out:     Page: matches in order, included, total where asked for, cursors of the pages beside it
Keeps:   pages neither overlap nor shift while others write: a page begins after a row, not after a number of rows,
         rows made after the first page was read stay out, and those that change stand where they stood
         (ehr.search.moved)
Audit:   with a Note, the statement that finds the rows writes their audit rows; a page with includes, or with rows
         that moved, shows more than that statement finds, so it is left to the caller (Page.noted says which)
Limits:  includes over limits.include_count_max shorten the page; of one match they take several (include_walk)
Errors:  BadSearch (cursor), Unavailable (statement timeout, by the caller's edge)
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from ehr.access.policy import Caller
from ehr.database.partitions import partition_name
from ehr.errors import Issue, NotSupported
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS
from ehr.index import formats
from ehr.index.hashing import hasher_of
from ehr.search import contained, include, include_walk, order, read
from ehr.search.anyone import First, blanks
from ehr.search.chosen import Chosen, Placed
from ehr.search.cursor import Cursor, Frame, Inside, Walk, opened, sealed, search_hash
from ehr.search.found import Bodies, Found, found_of
from ehr.search.include import Look
from ehr.search.link import Places
from ehr.search.lower import Lowering, parts_of, typed
from ehr.search.lowered import lowered
from ehr.search.moved import Left, Moved, may_move
from ehr.search.named import named
from ehr.search.plan import SearchPlan
from ehr.search.read import Reading
from ehr.search.resolve import resolved
from ehr.search.served import added_of
from ehr.search.shape import (
    Clause,
    HasDate,
    Slot,
    Unchanged,
    Values,
)
from ehr.search.shape_statements import Noted, PageOf
from ehr.search.statements import fetch, sql_of
from ehr.search.terms import SearchRequest
from ehr.search.total import Total
from ehr.store import declarations
from ehr.store.counts import Counts

if TYPE_CHECKING:
    from ehr.database.connection import Connection, Row
    from ehr.database.engine import Installation

FIRSTS_MAX: Final = 64
"""Of one plan: one for each caller with its rights that asks it."""

Ask = Callable[[str, Sequence[Any], int], Awaitable[Sequence["Row"]]]
"""SQL, its values, and the place of the number by which rows are told apart, where several ask together → rows."""


@dataclass(slots=True)
class Note:
    """Who searches, for the audit. detail: JSON; names of parameters, never their values."""

    caller: Caller
    detail: str


@dataclass(slots=True)
class Page:
    matches: list[Found] = field(default_factory=list)
    included: list[Found] = field(default_factory=list)
    total: int | None = None
    next_cursor: str | None = None
    previous_cursor: str | None = None
    issues: list[Issue] = field(default_factory=list)
    noted: bool = False


class _Search(Struct):
    """One search while it runs."""

    connection: "Connection"
    plan: SearchPlan
    lowering: Lowering
    cursor: Cursor | None
    note: Note | None
    bodies: Bodies
    counts: Counts | None = None
    ask: Ask | None = None
    noted: bool = False
    rid_max: int = 0
    began: str | None = None
    """Rows that changed after this snapshot have lost their place."""

    @property
    def forward(self) -> bool:
        return self.cursor is None or self.cursor.forward

    @property
    def _is_walk(self) -> bool:
        return self.forward and may_move(self.plan)

    async def choose(self, count: int) -> Chosen:
        """The rows of the page: those in order, and in their stead those that left their places ahead."""
        walk = self.cursor.walk if self.cursor is not None else None
        if walk is not None and walk.upto is not None:
            left = await self._moved(walk, count, walk.upto)
            return Chosen([], left.rows, True, left.walk)
        self.began = walk.began if walk is not None else None
        placed = await self.rows(count)
        more = len(placed) > count
        first = placed[0][0].get("snapshot") if placed else None
        if walk is None:
            walk = None if first is None else Walk(first, first)
            if walk is None or not more or placed[-1][0]["snapshot"] == first:
                return Chosen(placed[:count], [], more, walk)
        left = await self._moved(walk, count, placed[-1][0]["snapshot"] if more else None)
        if left.walk.upto is not None:
            # a first page looks only at what changed between its two statements, and has no place to go on from
            return Chosen([], left.rows, True, left.walk) if self.cursor else Chosen(placed[:count], [], more, walk)
        gone = {row["rid"] for row in left.rows}
        stayed = [one for one in placed if one[0]["rid"] not in gone]
        kept = stayed[: count - len(left.rows)]
        return Chosen(kept, left.rows, len(kept) < len(stayed), left.walk)

    async def _moved(self, walk: Walk, count: int, upto: str | None) -> Moved:
        to = Values()
        clauses, _ = self.clauses(to)
        left = Left(self.connection, self.plan, self.lowering.hasher, self.bodies, self.cursor)
        found = await left.rows((clauses, to), walk, count, upto)
        self.noted = self.noted and not found.rows
        return found

    def clauses(self, to: Values) -> tuple[list[Clause], bool]:
        """What a row must satisfy; and whether such rows are looked up before any order is tried."""
        clauses, narrow = self.lowering.plan(to, self.plan)
        if self.cursor is not None:
            clauses.append(contained.not_after(to, self.plan, self.cursor.rid_max))
        return clauses, narrow

    async def rows(self, count: int) -> list[Placed]:
        """Beyond the cursor, in the order asked or, going back, against it; one above count where there are more."""
        phases = self._phases()
        found = await self._passed(phases[0], count) if self.lowering.pass_rows else []
        if self.lowering.lead is not None and self.cursor is None and not found:
            self.lowering = replace(self.lowering, few=(*self.lowering.few, self.lowering.lead))
        for phase, started in phases if not found else ():
            rows = await self._of_phase(phase, started, count - len(found), found, last=phase == phases[-1][0])
            found += [(row, [row["k0"]] if self.lowering.by_shard else phase) for row in rows]
            if self._is_walk and found and self.began is None:
                self.began = found[0][0]["snapshot"]
            if len(found) > count:
                break
        self.noted = self.note is not None
        return found

    def _phases(self) -> list[tuple[int | None, Cursor | None]]:
        """Kinds of rows that are still to come, and where the page begins among them."""
        cursor, phases = self.cursor, order.phases_of(self.plan)
        if cursor is None:
            return [(phase, None) for phase in phases]
        phases = phases if cursor.forward else phases[::-1]
        left = phases[phases.index(cursor.phase) :] if len(phases) > 1 else phases
        return [(left[0], cursor), *((phase, None) for phase in left[1:])]

    async def _passed(self, first: tuple[int | None, Cursor | None], count: int) -> list[Placed]:
        """The page, and its audit rows, where the next rows of the order fill it; else nothing."""
        phase, started = first
        passing = replace(self, lowering=replace(self.lowering, passing=True))
        rows = await passing._of_phase(phase, started, count, [], last=False)
        return [(row, phase) for row in rows] if len(rows) > count else []

    async def _of_phase(
        self, phase: int | None, started: Cursor | None, count: int, before: list[Placed], *, last: bool
    ) -> Sequence["Row"]:
        if self.cursor is not None or before or self.lowering.depends:
            return await fetch(self.connection, *self._asked(phase, started, count, before, last=last))
        first = self._first(phase, count, last=last)
        of_one = self.plan.anyone is not None
        values = first.of(self.plan.request.patient, self.lowering.hasher) if of_one else first.values
        if self.ask is None or first.asker is None:
            return await self.connection.fetch(first.text, *values)
        return await self.ask(first.text, values, first.asker)

    def _first(self, phase: int | None, count: int, *, last: bool) -> First:
        """The statement of the first page; of anyone's, where the plan was made of that."""
        plan, key = self.plan.anyone or self.plan, self._key(phase)
        made = plan.kept.firsts.get(key)
        if made is None:
            asked, to = replace(self, plan=plan)._asked(phase, None, count, [], last=last)
            if asked.noted is not None:
                asked.asker = to.add(0)
            sql = sql_of(asked)
            made = First(sql.text, sql.arguments(to), None if asked.asker is None else sql.order.index(asked.asker))
            if plan is not self.plan and self.plan.request.anyone is not None:
                parts = parts_of(self.plan.request.anyone.parameter)
                made.blanks = blanks(made.values, parts, self.lowering.hasher)
            if len(plan.kept.firsts) >= FIRSTS_MAX:
                plan.kept.firsts.clear()
            plan.kept.firsts[key] = made
        return made

    def _key(self, phase: int | None) -> tuple[Any, ...]:
        """What the first statement of a plan depends on beside the plan."""
        lowering = self.lowering
        codes = lowering.coded, lowering.pointing
        how = tuple([id(one) for one in lowering.few]), lowering.pass_rows, lowering.passing, codes
        if self.note is None:
            return phase, self.lowering.hasher, how
        who = self.note.caller
        return phase, self.lowering.hasher, how, who.kind, who.id, who.facility_id, who.purpose

    def _asked(
        self, phase: int | None, started: Cursor | None, count: int, before: list[Placed], *, last: bool
    ) -> tuple[PageOf, Values]:
        to = Values()
        clauses, narrow = self.clauses(to)
        keys = order.BY_SHARD if self.lowering.by_shard else order.keys_of(to, self.plan, phase)
        if phase is not None:
            clauses.append(HasDate(phase == order.WITH_DATE))
        if self.began is not None:
            clauses.append(Unchanged(to.add(self.began)))
        asked = PageOf(
            tuple(clauses),
            typed(to, self.plan.types),
            narrow,
            keys,
            self.forward,
            order.place(to, keys, started.keys, started.rid) if started else None,
            to.add(count + 1),
            self._noted(to, count, before, last=last) if self.note else None,
            self._is_walk,
            self.lowering.of,
            self.lowering.pass_rows if self.lowering.passing else None,
            partition_name(self.plan.types[0]) if len(self.plan.types) == 1 else None,
            self._coded(to),
        )
        return asked, to

    def _coded(self, to: Values) -> tuple[Slot, Slot] | None:
        if self.lowering.coded is None:
            return None
        first, further = self.lowering.coded
        return to.add(first), to.add(further)

    def _noted(self, to: Values, count: int, before: list[Placed], *, last: bool) -> Noted:
        assert self.note is not None, "asked for with a note only"
        caller = self.note.caller
        belonging = [TYPE_IDS[name] for name in self.plan.types if name in PATIENT_TYPES]
        patients: Literal["all", "none"] | int = "none"
        if belonging:
            patients = "all" if len(belonging) == len(self.plan.types) else to.add(belonging)
        of_named = named(self.lowering, self.plan)
        if of_named and self.lowering.sharded(self.plan):
            patients = "none"  # no other's rows are found
        earlier = sorted({row["shard"] for row, _ in before}) if patients != "none" else []
        earlier += of_named
        return Noted(
            (to.add(caller.kind), to.add(caller.id), to.add(caller.facility_id), to.add(caller.purpose)),
            to.add(TYPE_IDS[self.plan.request.type_name] if self.plan.request.type_name else None),
            to.add(self.note.detail),
            to.add(count),
            to.add(earlier) if earlier else None,
            not last,
            patients,
        )

    async def total(self) -> int | None:
        if self.plan.request.total == "none":
            return None
        if self.cursor is not None and self.cursor.total is not None:
            return self.cursor.total
        lowering = replace(self.lowering, pointing=None)  # of a look at each row the planner could expect nothing
        return await Total(self.connection, self.plan, lowering, self.bodies, self.counts).asked()


async def search(
    connection: "Connection",
    plan: SearchPlan,
    *,
    installation: "Installation",
    bodies: Bodies,
    note: Note | None = None,
    counts: Counts | None = None,
    ask: Ask | None = None,
) -> Page:
    """counts: those kept of this record, so that what was counted is not visited again. ask: how a first page that is
    planned once asks for its rows."""
    request = plan.request
    cursor = _cursor(plan, installation) if request.cursor else None
    if request.contained != "own":
        await formats.require(connection, installation, formats.CONTAINED, "_contained")
    hasher = hasher_of(installation.hash_key)
    plan = await resolved(connection, plan, installation, hasher, bodies)
    lowering = await lowered(connection, plan, cursor, installation, hasher)
    running: _Search | Reading
    if read.asked_of(plan):
        running = Reading(connection, plan, lowering, cursor, bodies)
    else:
        one_statement = not plan.includes and request.contained == "own"
        running = _Search(connection, plan, lowering, cursor, note if one_statement else None, bodies, counts, ask)
    page = Page(total=await running.total())
    if request.count and not await _went_on(page, running, installation):
        await _fill(page, running, installation, bodies)
    if request.known.adds:
        await refuse_retired(connection, request)
    return page


async def _fill(page: Page, running: _Search | Reading, installation: "Installation", bodies: Bodies) -> None:
    """The page's resources, and the places beside it."""
    plan, cursor = running.plan, running.cursor
    chosen = await running.choose(plan.request.count)
    page.noted = running.noted
    forward = cursor is None or cursor.forward
    if not forward:
        chosen.placed.reverse()
    look = Look(running.connection, plan, running.lowering, bodies)
    matches = await _found(running, chosen)
    included = await include.included(look, matches)
    while included.over and len(matches) > 1:
        chosen.cut(len(matches) // 2, forward, cursor.walk.seen if cursor and cursor.walk else None)
        matches = await _found(running, chosen)
        included = await include.included(look, matches)
    page.matches, page.included = matches, included.found
    places = Places(plan, cursor, running.rid_max, page.total)
    following, preceding = places.beside(chosen)
    if included.over:
        walked = await include_walk.walked(look, (Frame(matches[0].reference),))
        page.included, page.issues = walked.found, walked.issues
        if walked.frames:
            following = places.after(chosen).within(Inside(walked.frames, more=following is not None))
    key = installation.cursor_key
    page.next_cursor = None if following is None else sealed(following, key)
    page.previous_cursor = None if preceding is None else sealed(preceding, key)


async def _went_on(page: Page, running: _Search | Reading, installation: "Installation") -> bool:
    """Whether this is a page among the includes of one match; where none is left of them the matches go on."""
    cursor = running.cursor
    if cursor is None or cursor.inside is None:
        return False
    look = Look(running.connection, running.plan, running.lowering, running.bodies)
    walked = await include_walk.walked(look, cursor.inside.frames)
    page.included, page.issues = walked.found, walked.issues
    rest = cursor.within(Inside(walked.frames, cursor.inside.more) if walked.frames else None)
    if rest.inside is not None or cursor.inside.more:
        page.next_cursor = sealed(rest, installation.cursor_key)
    running.cursor = rest
    return bool(walked.found) or not cursor.inside.more


async def _found(running: _Search | Reading, chosen: Chosen) -> list[Found]:
    if running.lowering.of == "own":
        return found_of(chosen.rows, running.bodies)
    return await contained.found(running.connection, running.plan, running.lowering, chosen.rows, running.bodies)


async def refuse_retired(connection: "Connection", request: SearchRequest) -> None:
    """A parameter of this installation may be retired while we read, and its index with it: then nothing is said."""
    added = added_of(request) if request.known.adds else ()
    if added and not await declarations.still_served(connection, added):
        raise NotSupported("a search parameter of this search is no longer served", at="code")


def _cursor(plan: SearchPlan, installation: "Installation") -> Cursor:
    """The place the request's cursor says."""
    assert plan.request.cursor is not None, "looked at before"
    return opened(plan.request.cursor, installation.cursor_key, search_hash(plan))
