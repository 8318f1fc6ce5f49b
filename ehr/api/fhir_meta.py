"""$meta, $meta-add and $meta-delete over HTTP: Parameters with the resulting Meta.

Source:  FHIR R4 resource-operation-meta.html, operations.html#response (a return that is no resource is in Parameters)
"""

from collections.abc import Awaitable, Callable
from typing import Any

from ehr.api.answer import Answer, tree_answer
from ehr.api.exchange import Exchange
from ehr.api.fhir_instance import version_number
from ehr.api.negotiation import expected
from ehr.api.written import once
from ehr.fhir import codec
from ehr.fhir.operation_arguments import Arguments
from ehr.operations.meta import meta, meta_add, meta_delete, meta_in_use
from ehr.store.unit_of_work import UnitOfWork

Change = Callable[..., Awaitable[dict[str, Any]]]


async def meta_of(exchange: Exchange, _: Arguments) -> Answer:
    """$meta, [type]/$meta, [type]/[id]/$meta, and of one version: [type]/[id]/_history/[vid]/$meta."""
    if "id" not in exchange.path:
        type_name = exchange.type_name if "type" in exchange.path else None
        return _returned(await meta_in_use(exchange.record, exchange.caller, type_name))
    version = version_number(exchange) if "version" in exchange.path else None
    return _returned(await meta(exchange.record, exchange.caller, exchange.type_name, exchange.path["id"], version))


async def add(exchange: Exchange, arguments: Arguments) -> Answer:
    """[type]/[id]/$meta-add."""
    return await _change(exchange, arguments, meta_add)


async def delete(exchange: Exchange, arguments: Arguments) -> Answer:
    """[type]/[id]/$meta-delete."""
    return await _change(exchange, arguments, meta_delete)


async def _change(exchange: Exchange, arguments: Arguments, change: Change) -> Answer:
    type_name, id, given = exchange.type_name, exchange.path["id"], arguments.one("meta")
    insists = expected(exchange.headers)

    async def work(uow: UnitOfWork) -> Answer:
        return _returned(await change(uow, type_name, id, given, if_match=insists))

    return await once(exchange, codec.dumps(given), work)


def _returned(found: dict[str, Any]) -> Answer:
    return tree_answer({"resourceType": "Parameters", "parameter": [{"name": "return", "valueMeta": found}]})
