"""The operations of /fhir: address → handler. Parameters come in the query, or in a Parameters resource.

Source:  FHIR R4 operations.html#executing; OperationDefinitions everything, validate, summary (IPS 2.0.0)
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, cast

from ehr import limits
from ehr.api import bundle_writer
from ehr.api.answer import Answer, json_answer, outcome_answer
from ehr.api.exchange import Exchange, Handler
from ehr.api.links import page_links
from ehr.api.moments import count_of, period_of, since_of
from ehr.api.negotiation import not_modified_tag
from ehr.errors import Forbidden, Issue, Malformed, NotFound
from ehr.fhir import codec
from ehr.operations.everything import Root, Wanted, everything
from ehr.operations.summary import summary
from ehr.operations.validate import validate

_RECORDS: Final = frozenset({"Patient", "Person"})
_EVERYTHING: Final = ("_since", "_type", "_count", "start", "end", "_page")


async def everything_of(exchange: Exchange) -> Answer:
    """Patient/[id]/$everything and Person/[id]/$everything."""
    root, id = _root(exchange), exchange.path["id"]
    await _take_parameters(exchange)
    exchange.only(*_EVERYTHING)
    start, end = exchange.parameter("start"), exchange.parameter("end")
    wanted = Wanted(
        types=tuple(filter(None, (exchange.parameter("_type") or "").split(","))),
        since=since_of(exchange.parameter("_since")),
        start=period_of(start, "start")[0] if start else None,
        end=period_of(end, "end")[1] if end else None,
        count=count_of(exchange.parameter("_count")),
        cursor=exchange.parameter("_page"),
    )
    found = await everything(exchange.record, exchange.caller, root, id, wanted)
    body = bundle_writer.searchset(
        base=exchange.base,
        matches=found.matches,
        included=found.included,
        issues=[],
        total=None,
        links=page_links(
            f"{exchange.base}/{root}/{id}/$everything",
            exchange.query,
            cursor_name="_page",
            next_cursor=found.next_cursor,
            previous_cursor=None,
        ),
        now=exchange.record.clock.now(),
    )
    return json_answer(200, body)


async def summary_of(exchange: Exchange) -> Answer:
    """Patient/[id]/$summary and Person/[id]/$summary: the IPS document of the whole person."""
    root, id = _root(exchange), exchange.path["id"]
    exchange.only()
    document = await summary(exchange.record, exchange.caller, root, id, base_url=exchange.base)
    etag = (b"etag", document.etag.encode())
    if not_modified_tag(exchange.headers.get("if-none-match"), document.etag):
        return Answer(304, b"", [etag])
    return json_answer(200, document.body, etag)


async def validate_one(exchange: Exchange) -> Answer:
    """[type]/$validate and [type]/[id]/$validate: 200 with an OperationOutcome, whatever it finds."""
    exchange.only("mode", "profile")
    type_name = exchange.type_name
    if not any(exchange.caller.grants.allow(type_name, action) for action in ("c", "u", "r", "s", "d")):
        raise Forbidden(f"the token grants nothing on {type_name}")
    body = await exchange.body(limits.resource_bytes_max)
    issues = validate(
        type_name,
        body,
        id=exchange.path.get("id"),
        mode=exchange.parameter("mode"),
        profile=exchange.parameter("profile"),
    )
    return outcome_answer(200, issues or [Issue("informational", "the resource is valid", severity="information")])


_I: Final = "/fhir/{type:fhirtype}/{id:fhirid}"

TABLE: Final[Sequence[tuple[str, Mapping[str, Handler]]]] = [
    (f"{_I}/$everything", {"GET": everything_of, "POST": everything_of}),
    (f"{_I}/$summary", {"GET": summary_of}),
    (f"{_I}/$validate", {"POST": validate_one}),
    ("/fhir/{type:fhirtype}/$validate", {"POST": validate_one}),
]


def _root(exchange: Exchange) -> Root:
    name = exchange.type_name
    if name not in _RECORDS:
        raise NotFound("this operation is one of Patient and Person")
    return cast("Root", name)


async def _take_parameters(exchange: Exchange) -> None:
    """Move the parts of a POSTed Parameters resource into the query: both mean the same."""
    if exchange.method != "POST":
        return
    tree = codec.loads(await exchange.body(limits.resource_bytes_max))
    parts = tree.get("parameter", [])
    if tree.get("resourceType") != "Parameters" or not isinstance(parts, list):
        raise Malformed("the operation takes a Parameters resource", at="resourceType")
    for part in parts:
        values = [value for key, value in _items(part) if key.startswith("value")]
        if len(values) != 1 or not isinstance(values[0], str | int | Decimal) or not isinstance(part.get("name"), str):
            raise Malformed("a parameter of this operation has a name and one simple value", at="Parameters.parameter")
        exchange.query.append((part["name"], str(values[0])))


def _items(part: Any) -> list[tuple[str, Any]]:
    return list(part.items()) if isinstance(part, dict) else []
