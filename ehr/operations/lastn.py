"""$lastn: the most recent observations of each code.

In:      search parameters of Observation, among them whose and which; how many of each code
Out:     Found, the most recent first; where two are as recent as the last one of its code, both
Groups:  observations with a coding in common are of one code, and so are those that a third one joins
Limits:  limits.lastn_observations_max are looked through; TooMuch beyond
Errors:  NotSupported without patient or subject, without category or a code, and for parameters that shape a page
Source:  FHIR R4 observation-operation-lastn.html
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.errors import NotSupported, TooMuch
from ehr.fhir import codec
from ehr.index.ranges import date_range, period_range
from ehr.search.found import Found
from ehr.search.parse import CURSOR, parse
from ehr.search.run import run
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

_WHOSE: Final = ("patient", "subject")
_WHICH: Final = ("category", "code", "combo-code", "component-code")
_OF_PAGES: Final = frozenset(
    {"_count", "_sort", "_total", "_include", "_revinclude", "_contained", "_type", "_summary", "_elements", CURSOR}
)
_NEVER: Final = -(2**63)


async def lastn(record: Record, caller: Caller, query: Sequence[tuple[str, str]], each: int) -> list[Found]:
    """At most `each` of every code, and those that are as recent as the last of them."""
    _refuse_vague(query)
    async with record.reading(caller) as uow:
        found = await _matches(uow, query)
    moments = {one.id: _moment(tree) for one, tree in found}
    chosen: list[Found] = []
    for group in _groups(found):
        group.sort(key=lambda one: moments[one.id], reverse=True)
        last = moments[group[min(each, len(group)) - 1].id]
        chosen += [one for one in group if moments[one.id] >= last]
    return sorted(chosen, key=lambda one: moments[one.id], reverse=True)


def _refuse_vague(query: Sequence[tuple[str, str]]) -> None:
    names = [name.partition(":")[0].partition(".")[0] for name, _ in query]
    for name in names:
        if name in _OF_PAGES:
            raise NotSupported(f"$lastn has no {name}", at=name)
    if not any(name in _WHOSE for name in names):
        raise NotSupported("$lastn needs whose observations are meant: patient or subject", at="patient")
    if not any(name in _WHICH or name.startswith(("code-value", "combo-code-value")) for name in names):
        raise NotSupported("$lastn needs which observations are meant: category or code", at="code")


async def _matches(uow: UnitOfWork, query: Sequence[tuple[str, str]]) -> list[tuple[Found, dict[str, Any]]]:
    """Every observation that matches, as a search finds them."""
    asked = [*query, ("_count", str(limits.page_count_max))]
    found: list[tuple[Found, dict[str, Any]]] = []
    cursor: str | None = None
    while True:
        page = await run(uow, parse("Observation", [*asked, *([(CURSOR, cursor)] if cursor else [])]))
        found += [(one, codec.loads(one.body)) for one in page.matches]
        cursor = page.next_cursor
        if cursor is None:
            return found
        if len(found) >= limits.lastn_observations_max:
            raise TooMuch(
                f"over {limits.lastn_observations_max} observations match; name a code or a date", at="Observation"
            )


def _groups(found: Sequence[tuple[Found, dict[str, Any]]]) -> Iterable[list[Found]]:
    """Observations of one code together: a code joins all that name it."""
    leader: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while (above := leader.setdefault(key, key)) != key:
            leader[key] = leader[above]
            key = above
        return key

    keys = [_codes(one.id, tree.get("code", {})) for one, tree in found]
    for codes in keys:
        for code in codes[1:]:
            leader[root(code)] = root(codes[0])
    together: dict[Hashable, list[Found]] = defaultdict(list)
    for (one, _), codes in zip(found, keys, strict=True):
        together[root(codes[0])].append(one)
    return together.values()


def _codes(id: str, concept: Mapping[str, Any]) -> list[Hashable]:
    """The codings of a concept; else its text; else the observation itself is all that is like it."""
    codings: list[Hashable] = [(one.get("system"), one["code"]) for one in concept.get("coding", ()) if "code" in one]
    return codings or ([concept["text"]] if "text" in concept else [("", id)])


def _moment(tree: Mapping[str, Any]) -> int:
    """The latest microsecond the observation may be of; before all others where it says none."""
    text = tree.get("effectiveDateTime") or tree.get("effectiveInstant")
    period = tree.get("effectivePeriod", {})
    events = tree.get("effectiveTiming", {}).get("event", ())
    ranges = [date_range(one) for one in (*events, *([text] if text else []))]
    ranges.append(period_range(period.get("start"), period.get("end") or period.get("start")))
    return max((one[1] for one in ranges if one is not None), default=_NEVER)
