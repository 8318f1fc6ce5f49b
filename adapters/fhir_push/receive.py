"""Read a transaction Bundle that a facility sent.

In:      the body of POST [base], and the request's headers
Out:     its control id for the ledger; what a token must grant for it; the tree for the store, which validates it entry
         by entry
Errors:  Malformed not JSON or no Bundle; NotSupported a Bundle of another type; TooMuch over bundle_bytes_max
Source:  FHIR R4 3.1.0.11; draft-ietf-httpapi-idempotency-key-header
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ehr import limits
from ehr.access.policy import Action
from ehr.errors import Malformed, NotSupported
from ehr.fhir import codec


class _Identifier(msgspec.Struct):
    value: str = ""


class _Envelope(msgspec.Struct):
    identifier: _Identifier | None = None


class _Request(msgspec.Struct):
    method: str
    url: str


class _Resource(msgspec.Struct):
    type_name: str = msgspec.field(name="resourceType")


class _Entry(msgspec.Struct):
    request: _Request
    resource: _Resource | None = None


class _Asking(msgspec.Struct):
    entry: list[_Entry] = []


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_ASKING: Final = msgspec.json.Decoder(_Asking)
_ACTIONS: Final[Mapping[str, Action]] = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}
ANYTHING: Final[frozenset[tuple[str, Action]]] = frozenset({("*", "c"), ("*", "u"), ("*", "d")})
"""What must be granted for a Bundle of which it cannot be told what it does."""


def control_id(body: bytes, headers: Mapping[str, str]) -> str:
    """Bundle.identifier.value, else Idempotency-Key, else the digest of the body. Never refuses: what cannot be read
    is kept too.
    """
    try:
        identifier = _ENVELOPE.decode(body).identifier
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        identifier = None
    named = identifier.value if identifier else ""
    key = named or next((value for name, value in headers.items() if name.lower() == "idempotency-key"), "")
    key = key.strip().replace("\0", "")[: limits.control_id_characters_max]
    return key or "sha256:" + hashlib.sha256(body).hexdigest()


def asked(body: bytes) -> frozenset[tuple[str, Action]]:
    """What a token must grant for the entries: (type, action)."""
    try:
        entries = _ASKING.decode(body).entry
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ANYTHING
    return frozenset(
        (
            entry.resource.type_name if entry.resource else re.split(r"[/?]", entry.request.url)[0],
            _ACTIONS.get(entry.request.method, "r"),
        )
        for entry in entries
    )


def bundle_of(body: bytes) -> dict[str, Any]:
    tree = codec.loads(body, bytes_max=limits.bundle_bytes_max)
    if tree.get("resourceType") != "Bundle":
        raise Malformed("a facility pushes a Bundle", at="Bundle")
    if tree.get("type") != "transaction":
        raise NotSupported("a facility pushes a Bundle of type transaction", at="Bundle.type")
    return tree
