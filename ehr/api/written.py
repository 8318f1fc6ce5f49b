"""Answer a write: status, Location, validators, and as much of the resource as the client prefers.

In:      what became of the write; Prefer; Idempotency-Key; X-Provenance
Out:     Answer; with a key, the first answer again for the same request
Why:     A client whose connection was cut after the commit cannot know that it was done. With a key it asks again
         and gets the answer it missed. The answer is kept in the transaction of the work, so there is no moment
         in which one exists without the other.
Source:  FHIR R4 http.html#create, #update, #ops (Prefer return)
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Final

from ehr.api.answer import Answer, Header, json_answer, outcome_answer, validators
from ehr.api.exchange import Exchange
from ehr.api.provenance import HEADER, with_provenance
from ehr.errors import Issue, Malformed
from ehr.store import idempotency
from ehr.store.idempotency import KeptAnswer
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_PART_OF_REQUEST: Final = ("if-match", "if-none-match", "if-none-exist", "prefer", HEADER)


def written_answer(exchange: Exchange, version: Version, status: int) -> Answer:
    """201 or 200 with the version that now stands."""
    headers: list[Header] = [
        (b"location", f"{exchange.base}/{version.location}".encode()),
        *validators(version),
    ]
    match exchange.preferences.returns:
        case "minimal":
            return Answer(status, b"", headers)
        case "OperationOutcome":
            text = "created" if status == 201 else "stored"
            return outcome_answer(status, [Issue("informational", text, severity="information")], *headers)
        case "representation":
            assert version.body is not None, "a create or update leaves a body"
            return json_answer(status, version.body, *headers)


def deleted_answer(exchange: Exchange, version: Version | None) -> Answer:
    """It is not there now, whether or not it was before (http.html#delete): 204, or 200 where an outcome is wanted."""
    headers: list[Header] = [] if version is None else [(b"etag", version.etag.encode())]
    if exchange.preferences.returns == "OperationOutcome":
        return outcome_answer(200, [Issue("informational", "deleted", severity="information")], *headers)
    return Answer(204, b"", headers)


async def once(exchange: Exchange, body: bytes, work: Callable[[UnitOfWork], Awaitable[Answer]]) -> Answer:
    """Do the work in one transaction; under an Idempotency-Key, at most once."""
    if HEADER in exchange.headers:
        work = with_provenance(exchange, work)
    key = exchange.headers.get("idempotency-key")
    if key is None:
        return await exchange.record.write(exchange.caller, work)
    if not _KEY.fullmatch(key):
        raise Malformed("1 to 255 visible ASCII characters are wanted", at="Idempotency-Key")
    client, digest = exchange.caller.id, _digest(exchange, body)

    async def first(uow: UnitOfWork) -> Answer:
        kept = await idempotency.find(uow.connection, client, key, digest)
        if kept is not None:
            headers = [(name.encode(), value.encode()) for name, value in kept.headers.items()]
            return Answer(kept.status, kept.body, headers)
        answer = await work(uow)
        headers_kept = {name.decode(): value.decode() for name, value in answer.headers}
        await idempotency.keep(
            uow.connection, client, key, digest, KeptAnswer(answer.status, headers_kept, answer.body)
        )
        return answer

    return await exchange.record.write(exchange.caller, first)


def _digest(exchange: Exchange, body: bytes) -> bytes:
    """What makes two requests the same request: method, address, conditions and body."""
    said = [exchange.method, *exchange.path.values(), *(f"{name}={value}" for name, value in exchange.query)]
    said += [exchange.headers.get(name, "") for name in _PART_OF_REQUEST]
    return hashlib.sha256("\x1f".join(said).encode() + b"\x1e" + body).digest()
