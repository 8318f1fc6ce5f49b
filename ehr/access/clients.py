"""System clients: who may ask for a token, and how they prove who they are.

In:      client_id with a secret (basic or form), or a signed client assertion (private_key_jwt)
Out:     RegisteredClient
Errors:  ClientRefused, with one text: an unknown client, a wrong secret and a replay look the same
Keeps:   secrets as SHA-256 only; they are random 256-bit values, so a slow hash would add nothing
Source:  RFC 6749 2.3, RFC 7523 3, SMART Backend Services 2.2
"""

import hashlib
import hmac
import json
import re
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, KeySet

from ehr import limits
from ehr.access.scopes import Scope, parse, written
from ehr.access.spent import forget, spend
from ehr.access.token import NotAccepted, check_times
from ehr.clock import Clock
from ehr.errors import Invalid, Unauthenticated

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS: Final = ("ES384", "RS384", "ES256", "RS256")
_ASSERTION_LIFE_S: Final = 300  # SMART Backend Services: no more than five minutes in the future
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]{1,2048}\.[A-Za-z0-9_-]{1,4096}\.[A-Za-z0-9_-]{1,1024}", re.ASCII)
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_NO_SECRET: Final = hashlib.sha256(b"").digest()

_FIND: Final = "SELECT secret_sha256, jwks, scopes, facility_id FROM client WHERE id = $1 AND active"
_REGISTER: Final = (
    "INSERT INTO client (id, name, secret_sha256, jwks, scopes, facility_id) VALUES ($1, $2, $3, $4, $5, $6) "
    "ON CONFLICT (id) DO UPDATE SET name = excluded.name, secret_sha256 = excluded.secret_sha256, "
    "jwks = excluded.jwks, scopes = excluded.scopes, facility_id = excluded.facility_id, active = true"
)


class ClientRefused(Unauthenticated):
    """The client could not prove who it is."""

    def __init__(self, cause: str) -> None:
        super().__init__("the client could not be authenticated")
        self.cause = cause


class Pool(Protocol):
    """The part of ehr.database.engine.Database this room uses."""

    def acquire(self) -> AbstractAsyncContextManager[Any]: ...


class Holder(Protocol):
    """The part of ehr.store.record.Record this room uses; the store lies above it."""

    @property
    def database(self) -> Pool: ...
    @property
    def clock(self) -> Clock: ...


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """One row of the client table, as far as granting a token needs it."""

    id: str
    scopes: tuple[Scope, ...]
    facility_id: int


async def register_client(
    record: Holder,
    id: str,
    name: str,
    scopes: str,
    facility_id: int = 0,
    *,
    jwks: Mapping[str, Any] | None = None,
) -> str:
    """Write the client and return its new secret, which is shown once; an existing client gets a new one.

    A client with a JWKS proves itself with its private key and has no secret: the answer is empty.
    """
    understood = parse(scopes)
    if not _CLIENT_ID.fullmatch(id):
        raise Invalid("a client id has 1 to 64 letters, digits, '.', '_', ':' or '-'", at="client_id")
    if len(understood) != len(scopes.split()):
        raise Invalid("every scope must be understood when a client is registered", at="scope")
    secret = "" if jwks is not None else secrets.token_urlsafe(32)
    kept = hashlib.sha256(secret.encode()).digest() if secret else None
    keys = None if jwks is None else json.dumps(_public(jwks))
    async with record.database.acquire() as connection:
        await connection.execute(_REGISTER, id, name, kept, keys, written(understood), facility_id or None)
    return secret


def read_jwks(text: bytes) -> dict[str, Any]:
    """The public keys of a JWKS file."""
    try:
        return _public(json.loads(text))
    except (JoseError, KeyError, TypeError, ValueError) as error:
        raise Invalid('this is no JWKS, {"keys": […]} of EC or RSA keys', at="jwks") from error


def _public(jwks: Mapping[str, Any]) -> dict[str, Any]:
    """The JWKS without private halves, each key with its kid."""
    keys = KeySet.import_key_set(jwks).keys  # type: ignore[arg-type]  # refuses what is not a JWKS
    if not keys or any(key.key_type not in {"EC", "RSA"} for key in keys):
        raise Invalid("a client key is an EC or RSA key", at="jwks")
    return {"keys": [{**key.as_dict(private=False), "kid": key.kid or key.thumbprint()} for key in keys]}


class Clients:
    """Authenticates clients against their rows."""

    def __init__(self, record: Holder) -> None:
        self._database = record.database
        self._clock = record.clock

    async def by_secret(self, client_id: str, secret: str) -> RegisteredClient:
        """client_secret_basic and client_secret_post."""
        row = await self._row(client_id)
        kept = (row["secret_sha256"] if row is not None else None) or _NO_SECRET
        right = hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), kept)
        if row is None or not secret or not right:
            raise ClientRefused("secret")
        return _client(client_id, row)

    async def by_assertion(self, assertion: str, audiences: frozenset[str]) -> RegisteredClient:
        """private_key_jwt: signed by a key of the client's own row, for us, in force, and never seen before."""
        client_id = _subject_unverified(assertion)
        row = await self._row(client_id)
        if row is None or row["jwks"] is None:
            raise ClientRefused("no such client with keys")
        now = self._clock.now()
        try:
            decoded = jwt.decode(assertion, _key_of(json.loads(row["jwks"])), algorithms=ASSERTION_ALGORITHMS)
            claims = decoded.claims
            check_times(claims, now.timestamp(), life_max_s=_ASSERTION_LIFE_S)
        except (JoseError, ValueError, NotAccepted) as error:
            raise ClientRefused(type(error).__name__) from error
        if claims.get("iss") != client_id or claims.get("sub") != client_id:
            raise ClientRefused("iss or sub")
        named = claims.get("aud")
        if not (isinstance(named, str) and named in audiences):
            raise ClientRefused("aud")
        token_id = claims.get("jti")
        if not isinstance(token_id, str) or not 1 <= len(token_id) <= 256:
            raise ClientRefused("jti")
        until = datetime.fromtimestamp(claims["exp"] + 2 * limits.clock_skew_s, UTC)
        key = hashlib.sha256(f"{client_id} {token_id}".encode()).hexdigest()
        async with self._database.acquire() as connection:
            if not await spend(connection, "assertion", key, until):
                raise ClientRefused("replay")
            await forget(connection, now)
        return _client(client_id, row)

    async def _row(self, client_id: str) -> Any:
        if not _CLIENT_ID.fullmatch(client_id):
            return None
        async with self._database.acquire() as connection:
            return await connection.fetchrow(_FIND, client_id)


def _client(client_id: str, row: Any) -> RegisteredClient:
    return RegisteredClient(client_id, tuple(parse(row["scopes"])), row["facility_id"] or 0)


def _subject_unverified(assertion: str) -> str:
    """sub of an assertion, only to find the key that must have signed it."""
    if not _COMPACT.fullmatch(assertion):
        raise ClientRefused("not a compact JWS")
    payload = assertion.split(".")[1]
    try:
        claims = json.loads(_decoded(payload))
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are its kinds
        raise ClientRefused("payload") from error
    subject = claims.get("sub") if isinstance(claims, dict) else None
    if not isinstance(subject, str):
        raise ClientRefused("sub")
    return subject


def _decoded(payload: str) -> bytes:
    return urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


def _key_of(jwks: Mapping[str, Any]) -> Any:
    """Choose the client's key by kid; nothing in the header may bring or point to another key."""
    keys = KeySet.import_key_set(jwks).keys  # type: ignore[arg-type]  # written by register_client

    def choose(token: GuestProtocol) -> Any:
        header = token.headers()
        if not header.keys() <= {"alg", "kid", "typ"}:
            raise ClientRefused("header")
        for key in keys:
            if key.kid == header.get("kid") and _fits(key.key_type, str(header.get("alg"))):
                return key
        raise ClientRefused("kid")

    return choose


def _fits(key_type: str, algorithm: str) -> bool:
    return (key_type == "EC" and algorithm.startswith("ES")) or (key_type == "RSA" and algorithm.startswith("RS"))
