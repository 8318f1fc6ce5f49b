"""Search: of a type, of the system, of a compartment; by GET and by POST _search.

Keeps:   the same answer for both methods: a POST's parameters are those of its address and of its form
Source:  FHIR R4 search.html, http.html#search, compartmentdefinition.html
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ehr.api import bundle_writer
from ehr.api.answer import Answer, json_answer
from ehr.api.exchange import Exchange, known_type, parsed_query
from ehr.api.links import address, page_links
from ehr.errors import NotFound, NotSupported
from ehr.fhir import codec
from ehr.ids import FHIR_ID
from ehr.interactions.search import Compartment, Searched, search, search_within
from ehr.limits import bundle_bytes_max
from ehr.search.parse import CURSOR, parse
from ehr.store.bundles import Getter
from ehr.store.unit_of_work import UnitOfWork

COMPARTMENTS: Final = frozenset({"Patient", "Person", "Encounter", "Practitioner", "RelatedPerson", "Device"})


async def search_type(exchange: Exchange) -> Answer:
    """GET [type]?…"""
    return await _answer(exchange, exchange.type_name, exchange.query, None)


async def search_type_form(exchange: Exchange) -> Answer:
    """POST [type]/_search."""
    return await _answer(exchange, exchange.type_name, [*exchange.query, *await exchange.form()], None)


async def search_system(exchange: Exchange) -> Answer:
    """GET [base]?_type=…"""
    return await _answer(exchange, None, exchange.query, None)


async def search_system_form(exchange: Exchange) -> Answer:
    """POST [base]/_search."""
    return await _answer(exchange, None, [*exchange.query, *await exchange.form()], None)


async def search_compartment(exchange: Exchange) -> Answer:
    """GET [compartment]/[id]/[type]?…"""
    return await _answer(exchange, exchange.type_name, exchange.query, _compartment(exchange))


async def search_compartment_form(exchange: Exchange) -> Answer:
    """POST [compartment]/[id]/[type]/_search."""
    query = [*exchange.query, *await exchange.form()]
    return await _answer(exchange, exchange.type_name, query, _compartment(exchange))


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
    found = await search(exchange.record, exchange.caller, type_name, query, compartment=compartment, strict=strict)
    place = [part for part in (*(compartment or ()), type_name) if part]
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
            found.request.served,
            cursor_name=CURSOR,
            next_cursor=page.next_cursor,
            previous_cursor=page.previous_cursor,
        ),
        now=exchange.record.clock.now(),
    )


def getter_of(exchange: Exchange) -> Getter:
    """Answers a search that is a GET entry of a Bundle: its url → a searchset."""

    async def get(uow: UnitOfWork, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        names = [part for part in parts.path.removeprefix(exchange.base).split("/") if part]
        if len(names) not in (1, 3) or (len(names) == 3 and names[0] not in COMPARTMENTS):
            raise NotSupported("a GET inside a Bundle is a read or a search")
        type_name = known_type(names[-1])
        query = parsed_query(parts.query.encode())
        compartment = (names[0], names[1]) if len(names) == 3 else None
        strict = not exchange.preferences.lenient
        found = await search_within(uow, parse(type_name, query, strict=strict, compartment=compartment))
        body = _bundle(exchange, address("/".join([exchange.base, *names]), []), found)
        return codec.loads(body, bytes_max=bundle_bytes_max)

    return get
