"""Interactions on the whole system: capabilities, transaction, batch.

In:      POST [base] with a Bundle; a facility's client goes through the intake ledger, where its bytes are kept
         before anything is done with them, and where the same Bundle sent again gets the same answer
Source:  FHIR R4 http.html#capabilities, #transaction
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from ehr import limits
from ehr.access.policy import Caller
from ehr.api.answer import Answer, json_answer, tree_answer
from ehr.api.at_home import bundle_at_home
from ehr.api.bundle_entry import EntryDoor, Find
from ehr.api.capability import capability_statement
from ehr.api.exchange import Exchange, Handler
from ehr.api.part import PART, part_of
from ehr.api.provenance import refuse_provenance
from ehr.api.terminology_capability import terminology_capabilities
from ehr.api.written import once
from ehr.aside import aside, is_large
from ehr.errors import NotSupported
from ehr.fhir import codec
from ehr.interactions.batch import batch
from ehr.interactions.transaction import transaction
from ehr.store import bundles, gate
from ehr.store.bundles import Prefer
from ehr.store.unit_of_work import UnitOfWork
from terminology.codesystem import loaded

FacilityBundleDoor = Callable[[bytes, Caller, Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""Body, caller and headers of a facility's transaction → status and body of the answer."""


class _Kind(msgspec.Struct):
    type: str | None = None


_KIND: Final = msgspec.json.Decoder(_Kind)


async def capabilities(exchange: Exchange) -> Answer:
    """GET metadata: what is registered at this base, what of it is normative, or what is known of terminology."""
    exchange.only("mode", *PART)
    match exchange.parameter("mode"):
        case None | "full":
            statement = await _statement(exchange, normative=False)
        case "normative":
            statement = await _statement(exchange, normative=True)
        case "terminology":
            async with exchange.record.database.acquire() as connection:
                statement = terminology_capabilities(exchange.base, await loaded(connection))
        case _:
            raise NotSupported("mode is full, normative or terminology", at="mode")
    part, body = part_of(exchange, statement["resourceType"]), codec.dumps(statement)
    shown = body if part is None else part.of(statement["resourceType"], body)
    return json_answer(200, shown, (b"cache-control", b"max-age=300"), (b"vary", b"accept"))


async def _statement(exchange: Exchange, *, normative: bool) -> dict[str, Any]:
    """With the search parameters that any process of the city has added."""
    await exchange.record.learn_parameters()
    cors = bool(exchange.record.settings.cors_origins)
    return capability_statement(exchange.base, exchange.record.parameters, normative=normative, cors=cors)


def bundle_door(facility_bundle: FacilityBundleDoor | None, find: Find) -> Handler:
    """POST [base]; find: the handlers of what entries ask for."""

    async def process(exchange: Exchange) -> Answer:
        exchange.only()
        refuse_provenance(exchange.headers)
        body = await exchange.body(limits.bundle_bytes_max)
        if exchange.caller.facility_id and facility_bundle and not await aside(is_large(body), _is_batch, body):
            status, answered = await facility_bundle(body, exchange.caller, exchange.headers)
            return json_answer(status, answered)
        bundle = await aside(is_large(body), _accepted, body, exchange.base)
        if bundle["type"] == "batch":
            return await _batch(exchange, bundle, find)
        return await _transaction(exchange, body, bundle, find)

    return process


async def _transaction(exchange: Exchange, body: bytes, bundle: dict[str, Any], find: Find) -> Answer:
    entries = await aside(is_large(body), bundles.checked, bundle)

    async def work(uow: UnitOfWork) -> Answer:
        done = await transaction(uow, bundle, entries, prefer=_prefer(exchange), get=EntryDoor(exchange, find).get)
        return tree_answer(done)

    return await once(exchange, body, work)


async def _batch(exchange: Exchange, bundle: dict[str, Any], find: Find) -> Answer:
    if "idempotency-key" in exchange.headers:
        raise NotSupported("a batch is many transactions; give the key to each request", at="Idempotency-Key")
    door = EntryDoor(exchange, find)
    done = await batch(
        exchange.record, exchange.caller, bundle, serve=door.serve, denied=door.denied, prefer=_prefer(exchange)
    )
    return tree_answer(done)


def _prefer(exchange: Exchange) -> Prefer:
    """Bundles answer with the resources only where the client asks (http.html#transaction-response)."""
    return exchange.preferences.returns if "return" in exchange.headers.get("prefer", "") else "minimal"


def _accepted(body: bytes, base: str) -> dict[str, Any]:
    return gate.accept_bundle(bundle_at_home(body, base))


def _is_batch(body: bytes) -> bool:
    """Bundle.type without reading the entries; what cannot be read is a transaction, so that the ledger keeps it."""
    try:
        return _KIND.decode(body).type == "batch"
    except msgspec.DecodeError:
        return False
