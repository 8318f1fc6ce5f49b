"""X-Provenance: what was behind a write, stored with it.

In:      the header of a create, update or patch: a Provenance in JSON, without target
Out:     the same write; with it, in its transaction, the Provenance of the version that was written
Keeps:   a conditional create that finds its resource writes nothing, and so no Provenance
Errors:  a Provenance that is none, with places in it; any other write: it would be believed to be stored
Source:  FHIR R4 provenance.html#header
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ehr.api.answer import Answer
from ehr.api.at_home import resource_at_home
from ehr.api.exchange import Exchange
from ehr.errors import Malformed, NotSupported
from ehr.fhir import codec
from ehr.store import gate
from ehr.store.unit_of_work import UnitOfWork

HEADER: Final = "x-provenance"
_NAME: Final = "X-Provenance"

Work = Callable[[UnitOfWork], Awaitable[Answer]]


def with_provenance(exchange: Exchange, work: Work) -> Work:
    """The work, and the Provenance of what it writes."""
    sent = _sent(exchange)

    async def both(uow: UnitOfWork) -> Answer:
        answer = await work(uow)
        target = _written(exchange, answer)
        if target is not None:
            body = codec.dumps({**sent, "target": [{"reference": target}]})
            await uow.resources.create("Provenance", body, gate.accept("Provenance", body))
        return answer

    return both


def refuse_provenance(headers: Mapping[str, str]) -> None:
    """Refuse the header where it is not one resource that is written."""
    if HEADER in headers:
        raise NotSupported(
            "X-Provenance goes with the create, update or patch of one resource; "
            "in a Bundle, send the Provenance as an entry",
            at=_NAME,
        )


def _sent(exchange: Exchange) -> dict[str, Any]:
    """The Provenance of the header, as UTF-8."""
    raw = exchange.headers[HEADER].encode("latin-1")
    try:
        tree = codec.loads(resource_at_home(raw, exchange.base))
    except Malformed as error:
        raise Malformed(f"a Provenance in JSON is wanted: {error}", at=_NAME) from error
    if tree.get("resourceType") != "Provenance":
        raise Malformed("a Provenance in JSON is wanted", at=_NAME)
    if "target" in tree:
        raise Malformed("the server says the target: it is what this request writes", at="Provenance.target")
    return tree


def _written(exchange: Exchange, answer: Answer) -> str | None:
    """Type/id/_history/version of what was written; None where it was found."""
    headers = dict(answer.headers)
    if b"location" not in headers or b"etag" not in headers:
        refuse_provenance(exchange.headers)
    if exchange.method == "POST" and answer.status != 201:
        return None
    return headers[b"location"].decode().removeprefix(f"{exchange.base}/")
