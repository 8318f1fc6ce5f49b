"""$docref of DocumentReference and $document of Composition over HTTP.

Source:  International Patient Access, operation docref; FHIR R4 composition-operation-document.html
"""

from ehr.api import bundle_writer
from ehr.api.answer import Answer, json_answer, tree_answer
from ehr.api.exchange import Exchange
from ehr.api.links import page_links
from ehr.api.moments import page_count_of
from ehr.api.written import once
from ehr.errors import Malformed, NotSupported
from ehr.fhir import references
from ehr.fhir.operation_arguments import Arguments
from ehr.ids import FHIR_ID
from ehr.operations.docref import Wanted, docref
from ehr.operations.document import document, persisted
from ehr.store.unit_of_work import UnitOfWork

PAGE = "_page"


async def docref_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """DocumentReference/$docref: a searchset."""
    cursor = exchange.parameter(PAGE)
    wanted = Wanted(
        patient=arguments.one("patient"),
        start=arguments.one("start"),
        end=arguments.one("end"),
        type=arguments.one("type"),
        on_demand=arguments.one("on-demand") or False,
        count=page_count_of(arguments.one("_count")),
        cursor=cursor,
    )
    found = await docref(exchange.record, exchange.caller, wanted, base_url=exchange.base)
    body = bundle_writer.searchset(
        base=exchange.base,
        matches=found.stored,
        unstored=[found.on_demand] if found.on_demand else [],
        included=[],
        issues=[],
        total=None,
        links=page_links(
            exchange.address("$docref"),
            [*arguments.as_query(), *([(PAGE, cursor)] if cursor else []), *exchange.looks],
            cursor_name=PAGE,
            next_cursor=found.next_cursor,
            previous_cursor=None,
        ),
        now=exchange.record.clock.now(),
    )
    return json_answer(200, body)


async def document_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """Composition/[id]/$document, and Composition/$document?id=…: the document; with persist, as it is stored."""
    id = _composition(exchange, arguments)
    if not arguments.one("persist"):
        async with exchange.record.reading(exchange.caller) as uow:
            return tree_answer(await document(uow, id, base_url=exchange.base))
    if exchange.method != "POST":
        raise NotSupported("persist=true stores a Bundle: send it with POST", at="persist")

    async def work(uow: UnitOfWork) -> Answer:
        stored = await persisted(uow, await document(uow, id, base_url=exchange.base))
        assert stored.body is not None, "a create leaves a body"
        return json_answer(200, stored.body, (b"location", f"{exchange.base}/{stored.location}".encode()))

    return await once(exchange, id.encode(), work)


def _composition(exchange: Exchange, arguments: Arguments) -> str:
    named, id = arguments.one("id"), exchange.path.get("id")
    if id is not None:
        if named is not None:
            raise Malformed("the address names the composition already", at="id")
        return id
    if named is None:
        raise Malformed("the parameter id is missing", at="id")
    parsed = references.parse(named)
    if parsed.type == "Composition" and parsed.base in (None, exchange.base) and parsed.id:
        return parsed.id
    if not FHIR_ID.fullmatch(named):
        raise NotSupported("only a composition of this server can be made a document", at="id")
    return str(named)
