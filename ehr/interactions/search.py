"""search: parameters → one page of what the caller may see, with its audit rows.

In:      a type (or none: the whole system), parameters, a compartment where the address names one
Out:     Searched: the request as understood, and the page
Errors:  NotSupported and Invalid naming the parameter; Forbidden for a type the token does not grant
Source:  FHIR R4 search.html, http.html#search
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ehr.access.policy import Caller
from ehr.errors import Issue, NotSupported
from ehr.fhir.subset import Subset, subset_of
from ehr.search import parse
from ehr.search.page import Page
from ehr.search.plan import plan
from ehr.search.run import run
from ehr.search.settled import settled
from ehr.search.terms import SearchRequest
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

Compartment = tuple[str, str]


@dataclass(slots=True)
class Searched:
    """request says what was understood; page what was found."""

    request: SearchRequest
    page: Page

    @property
    def issues(self) -> list[Issue]:
        """What the caller should know: ignored parameters, and what the page left out."""
        return [*self.request.ignored, *self.page.issues]


async def search(
    record: Record,
    caller: Caller,
    type_name: str | None,
    query: Sequence[tuple[str, str]],
    *,
    compartment: Compartment | None = None,
    strict: bool = True,
    base: str | None = None,
) -> Searched:
    """One page; parsed before a connection is taken; its audit rows are committed before anything is answered."""
    request = await understood(record, type_name, query, compartment=compartment, strict=strict, base=base)
    part = part_of(request)  # refused before a connection is taken
    async with reading(record, caller, request) as uow:
        page = await run(uow, request)
    return Searched(request, page if part is None else _shown(page, part))


def reading(record: Record, caller: Caller, request: SearchRequest) -> AbstractAsyncContextManager[UnitOfWork]:
    """Where the search runs: on a connection that plans statements once, if this search is always found in one way."""
    once = settled(plan(request, caller.access), record.hasher)
    return record.reading(caller, plans="once" if once else "values")


async def understood(
    record: Record,
    type_name: str | None,
    query: Sequence[tuple[str, str]],
    *,
    compartment: Compartment | None = None,
    strict: bool = True,
    base: str | None = None,
) -> SearchRequest:
    """What the query asks. Before a parameter is refused or ignored, the added ones are read anew: one of them may be
    served since this process looked."""

    def read() -> SearchRequest:
        return parse.understood(
            type_name, query, strict=strict, compartment=compartment, known=record.parameters, base=base
        )

    try:
        request = read()
    except NotSupported:
        if not await record.learn_parameters():
            raise
        return read()
    return read() if request.ignored and await record.learn_parameters() else request


def _shown(page: Page, part: Subset) -> Page:
    """The page with the part of each resource that is wanted."""
    page.matches = [found.with_body(part.of(found.type_name, found.body)) for found in page.matches]
    page.included = [found.with_body(part.of(found.type_name, found.body, included=True)) for found in page.included]
    return page


def part_of(request: SearchRequest) -> Subset | None:
    """What part of each resource is wanted."""
    if request.summary == "text" and request.includes:
        raise NotSupported("_summary=text is not given together with _include or _revinclude", at="_summary")
    return subset_of(request.types, request.summary, request.elements)
