"""Interactions on one resource: read, vread, update, delete, history.

Source:  FHIR R4 http.html
"""

import re
from typing import Final

from ehr.api import bundle_writer
from ehr.api.answer import Answer, json_answer, validators
from ehr.api.exchange import Exchange
from ehr.api.links import history_links
from ehr.api.moments import at_of, count_of, since_of
from ehr.api.negotiation import expected, not_modified, only_new, refuse_conditions
from ehr.api.part import PART, part_of, shown_part
from ehr.api.written import deleted_answer, once, written_answer
from ehr.aside import aside, is_large
from ehr.errors import Malformed, NotFound
from ehr.fhir.subset import Subset
from ehr.ids import FHIR_ID
from ehr.interactions.delete import delete as delete_one
from ehr.interactions.history import history as history_of
from ehr.interactions.read import read as read_one
from ehr.interactions.update import accepted
from ehr.interactions.update import update as update_one
from ehr.interactions.vread import vread as vread_one
from ehr.store.preconditions import refuse_unmet
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version

_VERSION: Final = re.compile("[1-9][0-9]{0,8}", re.ASCII)


async def read(exchange: Exchange) -> Answer:
    """GET [type]/[id], conditional with If-Match, If-None-Match and If-Modified-Since."""
    part = _part(exchange) if exchange.query else None
    version = await read_one(exchange.record, exchange.caller, exchange.type_name, exchange.path["id"])
    return version_answer(version, part) if is_wanted(exchange, version) else Answer(304, b"", validators(version))


async def vread(exchange: Exchange) -> Answer:
    """GET [type]/[id]/_history/[vid], conditional likewise."""
    part = _part(exchange) if exchange.query else None
    version = await vread_one(
        exchange.record, exchange.caller, exchange.type_name, exchange.path["id"], version_number(exchange)
    )
    return version_answer(version, part) if is_wanted(exchange, version) else Answer(304, b"", validators(version))


def is_wanted(exchange: Exchange, version: Version) -> bool:
    """False where the client has it; PreconditionFailed where it insists on another (RFC 9110 13.2.2)."""
    headers = exchange.headers
    insists = expected(headers)
    if insists is not None:
        refuse_unmet(version.type_name, version.version, insists, only_new=False, at=None)
    since = headers.get("if-modified-since")
    return not not_modified(headers.get("if-none-match"), since, version.version, version.updated)


def version_number(exchange: Exchange) -> int:
    """The version that the address names."""
    number = exchange.path["version"]
    if not _VERSION.fullmatch(number):
        raise NotFound("there is no such version")
    return int(number)


def _part(exchange: Exchange) -> Subset | None:
    exchange.only(*PART)
    return part_of(exchange, exchange.type_name)


def version_answer(version: Version, part: Subset | None) -> Answer:
    """The version, or the part of it that is wanted."""
    body = shown_part(version, part).body
    assert body is not None, "reads refuse what is deleted"
    return json_answer(200, body, *validators(version))


async def update(exchange: Exchange) -> Answer:
    """PUT [type]/[id]: the next version, or the first one under the client's id; If-None-Match: * is the first only."""
    exchange.only()
    type_name, id = exchange.type_name, exchange.path["id"]
    refuse_conditions(exchange.headers, "If-None-Exist")
    insists, first = expected(exchange.headers), only_new(exchange.headers)
    body = await exchange.resource()
    tree = await aside(is_large(body), accepted, type_name, id, body)

    async def work(uow: UnitOfWork) -> Answer:
        version, created = await update_one(uow, type_name, id, body, tree, if_match=insists, if_none=first)
        return written_answer(exchange, version, 201 if created else 200)

    return await once(exchange, body, work)


async def delete(exchange: Exchange) -> Answer:
    """DELETE [type]/[id]."""
    exchange.only()
    type_name, id = exchange.type_name, exchange.path["id"]
    refuse_conditions(exchange.headers, "If-None-Exist", "If-None-Match")
    insists = expected(exchange.headers)

    async def work(uow: UnitOfWork) -> Answer:
        return deleted_answer(exchange, await delete_one(uow, type_name, id, if_match=insists))

    return await once(exchange, b"", work)


async def history(exchange: Exchange) -> Answer:
    """GET [type]/[id]/_history, [type]/_history and _history."""
    exchange.only("_count", "_since", "_at", "_page", *PART)
    type_name = exchange.type_name if "type" in exchange.path else None
    only_total = "id" in exchange.path and exchange.parameter("_summary") == "count"
    part = None if only_total else part_of(exchange, *([type_name] if type_name else []))
    page = await history_of(
        exchange.record,
        exchange.caller,
        type_name,
        exchange.path.get("id"),
        since=since_of(exchange.parameter("_since")),
        at=at_of(exchange.parameter("_at")),
        count=count_of(exchange.parameter("_count")),
        cursor=exchange.parameter("_page"),
    )
    body = bundle_writer.history(
        base=exchange.base,
        versions=[] if only_total else [shown_part(version, part) for version in page.entries],
        total=page.total,
        links=history_links(exchange, None if only_total else page.next_cursor),
        now=exchange.record.clock.now(),
    )
    return json_answer(200, body)


async def bad_id(exchange: Exchange) -> Answer:
    """An address whose last part is no id: nothing can be there, and nothing may be put there."""
    assert not FHIR_ID.fullmatch(exchange.path["id"]), "the routes before this one took every id"
    if exchange.method == "PUT":
        raise Malformed("an id has 1 to 64 of A-Z a-z 0-9 - .", at=f"{exchange.type_name}.id")
    raise NotFound(f"there is no {exchange.type_name} with this id")
