"""Search: of a type, of the system, of a compartment; by GET and by POST _search.

Keeps:   the same answer for both methods: a POST's parameters are those of its address and of its form
Source:  FHIR R4 search.html, http.html#search, compartmentdefinition.html
"""

from collections.abc import Awaitable, Sequence
from typing import Final

from ehr.api import bundle_writer
from ehr.api.answer import Answer, json_answer
from ehr.api.exchange import Exchange
from ehr.api.links import page_links
from ehr.errors import NotFound
from ehr.ids import FHIR_ID
from ehr.interactions.search import Compartment, Searched, search
from ehr.search.parse import CURSOR

COMPARTMENTS: Final = frozenset({"Patient", "Person", "Encounter", "Practitioner", "RelatedPerson", "Device"})


def search_type(exchange: Exchange) -> Awaitable[Answer]:
    """GET [type]?…"""
    return _answer(exchange, exchange.type_name, exchange.query, None)


async def search_type_form(exchange: Exchange) -> Answer:
    """POST [type]/_search."""
    return await _answer(exchange, exchange.type_name, [*exchange.query, *await exchange.form()], None)


def search_system(exchange: Exchange) -> Awaitable[Answer]:
    """GET [base]?_type=…"""
    return _answer(exchange, None, exchange.query, None)


async def search_system_form(exchange: Exchange) -> Answer:
    """POST [base]/_search."""
    return await _answer(exchange, None, [*exchange.query, *await exchange.form()], None)


def search_compartment(exchange: Exchange) -> Awaitable[Answer]:
    """GET [compartment]/[id]/[type]?… and, of all types, [compartment]/[id]/*?…"""
    return _answer(exchange, _type(exchange), exchange.query, _compartment(exchange))


async def search_compartment_form(exchange: Exchange) -> Answer:
    """POST [compartment]/[id]/[type]/_search, and /*/_search."""
    query = [*exchange.query, *await exchange.form()]
    return await _answer(exchange, _type(exchange), query, _compartment(exchange))


def _type(exchange: Exchange) -> str | None:
    return exchange.type_name if "type" in exchange.path else None


def _compartment(exchange: Exchange) -> Compartment:
    name, id = exchange.path["compartment"], exchange.path["id"]
    if name not in COMPARTMENTS or not FHIR_ID.fullmatch(id):
        raise NotFound("there is no such compartment")
    return name, id


async def _answer(
    exchange: Exchange,
    type_name: str | None,
    query: Sequence[tuple[str, str]],
    compartment: Compartment | None,
) -> Answer:
    strict = not exchange.preferences.lenient
    found = await search(
        exchange.record, exchange.caller, type_name, query, compartment=compartment, strict=strict, base=exchange.base
    )
    place = [*(compartment or ()), *([type_name or "*"] if type_name or compartment else [])]
    return json_answer(200, _bundle(exchange, "/".join([exchange.base, *place]), found))


def _bundle(exchange: Exchange, path: str, found: Searched) -> bytes:
    page = found.page
    return bundle_writer.searchset(
        base=exchange.base,
        matches=page.matches,
        included=page.included,
        issues=found.issues,
        total=page.total,
        links=page_links(
            path,
            [*found.request.served, *exchange.looks],
            cursor_name=CURSOR,
            next_cursor=page.next_cursor,
            previous_cursor=page.previous_cursor,
        ),
        now=exchange.record.clock.now(),
    )
