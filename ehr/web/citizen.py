"""The citizen's page: one's own record, in plain words first, and who looked at it.

Routes   GET /citizen/enter?link=…   exchange a link of the identity app (or the demo) into a cookie
         GET /citizen                the page, Vietnamese or English
         GET /citizen/summary.json   the International Patient Summary to take along
Access   the cookie's citizen token; without one the page says how to get in
"""

from datetime import datetime, timedelta
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
from ehr.audit.access_log import Look, looks
from ehr.clock import day_of
from ehr.fhir.elements import text_of
from ehr.fhir.vietnam import INSURANCE_NUMBER, NATIONAL_ID
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from ehr.summary.gather import gather, sources_of_person
from ehr.summary.health_book import health_book, sender
from ehr.summary.ips import PersonRecord
from ehr.summary.refresh import summary_of
from ehr.summary.render import range_text, value_text
from ehr.summary.sections import RESULTS, Tree, sections, when
from ehr.web.pages import SECURITY_HEADERS, enter, language_of, page, signed_out
from ehr.web.phrases import Language, phrase

COOKIE: Final = "ehr_citizen"
LOOKS_SINCE: Final = timedelta(days=30)


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
        return page(
            request,
            "citizen.html",
            book=book,
            numbers=_numbers(book),
            results=_results(held, now),
            looks=_together([_look(look, language, caller.person_id) for look in seen]),
            places=len({look.facility or look.actor for look in seen if _opened(look)}),
        )

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


def _results(held: PersonRecord, now: datetime) -> list[dict[str, str]]:
    chosen = next((s.entries for s in sections(held.trees, day_of(now)) if s.code == RESULTS), ())
    return [
        {
            "name": text_of(t.get("code")),
            "value": value_text(t),
            "range": range_text(t),
            "reading": reading(t),
            "day": when(t),
            "sender": sender(held, t),
        }
        for t in chosen
    ]


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


def _opened(look: Look) -> bool:
    """Somebody else read it; what a facility or the city wrote is in the list, but nobody opened anything."""
    return look.actor_kind not in ("citizen", "system") and look.action in ("R", "S", "E") and not look.refused


def _look(look: Look, language: Language, person_id: str | None) -> dict[str, Any]:
    if look.actor_kind == "citizen":
        who = phrase("you" if look.actor == person_id or not look.refused else "another_citizen", language)
    elif look.facility:
        who = look.facility
    else:
        who = phrase("the_city", language) if look.actor_kind == "system" else look.actor
    told = {name: getattr(look, name) for name in ("day", "action", "purpose", "refused", "times")}
    return {**told, "who": who}


def _together(looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines that read the same, as those of two tasks of the city, are one."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for look in looks:
        same = (look["day"], look["who"], look["action"], look["purpose"], look["refused"])
        line = found.setdefault(same, {**look, "times": 0})
        line["times"] += look["times"]
    return list(found.values())
