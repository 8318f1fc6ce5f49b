"""Turn the headers of a request into its Caller, or refuse.

In:      Authorization: Bearer …; or, with --access open, the address of a peer on this machine
Out:     Caller with the grants of the token's scopes
Errors:  Unauthenticated (401) without a token or with one that is not accepted; Forbidden where it has no right at all
Why:     A token is never read from a query string: addresses are logged by everything between here and there.
Source:  RFC 6750, SMART App Launch 2.2
"""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Literal, Protocol

from ehr import limits
from ehr.access.keys import load_keys
from ehr.access.policy import Caller, Grants
from ehr.access.scopes import grants, parse
from ehr.access.token import LINK, Claims, NotAccepted, Tokens
from ehr.clock import Clock
from ehr.settings import Settings

_KNOWN_MAX: Final = 4_096
"""Callers of tokens that were verified, each until its token expires: a signature takes longer than a read."""

CITIZEN_SCOPE: Final = "patient/*.rs"
_CONTEXT: Final[dict[str, Literal["system", "patient"]]] = {"client": "system", "citizen": "patient"}


@lru_cache(maxsize=4_096)
def _rights(scope: str, kind: str) -> Grants:
    """The grants of a token's scopes, read once: tokens of one client say the same for an hour."""
    return grants(parse(scope), _CONTEXT[kind])


class Timed(Protocol):
    """The part of ehr.store.record.Record this room uses here."""

    @property
    def clock(self) -> Clock: ...


_NOT_LOCAL: Final = "open access is for this machine, and for localhost as the Host header; others need a token"


class Authenticator:
    """Knows the keys, the issuer and whether loopback peers may act without a token."""

    def __init__(self, record: Timed, settings: Settings) -> None:
        if settings.access == "open" and not is_loopback(settings.host):
            raise ValueError("access open is for a loopback host only; bind 127.0.0.1 or use tokens")
        self.open = settings.access == "open"
        self.tokens = Tokens(load_keys(settings.data_dir), issuer=issuer(settings), clock=record.clock)
        self._clock = record.clock
        self._known: OrderedDict[str, tuple[datetime, Caller]] = OrderedDict()

    def caller(self, headers: Mapping[str, str], peer: str | None = None) -> Caller:
        """Who asks. headers are looked up in lower case; peer is the address of the other end of the socket."""
        authorization = headers.get("authorization")
        if authorization is None:
            if not self.open:
                raise NotAccepted("no token", presented=False)
            if peer is not None and is_loopback(peer) and _names_loopback(headers.get("host", "")):
                return Caller.system("open access")
            raise NotAccepted("not local", _NOT_LOCAL, presented=False)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise NotAccepted("scheme")
        return self.of_token(token.strip())

    def of_token(self, token: str) -> Caller:
        """The caller a token stands for: the Authorization header's, or that of the citizen page's cookie."""
        known = self._known.get(token)
        if known is not None and self._clock.now() < known[0]:
            return known[1]
        claims = self.tokens.verify(token)
        rights = _rights(claims.scope, claims.kind)
        purpose = "PATRQT" if claims.kind == "citizen" else "TREAT"
        caller = Caller(claims.kind, claims.subject, rights, claims.facility_id, claims.person_id, purpose)
        self._known[token] = datetime.fromtimestamp(claims.expires_s, UTC), caller
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return caller


def issuer(settings: Settings) -> str:
    """iss and aud of our tokens: the public FHIR base, the same in every process with these settings."""
    return settings.base_url or f"http://{settings.host}:{settings.port}/fhir"


def issue_token(
    tokens: Tokens, client_id: str, scope: str, *, facility_id: int = 0, life_s: int = limits.token_life_s
) -> str:
    """An access token of a system client, as the token endpoint, `ehr token` and the demo hand it out."""
    return tokens.issue(client_id, scope, kind="client", life_s=life_s, facility_id=facility_id)


def citizen_token(tokens: Tokens, person_id: str) -> str:
    """An access token that reads one person's record and nothing else of any patient."""
    return tokens.issue(
        person_id, CITIZEN_SCOPE, kind="citizen", life_s=limits.citizen_token_life_s, person_id=person_id
    )


def citizen_link(tokens: Tokens, person_id: str, *, once: bool = False) -> str:
    """What a link to the citizen page carries: good for an exchange into a cookie, refused by the API."""
    life_s = limits.citizen_token_life_s
    return tokens.issue(
        person_id, CITIZEN_SCOPE, kind="citizen", life_s=life_s, person_id=person_id, once=once, typ=LINK
    )


def link_claims(tokens: Tokens, token: str) -> Claims:
    """The claims of a link that is ours and in force; whether it was used before is asked of the database."""
    return tokens.verify(token, typ=LINK)


def is_loopback(host: str) -> bool:
    """True for an address that never leaves this machine, and for the name localhost."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _names_loopback(host: str) -> bool:
    """The Host header names this machine: a page of another site that was rebound to 127.0.0.1 does not."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name)
