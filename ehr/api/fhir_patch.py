"""PATCH [type]/[id] and PATCH [type]?criteria.

In:      a JSON Patch by its own media type, a FHIRPath Patch as a Parameters resource
Source:  FHIR R4 http.html#patch; RFC 5789 (Accept-Patch), RFC 6902
"""

from ehr import limits
from ehr.api.answer import Answer
from ehr.api.exchange import Exchange, read_body
from ehr.api.fhir_type import criteria_of
from ehr.api.negotiation import PATCH_FORMATS, expected, refuse_conditions
from ehr.api.written import once, written_answer
from ehr.aside import aside, is_large
from ehr.errors import UnsupportedMedia
from ehr.fhir import codec
from ehr.fhir.patch import JSON_PATCH, Patch, fhirpath_patch, json_patch
from ehr.interactions.conditional import conditional_patch
from ehr.interactions.patch import patch as patch_one
from ehr.store import gate
from ehr.store.unit_of_work import UnitOfWork


async def patch(exchange: Exchange) -> Answer:
    """PATCH [type]/[id]: the next version, said as what changes."""
    exchange.only()
    type_name, id = exchange.type_name, exchange.path["id"]
    refuse_conditions(exchange.headers, "If-None-Exist", "If-None-Match")
    insists = expected(exchange.headers)
    body, change = await _sent(exchange)

    async def work(uow: UnitOfWork) -> Answer:
        return written_answer(exchange, await patch_one(uow, type_name, id, change, if_match=insists), 200)

    return await once(exchange, body, work)


async def patch_matching(exchange: Exchange) -> Answer:
    """PATCH [type]?criteria: of the one match."""
    type_name, criteria = exchange.type_name, criteria_of(exchange)
    refuse_conditions(exchange.headers, "If-None-Exist", "If-None-Match")
    insists = expected(exchange.headers)
    body, change = await _sent(exchange)

    async def work(uow: UnitOfWork) -> Answer:
        version = await conditional_patch(uow, type_name, criteria, change, if_match=insists)
        return written_answer(exchange, version, 200)

    return await once(exchange, body, work)


async def _sent(exchange: Exchange) -> tuple[bytes, Patch]:
    """The body, and the patch it is."""
    media = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == JSON_PATCH:
        body = await read_body(exchange.receive, exchange.headers, limits.resource_bytes_max)
        change = await aside(is_large(body), json_patch, body)
    elif "patch+" in media:
        raise UnsupportedMedia(f"a patch is {' or '.join(PATCH_FORMATS)}", at="Content-Type")
    else:
        body = await exchange.body(limits.resource_bytes_max)
        change = await aside(is_large(body), _fhirpath_patch, body)
    gate.refuse_conditional(change.content)
    return body, change


def _fhirpath_patch(body: bytes) -> Patch:
    return fhirpath_patch(codec.loads(body))
