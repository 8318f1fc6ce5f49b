"""Issue and verify the tokens of this installation.

In:      a subject with its scopes; or a compact JWS somebody presents
Out:     the signed token; or its Claims
Errors:  Unauthenticated, with one text for every cause: which check failed is nobody's business but the log's
Why:     Algorithm, issuer, audience and typ are pinned. Keys come from our own files, never from the token's
         header (jku, x5u, jwk), so no token can make this process fetch or trust anything.
Source:  RFC 9068 (JWT access tokens), RFC 8725 (JWT best practices)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol

from ehr import ids, limits
from ehr.access.keys import ALGORITHM, SigningKeys
from ehr.clock import Clock
from ehr.errors import Unauthenticated

ACCESS: Final = "at+jwt"
LINK: Final = "link+jwt"
Kind = Literal["client", "citizen"]

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]{1,2048}\.[A-Za-z0-9_-]{1,4096}\.[A-Za-z0-9_-]{1,512}", re.ASCII)
_HEADERS: Final = frozenset({"alg", "kid", "typ"})


_NOT_ACCEPTED: Final = "the access token is missing, expired or not valid here; ask the token endpoint for a new one"


class NotAccepted(Unauthenticated):
    """The token cannot be accepted; why is kept for the log and not for the caller."""

    def __init__(self, cause: str, text: str = _NOT_ACCEPTED, *, presented: bool = True) -> None:
        super().__init__(text)
        self.cause = cause
        self.presented = presented


@dataclass(frozen=True, slots=True)
class Claims:
    """What an accepted token says."""

    subject: str
    kind: Kind
    scope: str
    facility_id: int
    person_id: str | None
    token_id: str
    expires_s: int
    once: bool


class Tokens:
    """Signs and verifies for one issuer; audience and issuer are the FHIR base address."""

    def __init__(self, keys: SigningKeys, *, issuer: str, clock: Clock) -> None:
        self.keys = keys
        self.issuer = issuer
        self._clock = clock

    def issue(
        self,
        subject: str,
        scope: str,
        *,
        kind: Kind = "client",
        life_s: int = limits.token_life_s,
        facility_id: int = 0,
        person_id: str | None = None,
        once: bool = False,
        typ: str = ACCESS,
    ) -> str:
        """A signed token; person_id confines it, typ says whether it opens the API or is a link to exchange."""
        now_s = int(self._clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": subject,
            "client_id": subject,
            "kind": kind,
            "scope": scope,
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + life_s,
            "jti": ids.new_id(),
        }
        if facility_id:
            claims["facility_id"] = facility_id
        if person_id is not None:
            claims["person_id"] = person_id
        if once:
            claims["once"] = True
        return self.keys.sign(typ, claims)

    def verify(self, token: str, *, typ: str = ACCESS) -> Claims:
        """The claims of a token that is ours, in force, and of the wanted typ."""
        if not _COMPACT.fullmatch(token):
            raise NotAccepted("not a compact JWS")
        try:
            decoded = jwt.decode(token, self._key_for(typ), algorithms=[ALGORITHM])
        except (JoseError, ValueError) as error:
            raise NotAccepted(type(error).__name__) from error
        claims = decoded.claims
        if claims.get("iss") != self.issuer or claims.get("aud") != self.issuer:
            raise NotAccepted("issuer or audience")
        check_times(claims, self._clock.now().timestamp(), life_max_s=None)
        return _claims(claims)

    def _key_for(self, typ: str) -> Any:
        def choose(token: GuestProtocol) -> ECKey:
            header = token.headers()
            if not header.keys() <= _HEADERS or header.get("typ") != typ or header.get("alg") != ALGORITHM:
                raise NotAccepted("header")
            key = self.keys.known.get(str(header.get("kid")))
            if key is None:
                raise NotAccepted("kid")
            return key

        return choose


def check_times(claims: Mapping[str, Any], now_s: float, *, life_max_s: int | None) -> None:
    """exp is required; nbf and iat count where present; each with the tolerance of limits.clock_skew_s."""
    expires_s = claims.get("exp")
    if not _is_seconds(expires_s) or now_s > expires_s + limits.clock_skew_s:
        raise NotAccepted("exp")
    if life_max_s is not None and expires_s > now_s + life_max_s + limits.clock_skew_s:
        raise NotAccepted("exp too far away")
    for name in ("nbf", "iat"):
        if name in claims and (not _is_seconds(claims[name]) or claims[name] > now_s + limits.clock_skew_s):
            raise NotAccepted(name)


def _is_seconds(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40


def _claims(claims: Mapping[str, Any]) -> Claims:
    kind, subject, scope = claims.get("kind"), claims.get("sub"), claims.get("scope")
    if kind not in {"client", "citizen"} or not isinstance(subject, str) or not isinstance(scope, str):
        raise NotAccepted("claims")
    person_id, facility_id = claims.get("person_id"), claims.get("facility_id", 0)
    if (kind == "citizen") != isinstance(person_id, str) or not isinstance(facility_id, int):
        raise NotAccepted("claims")
    return Claims(
        subject, kind, scope, facility_id, person_id, str(claims.get("jti")), claims["exp"], claims.get("once") is True
    )
