"""Tokens that must not be accepted, each with the trick it plays."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from ehr.access.authenticate import Authenticator, citizen_link, citizen_token, issue_token
from ehr.access.keys import SigningKeys, load_keys
from ehr.access.policy import Caller
from ehr.access.token import ACCESS, NotAccepted, Tokens
from ehr.errors import Unauthenticated
from ehr.settings import Settings

ISSUER = "http://127.0.0.1:8000/fhir"


class FixedClock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def monotonic_s(self) -> float:
        return self.moment.timestamp()


class Timed:
    def __init__(self) -> None:
        self.clock = FixedClock()


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeys:
    return load_keys(tmp_path)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def tokens(keys: SigningKeys, clock: FixedClock) -> Tokens:
    return Tokens(keys, issuer=ISSUER, clock=clock)


def claims(clock: FixedClock, **changes: Any) -> dict[str, Any]:
    now = int(clock.now().timestamp())
    good: dict[str, Any] = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": "clinic",
        "client_id": "clinic",
        "kind": "client",
        "scope": "system/*.cruds",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "jti": "1",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(key: Any, said: dict[str, Any], **header: Any) -> str:
    full = {"alg": "ES256", "typ": ACCESS, "kid": key.thumbprint(), **header}
    return jwt.encode({k: v for k, v in full.items() if v is not None}, said, key, algorithms=[full["alg"]])


def plain(header: dict[str, Any], said: dict[str, Any], signature: str = "") -> str:
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, said)]
    return ".".join([*parts, signature])


Forge = Callable[[SigningKeys, FixedClock], str]


def _own(**changes: Any) -> Forge:
    return lambda keys, clock: signed(keys.signing, claims(clock, **changes))


def _at(**offsets: int) -> Forge:
    def forge(keys: SigningKeys, clock: FixedClock) -> str:
        now = int(clock.now().timestamp())
        return signed(keys.signing, claims(clock, **{name: now + offset for name, offset in offsets.items()}))

    return forge


def _header(**header: Any) -> Forge:
    return lambda keys, clock: signed(keys.signing, claims(clock), **header)


def _public_as_secret(keys: SigningKeys, clock: FixedClock) -> str:
    """By hand: the library refuses to sign like that."""
    unsigned = plain({"alg": "HS256", "typ": ACCESS, "kid": keys.signing.thumbprint()}, claims(clock))
    digest = hmac.digest(keys.signing.as_pem(private=False), unsigned.rstrip(".").encode(), "sha256")
    return unsigned + urlsafe_b64encode(digest).rstrip(b"=").decode()


def _cut(keys: SigningKeys, clock: FixedClock) -> str:
    return signed(keys.signing, claims(clock))[:-2]


def _other_payload(keys: SigningKeys, clock: FixedClock) -> str:
    head, _, signature = signed(keys.signing, claims(clock, scope="system/Patient.r")).split(".")
    payload = urlsafe_b64encode(json.dumps(claims(clock)).encode()).rstrip(b"=").decode()
    return f"{head}.{payload}.{signature}"


def _encrypted(keys: SigningKeys, clock: FixedClock) -> str:
    return jwe.encrypt_compact({"alg": "dir", "enc": "A128GCM"}, b"x", OctKey.generate_key(128))


FORGERIES: dict[str, Forge] = {
    "empty": lambda *_: "",
    "not a token": lambda *_: "let me in",
    "two parts": lambda *_: "a.b",
    "huge": lambda *_: "a" * 100_000 + ".b.c",
    "not base64": lambda *_: "é.é.é",
    "alg none": lambda _, clock: plain({"alg": "none", "typ": ACCESS}, claims(clock)),
    "alg None with a signature": lambda keys, clock: plain(
        {"alg": "None", "typ": ACCESS, "kid": keys.signing.thumbprint()}, claims(clock), "AAAA"
    ),
    "HS256 with the public key": _public_as_secret,
    "another EC key, its own kid": lambda _, clock: signed(ECKey.generate_key("P-256"), claims(clock)),
    "another EC key, our kid": lambda keys, clock: signed(
        ECKey.generate_key("P-256"), claims(clock), kid=keys.signing.thumbprint()
    ),
    "RS256": lambda keys, clock: signed(
        RSAKey.generate_key(2048), claims(clock), alg="RS256", kid=keys.signing.thumbprint()
    ),
    "no kid": _header(kid=None),
    "unknown kid": _header(kid="../../etc/passwd"),
    "jku": _header(jku="http://attacker.example/jwks"),
    "x5u": _header(x5u="http://attacker.example/cert"),
    "jwk in the header": lambda keys, clock: signed(
        keys.signing, claims(clock), jwk=ECKey.generate_key("P-256").as_dict(private=False)
    ),
    "crit": _header(crit=["alg"]),
    "typ JWT": _header(typ="JWT"),
    "a link's typ": _header(typ="link+jwt"),
    "wrong issuer": _own(iss="http://evil.example/fhir"),
    "no issuer": _own(iss=None),
    "wrong audience": _own(aud="http://127.0.0.1:8001/fhir"),
    "audience list": _own(aud=[ISSUER, "other"]),
    "no audience": _own(aud=None),
    "expired": _at(exp=-61),
    "no expiry": _own(exp=None),
    "expiry as text": _own(exp="2999-01-01"),
    "expiry true": _own(exp=True),
    "expiry infinite": _own(exp=2**63),
    "expiry negative": _own(exp=-1),
    "not before the future": _at(nbf=61),
    "issued in the future": _at(iat=3600),
    "nbf as text": _own(nbf="now"),
    "kind system": _own(kind="system"),
    "kind facility": _own(kind="facility"),
    "no kind": _own(kind=None),
    "citizen without a person": _own(kind="citizen", scope="patient/*.rs"),
    "client with a person": _own(person_id="p1"),
    "scope as list": _own(scope=["system/*.cruds"]),
    "subject as number": _own(sub=7),
    "facility as text": _own(facility_id="1"),
    "signature cut": _cut,
    "another payload under the signature": _other_payload,
    "encrypted": _encrypted,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_and_every_refusal_looks_the_same(
    name: str, tokens: Tokens, keys: SigningKeys, clock: FixedClock
) -> None:
    with pytest.raises(NotAccepted) as refused:
        tokens.verify(FORGERIES[name](keys, clock))
    assert str(refused.value) == str(NotAccepted("any"))
    assert refused.value.http_status == 401


def test_our_own_token_is_accepted_with_its_scopes(tokens: Tokens) -> None:
    found = tokens.verify(issue_token(tokens, "clinic", "system/Patient.rs", facility_id=7))
    assert (found.subject, found.scope, found.facility_id, found.person_id) == ("clinic", "system/Patient.rs", 7, None)


def test_a_token_dies_when_its_time_is_over_although_it_was_accepted_before(tokens: Tokens, clock: FixedClock) -> None:
    token = issue_token(tokens, "clinic", "system/*.rs", life_s=60)
    tokens.verify(token)
    clock.moment += timedelta(seconds=200)
    with pytest.raises(NotAccepted):
        tokens.verify(token)


def test_a_retired_key_still_verifies_and_the_new_one_signs(tmp_path: Path, clock: FixedClock) -> None:
    old = Tokens(load_keys(tmp_path), issuer=ISSUER, clock=clock)
    token = issue_token(old, "clinic", "system/*.rs")
    folder = tmp_path / "keys"
    (folder / "token-signing.jwk").rename(folder / "token-retired-1.jwk")
    renewed = Tokens(load_keys(tmp_path), issuer=ISSUER, clock=clock)
    assert renewed.verify(token).subject == "clinic"
    assert renewed.keys.signing.thumbprint() != old.keys.signing.thumbprint()
    assert all("d" not in key for key in renewed.keys.public()["keys"])


def test_the_key_file_is_private_and_a_readable_one_is_refused(tmp_path: Path) -> None:
    load_keys(tmp_path)
    path = tmp_path / "keys" / "token-signing.jwk"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(PermissionError):
        load_keys(tmp_path)


def _settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings(data_dir=tmp_path, **changes)


async def test_a_citizen_is_confined_and_gets_no_system_right(tmp_path: Path) -> None:
    authenticator = Authenticator(Timed(), _settings(tmp_path))
    token = citizen_token(authenticator.tokens, "person-1")
    caller = authenticator.caller({"authorization": f"Bearer {token}"})
    assert (caller.kind, caller.person_id) == ("citizen", "person-1")
    assert caller.grants.allow("Observation", "r")
    assert not caller.grants.allow("Observation", "u")


async def test_a_system_scope_in_a_citizens_token_gives_nothing(tmp_path: Path) -> None:
    authenticator = Authenticator(Timed(), _settings(tmp_path))
    token = authenticator.tokens.issue("p", "system/*.cruds", kind="citizen", person_id="p")
    caller = authenticator.caller({"authorization": f"Bearer {token}"})
    assert not caller.grants.allow("Patient", "r")


async def test_a_link_opens_no_api(tmp_path: Path) -> None:
    authenticator = Authenticator(Timed(), _settings(tmp_path))
    link = citizen_link(authenticator.tokens, "person-1")
    with pytest.raises(Unauthenticated):
        authenticator.caller({"authorization": f"Bearer {link}"})


@pytest.mark.parametrize(
    ("peer", "host", "opens"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("::1", "[::1]:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("10.0.0.5", "127.0.0.1:8000", False),
        ("127.0.0.1", "rebound.example:8000", False),
        ("127.0.0.1", "", False),
        (None, "127.0.0.1:8000", False),
    ],
)
async def test_open_access_is_for_this_machine_only(tmp_path: Path, peer: str | None, host: str, opens: bool) -> None:
    authenticator = Authenticator(Timed(), _settings(tmp_path, access="open"))
    if opens:
        assert authenticator.caller({"host": host}, peer) == Caller.system("open access")
    else:
        with pytest.raises(Unauthenticated, match="localhost"):
            authenticator.caller({"host": host}, peer)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "ehr.example"])
def test_open_access_is_refused_on_any_other_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError):
        Authenticator(Timed(), _settings(tmp_path, access="open", host=host))


async def test_enforced_access_needs_a_token_on_this_machine_too(tmp_path: Path) -> None:
    authenticator = Authenticator(Timed(), _settings(tmp_path))
    with pytest.raises(Unauthenticated):
        authenticator.caller({"host": "127.0.0.1"}, "127.0.0.1")
