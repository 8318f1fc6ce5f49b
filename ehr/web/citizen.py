"""The citizen's page: one's own record, in plain words first, and who looked at it.

Routes   GET /citizen/enter?link=…   exchange a link of the identity app (or the demo) into a cookie
         GET /citizen                the page, Vietnamese or English
         GET /citizen/looks?before=  everybody who looked, from a day backwards
         GET /citizen/summary.json   the International Patient Summary to take along
Access   the cookie's citizen token; without one the page says how to get in
"""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ehr import limits
from ehr.access.authenticate import Authenticator, citizen_token, link_claims
from ehr.access.policy import Caller
from ehr.access.spent import may_enter
from ehr.access.token import NotAccepted
from ehr.audit.access_log import Look, looks, midnight, newest_day
from ehr.clock import day_of
from ehr.fhir.elements import text_of
from ehr.fhir.vietnam import INSURANCE_NUMBER, NATIONAL_ID
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from ehr.summary.gather import gather, sources_of_person
from ehr.summary.health_book import health_book, sender
from ehr.summary.ips import PersonRecord
from ehr.summary.refresh import summary_of
from ehr.summary.render import code_text, range_text, value_text
from ehr.summary.sections import RESULTS, Tree, sections, when
from ehr.web.looked import lines, opened, page_of
from ehr.web.pages import SECURITY_HEADERS, enter, language_of, page, signed_out

COOKIE: Final = "ehr_citizen"
LOOKS_SINCE: Final = timedelta(days=30)
LOOKS_SHOWN: Final = 20
VISITS_SHOWN: Final = 20
TESTS_SHOWN: Final = 30
"""Of the first page, so that it stays below 100 kB: looks, visits, and tests of one visit; the rest has links, or is
counted where the whole is in the summary."""


class CitizenPages:
    """Handlers of the citizen's routes."""

    def __init__(self, record: Record, authenticator: Authenticator, base_url: str) -> None:
        self._record = record
        self._authenticator = authenticator
        self._base_url = base_url

    def routes(self) -> list[Route]:
        return [
            Route("/citizen", self.home),
            Route("/citizen/enter", self.enter),
            Route("/citizen/looks", self.looks),
            Route("/citizen/summary.json", self.summary),
        ]

    def _caller(self, request: Request) -> Caller | None:
        token = request.cookies.get(COOKIE)
        if token is None:
            return None
        try:
            caller = self._authenticator.of_token(token)
        except NotAccepted:
            return None
        return caller if caller.kind == "citizen" else None

    async def enter(self, request: Request) -> Response:
        """A link works once where it says so; an unknown or spent one ends at the same page as none."""
        tokens = self._authenticator.tokens
        try:
            claims = link_claims(tokens, request.query_params.get("link", ""))
        except NotAccepted:
            return signed_out(request)
        async with self._record.database.acquire() as connection:
            if not await may_enter(connection, claims):
                return signed_out(request)
        assert claims.person_id is not None, "a citizen link names its person"
        return enter(
            citizen_token(tokens, claims.person_id),
            cookie=COOKIE,
            path="/citizen",
            life_s=limits.citizen_token_life_s,
            secure=self._base_url.startswith("https:"),
        )

    async def home(self, request: Request) -> Response:
        caller = self._caller(request)
        if caller is None:
            return signed_out(request)
        language = language_of(request)

        async def read(uow: UnitOfWork) -> tuple[PersonRecord, list[Look]]:
            sources = await sources_of_person(uow, str(caller.person_id))
            seen = await looks(
                uow.connection, shards=sources.shards, person_id=sources.person_id, since=uow.now - LOOKS_SINCE
            )
            held = await gather(uow, sources)
            await uow.audit.execute("citizen-page", person_id=sources.person_id, detail={})
            return held, seen

        held, seen = await self._record.run(caller, read)
        now = self._record.clock.now()
        book = health_book(held, now=now)
        first = _number(request.query_params.get("visits", ""))
        visits = book["dotKham"]
        results, older = _results(held, now)
        return page(
            request,
            "citizen.html",
            book=book,
            numbers=_numbers(book),
            results=results,
            older_results=older,
            visits=visits[first : first + VISITS_SHOWN],
            older_visits=first + VISITS_SHOWN if first + VISITS_SHOWN < len(visits) else None,
            tests_shown=TESTS_SHOWN,
            looks=lines(seen, language, caller.person_id)[:LOOKS_SHOWN],
            places=len({look.facility or look.actor for look in seen if opened(look)}),
        )

    async def looks(self, request: Request) -> Response:
        """Thirty days and a page at a time, back to the first; days on which nobody looked are passed over."""
        caller = self._caller(request)
        if caller is None:
            return signed_out(request)
        asked = _day(request.query_params.get("before", ""))

        async def read(uow: UnitOfWork) -> tuple[list[Look], date | None]:
            sources = await sources_of_person(uow, str(caller.person_id))
            whose: Any = {"shards": sources.shards, "person_id": sources.person_id}
            before = midnight(asked) if asked else uow.now + timedelta(days=1)
            newest = await newest_day(uow.connection, **whose, before=before)
            await uow.audit.execute("citizen-looks", person_id=sources.person_id, detail={})
            if newest is None:
                return [], None
            since = midnight(newest) - LOOKS_SINCE
            seen = await looks(uow.connection, **whose, since=since, before=before)
            earlier = await newest_day(uow.connection, **whose, before=since)
            return seen, earlier + timedelta(days=1) if earlier else None

        seen, next_before = await self._record.run(caller, read)
        shown, cut = page_of(lines(seen, language_of(request), caller.person_id))
        return page(request, "citizen_looks.html", looks=shown, before=asked, older=cut or next_before)

    async def summary(self, request: Request) -> Response:
        caller = self._caller(request)
        if caller is None:
            return signed_out(request)

        async def read(uow: UnitOfWork) -> bytes:
            sources = await sources_of_person(uow, str(caller.person_id))
            await uow.audit.execute("summary", person_id=sources.person_id, detail={})
            return (await summary_of(uow, sources, base_url=self._base_url)).body

        body = await self._record.run(caller, read)
        return Response(body, media_type="application/fhir+json", headers=dict(SECURITY_HEADERS))


def _numbers(book: dict[str, Any]) -> list[tuple[str, str]]:
    """The person's national number and card, each once."""
    phrases = {NATIONAL_ID: "national_id", INSURANCE_NUMBER: "card"}
    found = {i["heThong"]: i["so"] for i in book["hanhChinh"]["dinhDanh"]}
    return [(phrases[system], value) for system, value in found.items() if system in phrases]


def _results(held: PersonRecord, now: datetime) -> tuple[list[dict[str, str]], int]:
    """The newest of each test, and how many others the section has no room for."""
    section = next((s for s in sections(held.trees, day_of(now)) if s.code == RESULTS), None)
    if section is None:
        return [], 0
    told = [
        {
            "name": text_of(t.get("code")),
            "value": value_text(t),
            "range": range_text(t),
            "reading": flagged(t) or reading(t),
            "status": t["status"] if t["status"] != "final" else "",
            "day": when(t),
            "sender": sender(held, t),
        }
        for t in section.entries
    ]
    return told, section.omitted


_FLAGS: Final = {
    **dict.fromkeys(("H", "HH", "HU", "HX"), "above"),
    **dict.fromkeys(("L", "LL", "LU", "LX"), "below"),
    **dict.fromkeys(("A", "AA"), "abnormal"),
    **dict.fromkeys(("POS", "DET"), "positive"),
    **dict.fromkeys(("NEG", "ND"), "negative"),
    "N": "within",
}
"""v3-ObservationInterpretation: what the laboratory itself says, who knows whom it measured."""


def flagged(observation: Tree) -> str:
    """The laboratory's own reading; '' where it gives none, or several."""
    told = {_FLAGS.get(code_text(c), "") for c in observation.get("interpretation", ())}
    return told.pop() if len(told) == 1 else ""


def reading(observation: Tree) -> str:
    """Where a value lies: 'above', 'below', 'within' its reference range, or '' where nobody can say.

    Nobody can say where several ranges, as of men and women, read differently, or where units do.
    """
    quantity = observation.get("valueQuantity") or {}
    if not isinstance(quantity.get("value"), Decimal | int):
        return ""
    read = {
        _against(quantity, one.get("low") or {}, one.get("high") or {})
        for one in observation.get("referenceRange", ())
        if "low" in one or "high" in one
    }
    return read.pop() if len(read) == 1 else ""


def _against(quantity: Tree, low: Tree, high: Tree) -> str:
    """One range. "<5" is below a range from 5 up, and lies nowhere in one from 3 to 8."""
    value, comparator = quantity["value"], quantity.get("comparator", "")
    least, most = low.get("value"), high.get("value")
    if any(_unit(bound) and _unit(bound) != _unit(quantity) for bound in (low, high)) or least is most is None:
        return ""
    at_least = None if comparator.startswith("<") else value
    at_most = None if comparator.startswith(">") else value
    if most is not None and at_least is not None and (at_least > most or (comparator == ">" and at_least == most)):
        return "above"
    if least is not None and at_most is not None and (at_most < least or (comparator == "<" and at_most == least)):
        return "below"
    from_below = least is None or (at_least is not None and at_least >= least)
    from_above = most is None or (at_most is not None and at_most <= most)
    return "within" if from_below and from_above else ""


def _unit(quantity: Tree) -> str:
    return str(quantity.get("code") or quantity.get("unit") or "")


def _number(text: str) -> int:
    """How many visits to pass over; none for what is no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def _day(text: str) -> date | None:
    """A day of the address; None for what is none, or none that a calendar goes back from."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 1900 <= day.year < 9999 else None
