"""The token endpoint, the public keys, and the document that tells a client where both are.

In:      POST /oauth/token (client_credentials) with client_secret_basic, client_secret_post or private_key_jwt
Out:     {"access_token", "token_type", "expires_in", "scope"}; the scope may be narrower than the one asked for
Errors:  RFC 6749 5.2 JSON: invalid_request, invalid_client (401), unsupported_grant_type, invalid_scope
Source:  RFC 6749 4.4, RFC 7523, SMART App Launch 2.2.0 (conformance, backend services)
"""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from ehr import limits
from ehr.access.authenticate import Authenticator, issue_token, issuer
from ehr.access.clients import ASSERTION_ALGORITHMS, ASSERTION_TYPE, ClientRefused, Clients, RegisteredClient
from ehr.access.policy import Caller, Grants
from ehr.access.scopes import intersect, parse, written
from ehr.api.answer import Answer
from ehr.api.exchange import Door, Exchange, header_map, parsed_query, read_body
from ehr.errors import Malformed, TooMuch
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

log = structlog.get_logger()

_JSON: Final = (b"content-type", b"application/json")


class OAuthRefused(Exception):
    """An error of RFC 6749 5.2."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.text, self.status = code, text, status


class TokenEndpoint:
    """POST /oauth/token."""

    def __init__(self, record: Record, authenticator: Authenticator, settings: Settings, door: Door) -> None:
        self._record = record
        self._clients = Clients(record)
        self._tokens = authenticator.tokens
        self._issuer = issuer(settings)
        self._door = door

    async def post(self, request: Request) -> Response:
        headers = header_map(request.scope)
        try:
            form = await _form(request, headers)
            client = await self._client(request, headers, form)
            return await self._grant(client, form.get("scope", ""))
        except OAuthRefused as error:
            return _refusal(error, basic="authorization" in headers)

    async def _grant(self, client: RegisteredClient, asked: str) -> Response:
        granted = intersect((scope for scope in parse(asked) if scope.context == "system"), client.scopes)
        if not granted:
            raise OAuthRefused("invalid_scope", "none of the scopes asked for is registered for this client")
        scope = written(granted)
        token = issue_token(self._tokens, client.id, scope, facility_id=client.facility_id)

        async def note(uow: UnitOfWork) -> None:
            await uow.audit.execute("token", detail={"scope": scope})

        await self._record.run(Caller("client", client.id, Grants(), client.facility_id), note)
        return _json(
            200, {"access_token": token, "token_type": "bearer", "expires_in": limits.token_life_s, "scope": scope}
        )

    async def _client(self, request: Request, headers: Mapping[str, str], form: Mapping[str, str]) -> RegisteredClient:
        """Whoever the request proves to be, by exactly one method (RFC 6749 2.3)."""
        if "grant_type" not in form:
            raise OAuthRefused("invalid_request", "grant_type is missing; it must be client_credentials")
        if form["grant_type"] != "client_credentials":
            raise OAuthRefused("unsupported_grant_type", "grant_type must be client_credentials")
        methods = [name for name in ("client_assertion", "client_secret") if name in form]
        if "authorization" in headers:
            methods.append("authorization")
        if len(methods) > 1:
            raise OAuthRefused("invalid_request", "use one method of client authentication")
        try:
            if methods == ["client_assertion"]:
                if form.get("client_assertion_type") != ASSERTION_TYPE:
                    raise OAuthRefused("invalid_request", f"client_assertion_type must be {ASSERTION_TYPE}")
                return await self._clients.by_assertion(form["client_assertion"], self._audiences(request))
            if methods == ["authorization"]:
                return await self._clients.by_secret(*_basic(headers["authorization"]))
            return await self._clients.by_secret(form.get("client_id", ""), form.get("client_secret", ""))
        except ClientRefused as error:
            log.info("client refused", issue=error.cause)
            raise OAuthRefused("invalid_client", "the client could not be authenticated", 401) from error

    def _audiences(self, request: Request) -> frozenset[str]:
        """The token endpoint's address, as configured or as this socket has it."""
        bases = {self._issuer, self._door.base(request.scope)}
        return frozenset(f"{root_of(base)}/oauth/token" for base in bases)


async def _form(request: Request, headers: Mapping[str, str]) -> dict[str, str]:
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise OAuthRefused("invalid_request", "send application/x-www-form-urlencoded")
    try:
        pairs = parsed_query(await read_body(request.receive, headers, limits.token_request_bytes_max))
    except (Malformed, TooMuch) as error:
        raise OAuthRefused("invalid_request", str(error)) from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthRefused("invalid_request", "a parameter came twice")
    return form


def _basic(header: str) -> tuple[str, str]:
    scheme, _, credentials = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError("not Basic")
        name, colon, secret = b64decode(credentials.strip(), validate=True).decode().partition(":")
    except ValueError as error:
        raise ClientRefused("basic") from error
    if not colon:
        raise ClientRefused("basic")
    return unquote_plus(name), unquote_plus(secret)


def _refusal(error: OAuthRefused, *, basic: bool) -> Response:
    response = _json(error.status, {"error": error.code, "error_description": error.text})
    if error.status == 401 and basic:
        response.headers["www-authenticate"] = 'Basic realm="oauth"'
    return response


def _json(status: int, content: dict[str, Any]) -> Response:
    return Response(
        orjson.dumps(content),
        status,
        {"cache-control": "no-store", "pragma": "no-cache"},
        media_type="application/json",
    )


def jwks_of(authenticator: Authenticator) -> Any:
    """GET /oauth/jwks: public halves, cacheable because nothing in it is about a person."""

    async def jwks(_: Request) -> Response:
        body = orjson.dumps(authenticator.tokens.keys.public())
        return Response(body, headers={"cache-control": "max-age=300"}, media_type="application/jwk-set+json")

    return jwks


def configuration_of(settings: Settings) -> Any:
    """GET /fhir/.well-known/smart-configuration."""

    async def configuration(exchange: Exchange) -> Answer:
        root = root_of(exchange.base)
        document = {
            "issuer": issuer(settings),
            "jwks_uri": f"{root}/oauth/jwks",
            "token_endpoint": f"{root}/oauth/token",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
            "scopes_supported": ["system/*.cruds", "system/*.rs", "patient/*.rs"],
            "code_challenge_methods_supported": ["S256"],
            "capabilities": [
                "client-confidential-asymmetric",
                "client-confidential-symmetric",
                "permission-v1",
                "permission-v2",
            ],
        }
        return Answer(200, orjson.dumps(document), [_JSON, (b"cache-control", b"max-age=300")])

    return configuration


def root_of(base: str) -> str:
    """The address of the site, without the FHIR part."""
    return base.removesuffix("/fhir")
