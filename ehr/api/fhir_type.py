"""Interactions on a type: create, conditional create, conditional update, conditional delete.

Source:  FHIR R4 http.html
"""

from urllib.parse import urlencode

from ehr.api.answer import Answer
from ehr.api.exchange import Exchange
from ehr.api.negotiation import expected, only_new, refuse_conditions
from ehr.api.written import deleted_answer, once, written_answer
from ehr.aside import aside, is_large
from ehr.errors import NotSupported, PreconditionFailed
from ehr.fhir import parameters
from ehr.interactions.conditional import conditional_create, conditional_delete, conditional_update
from ehr.interactions.create import create as create_one
from ehr.store import gate
from ehr.store.unit_of_work import UnitOfWork


async def create(exchange: Exchange) -> Answer:
    """POST [type], with If-None-Exist where the client names criteria."""
    _refuse_criteria(exchange)
    exchange.only()
    type_name = exchange.type_name
    refuse_conditions(exchange.headers, "If-Match", "If-None-Match")
    body = await exchange.resource()
    tree = await aside(is_large(body), gate.accept, type_name, body)
    condition = exchange.headers.get("if-none-exist")

    async def work(uow: UnitOfWork) -> Answer:
        if condition is None:
            return written_answer(exchange, await create_one(uow, type_name, body, tree), 201)
        version, created = await conditional_create(uow, type_name, condition, body, tree)
        return written_answer(exchange, version, 201 if created else 200)

    return await once(exchange, body, work)


def _refuse_criteria(exchange: Exchange) -> None:
    """Some clients name them in the address, and would get a second resource where they are passed over."""
    known = parameters.of(exchange.type_name)
    for name, _ in exchange.query:
        if name.partition(":")[0].partition(".")[0] in known:
            raise NotSupported("criteria of a create are named by the header If-None-Exist", at=name)


async def update(exchange: Exchange) -> Answer:
    """PUT [type]?criteria."""
    type_name, criteria = exchange.type_name, criteria_of(exchange)
    refuse_conditions(exchange.headers, "If-None-Exist")
    insists, first = expected(exchange.headers), only_new(exchange.headers)
    body = await exchange.resource()
    tree = await aside(is_large(body), gate.accept, type_name, body)

    async def work(uow: UnitOfWork) -> Answer:
        version, created = await conditional_update(
            uow, type_name, criteria, body, tree, if_match=insists, if_none=first
        )
        return written_answer(exchange, version, 201 if created else 200)

    return await once(exchange, body, work)


async def delete(exchange: Exchange) -> Answer:
    """DELETE [type]?criteria: one match or none; many are refused."""
    type_name, criteria = exchange.type_name, criteria_of(exchange)
    refuse_conditions(exchange.headers, "If-None-Exist", "If-None-Match")
    insists = expected(exchange.headers)

    async def work(uow: UnitOfWork) -> Answer:
        return deleted_answer(exchange, await conditional_delete(uow, type_name, criteria, if_match=insists))

    return await once(exchange, b"", work)


def criteria_of(exchange: Exchange) -> str:
    """The query as criteria; without any, the request would mean every resource of the type."""
    if not exchange.query:
        name = exchange.type_name
        raise PreconditionFailed(
            f"name the one that is meant: {name}/[id], or criteria as {name}?identifier=…", at=name
        )
    return urlencode(exchange.query)
