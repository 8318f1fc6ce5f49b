"""Binary as HTTP has it: its content goes in and out as it is; the resource around it is what the FHIR types ask for.

In:      read, vread    Accept: a FHIR type by name asks for the resource, as _format, _summary and _elements do;
                        whatever else takes the contentType gets the content; 406 where neither is wanted
         create, update a Binary in a FHIR type; anything else is content of the type that Content-Type says, and
                        X-Security-Context is its securityContext
Out:     content as an attachment that runs nowhere, since what a sender stored is served from our own origin
Errors:  NotAcceptable, UnsupportedMedia, Malformed, TooMuch; those of the same interaction on any type
Source:  FHIR R4 binary.html; RFC 6266; Content Security Policy Level 3 (sandbox)
"""

import re
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any, Final

import msgspec
from starlette.types import Message

from ehr import limits
from ehr.api import fhir_instance as instance
from ehr.api import fhir_type as of_type
from ehr.api.answer import Answer, Header, validators
from ehr.api.exchange import Exchange, read_body
from ehr.api.negotiation import JSON, XML, Form, content_form, content_wish, produced
from ehr.api.part import PART
from ehr.errors import Malformed, NotAcceptable, NotSupported, TooMuch, UnsupportedMedia
from ehr.fhir import codec
from ehr.fhir.xml_reader import root_of
from ehr.fhir.xml_writer import FHIR
from ehr.interactions.read import read as read_one
from ehr.interactions.vread import vread as vread_one
from ehr.store.version import Version

_CONTEXT: Final = "x-security-context"
_NAME: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_QUOTED: Final = r'"[\x21\x23-\x5b\x5d-\x7e]*"'
_MEDIA_TYPE: Final = re.compile(rf"{_NAME}/{_NAME}(?: ?; ?{_NAME}=(?:{_NAME}|{_QUOTED}))*", re.ASCII)
_REFERENCE: Final = re.compile(r"[\x21-\x7e]{1,1024}", re.ASCII)
_UNNAMED: Final = "application/octet-stream"
_RUNS_NOWHERE: Final[list[Header]] = [
    (b"content-disposition", b"attachment"),
    (b"content-security-policy", b"sandbox; default-src 'none'; frame-ancestors 'none'"),
    (b"vary", b"Accept"),
]
"""Not shown but saved, and without scripts or an origin where it is shown all the same; nosniff and no-store are set
on every answer (ehr.api.edge)."""


async def read(exchange: Exchange) -> Answer:
    """GET Binary/[id], conditional like any read."""
    if _wants_resource(exchange):
        return await instance.read(exchange)
    version = await read_one(exchange.record, exchange.caller, "Binary", exchange.path["id"])
    return _answer(exchange, version)


async def vread(exchange: Exchange) -> Answer:
    """GET Binary/[id]/_history/[vid], conditional like any read."""
    if _wants_resource(exchange):
        return await instance.vread(exchange)
    number = instance.version_number(exchange)
    version = await vread_one(exchange.record, exchange.caller, "Binary", exchange.path["id"], number)
    return _answer(exchange, version)


async def create(exchange: Exchange) -> Answer:
    """POST Binary."""
    return await of_type.create(await _with_resource(exchange))


async def update(exchange: Exchange) -> Answer:
    """PUT Binary/[id]."""
    return await instance.update(await _with_resource(exchange, id=exchange.path["id"]))


async def update_matching(exchange: Exchange) -> Answer:
    """PUT Binary?criteria."""
    return await of_type.update(await _with_resource(exchange))


def _wants_resource(exchange: Exchange) -> bool:
    """Whether the request can only mean the resource; what it is shown as is settled then."""
    if exchange.format_asked is not None:
        return True
    if any(name in PART for name, _ in exchange.query):
        exchange.shown_form = produced(exchange.headers.get("accept"), None)
        return True
    exchange.only()
    return False


def _answer(exchange: Exchange, version: Version) -> Answer:
    """The content where Accept takes its type, else the resource in the FHIR format that Accept names or allows."""
    if not instance.is_wanted(exchange, version):
        return Answer(304, b"", [*validators(version), (b"vary", b"Accept")])
    assert version.body is not None, "reads refuse what is deleted"
    tree = codec.loads(version.body)
    accept, content_type = exchange.headers.get("accept"), _header_of(tree["contentType"])
    wish = content_wish(accept)
    if not wish.takes(content_type):
        exchange.shown_form = wish.form or _produced(accept, content_type)
        return instance.version_answer(version, None)
    exchange.pretty = False
    headers = [(b"content-type", content_type.encode()), *_RUNS_NOWHERE, *validators(version)]
    context = (tree.get("securityContext") or {}).get("reference", "")
    if _REFERENCE.fullmatch(context):
        headers.append((_CONTEXT.encode(), context.encode()))
    return Answer(200, b64decode(tree.get("data", "")), headers)


def _header_of(content_type: str) -> str:
    """Binary.contentType as a header may hold it: R4's code allows what no media type is."""
    return content_type if _MEDIA_TYPE.fullmatch(content_type) else _UNNAMED


def _produced(accept: str | None, content_type: str) -> Form:
    try:
        return produced(accept, None)
    except NotAcceptable as error:
        text = f"the content is {content_type}, the resource {JSON} or {XML}; name one of these in Accept"
        raise NotAcceptable(text, at="Accept") from error


async def _with_resource(exchange: Exchange, *, id: str | None = None) -> Exchange:
    """The same request with a Binary as its body, whatever was sent."""
    content_type = " ".join(exchange.headers.get("content-type", "").split())
    if not _MEDIA_TYPE.fullmatch(content_type):
        raise UnsupportedMedia("the type of the content is wanted, as in application/pdf", at="Content-Type")
    content = await read_body(exchange.receive, exchange.headers, limits.resource_bytes_max)
    context = exchange.headers.get(_CONTEXT)
    if _is_resource(content_type, content):
        if context is not None:
            raise NotSupported("a Binary says its securityContext itself", at="X-Security-Context")
        return _sent(exchange, content, content_type)
    if not content:
        raise Malformed("there is no content", at="Binary.data")
    if len(content) * 4 // 3 > limits.resource_bytes_max:
        raise TooMuch(f"the content is over the limit of {limits.resource_bytes_max} bytes as base64")
    tree: dict[str, Any] = {"resourceType": "Binary"}
    if id is not None:
        tree["id"] = id
    tree["contentType"] = content_type
    if context is not None:
        tree["securityContext"] = {"reference": context.strip()}
    tree["data"] = b64encode(content).decode()
    return _sent(exchange, codec.dumps(tree), JSON)


class _Kind(msgspec.Struct):
    resourceType: Any = None  # noqa: N815 - FHIR's name


def _is_resource(content_type: str, content: bytes) -> bool:
    """Whether what was sent is a Binary in a FHIR format, or was meant as a resource and cannot be read as any.

    Every other content is content, a FHIR resource of another type too (binary.html).
    """
    form = content_form(content_type)
    if form is None:
        return False
    meant = content_type.partition(";")[0].strip().lower() in (JSON, XML)
    if form == "xml":
        root = root_of(content)
        return meant if root is None else root == (FHIR, "Binary")
    try:
        name = msgspec.json.decode(content, type=_Kind).resourceType
    except (msgspec.DecodeError, UnicodeDecodeError):
        return meant
    return name == "Binary" or (meant and name is None)


def _sent(exchange: Exchange, body: bytes, content_type: str) -> Exchange:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = {**exchange.headers, "content-type": content_type, "content-length": str(len(body))}
    return replace(exchange, headers=headers, receive=receive)
