"""The token endpoint: who gets a token, and what it is worth."""

import asyncio
import hashlib
import json
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from typer.testing import CliRunner

from ehr import cli
from ehr.access.clients import ASSERTION_TYPE, read_jwks, register_client
from ehr.errors import Invalid
from ehr.ids import new_id
from tests.api.conftest import City
from tests.api.mothers import patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GRANT = {"grant_type": "client_credentials", "scope": "system/Patient.rs system/Observation.cruds openid"}


async def ask(city: City, form: dict[str, str], **headers: str) -> httpx.Response:
    address = city.base.removesuffix("/fhir") + "/oauth/token"
    return await city.client().post(address, data=form, headers={**FORM, **headers})


def basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{quote(name, safe='')}:{quote(secret, safe='')}".encode()).decode()


async def test_a_client_gets_what_it_asked_for_and_is_registered_for(shared_city: City) -> None:
    secret = await register_client(shared_city.record, "app-1", "An app", "system/*.rs")
    answers = [
        await ask(shared_city, {**GRANT, "client_id": "app-1", "client_secret": secret}),
        await ask(shared_city, GRANT, authorization=basic("app-1", secret)),
    ]
    for answer in answers:
        body = answer.json()
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
        assert body["scope"] == "system/Patient.rs system/Observation.rs"
        client = shared_city.client(body["access_token"])
        assert (await client.get("/Patient")).status_code == 200
        assert (await client.post("/Patient", json=patient())).status_code == 403
        assert (await client.get("/Encounter")).status_code == 403
    async with shared_city.record.database.acquire() as connection:
        kept = await connection.fetchval("SELECT secret_sha256 FROM client WHERE id = 'app-1'")
    assert kept == hashlib.sha256(secret.encode()).digest()


async def test_unknown_wrong_and_inactive_look_the_same(shared_city: City) -> None:
    secret = await register_client(shared_city.record, "app-1", "An app", "system/*.rs")
    gone = await register_client(shared_city.record, "app-2", "Another", "system/*.rs")
    async with shared_city.record.database.acquire() as connection:
        await connection.execute("UPDATE client SET active = false WHERE id = 'app-2'")
    tried = [("app-1", "wrong"), ("app-1", ""), ("app-2", gone), ("nobody", secret), ("", ""), ("a b", secret)]
    answers = [await ask(shared_city, {**GRANT, "client_id": name, "client_secret": word}) for name, word in tried]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    refused = await ask(shared_city, GRANT, authorization=basic("app-1", "wrong"))
    assert refused.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({}, "invalid_request"),
        ({**GRANT, "client_secret": "x", "client_assertion": "y"}, "invalid_request"),
        ({**GRANT, "client_assertion": "a.b.c", "client_assertion_type": "other"}, "invalid_request"),
    ],
)
async def test_other_requests_are_refused_by_their_name(shared_city: City, form: dict[str, str], error: str) -> None:
    answer = await ask(shared_city, form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_scope_that_is_not_registered_is_no_scope(shared_city: City) -> None:
    secret = await register_client(shared_city.record, "app-1", "An app", "system/Patient.rs")
    for scope in ("system/Observation.rs", "patient/Patient.rs", "nonsense", ""):
        answer = await ask(shared_city, {**GRANT, "scope": scope, "client_id": "app-1", "client_secret": secret})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


async def test_keys_are_registered_from_a_file(
    shared_city: City, module_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EHR_DATABASE_URL", module_database_url)
    monkeypatch.setenv("EHR_DATA_DIR", str(tmp_path))
    file = tmp_path / "jwks.json"
    command = ["client", "register", "app-f", "--scope", "system/*.rs", "--jwks", str(file)]
    file.write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}))
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, command)
    assert (done.exit_code, done.output) == (0, "")
    signed = await assertion(shared_city, iss="app-f", sub="app-f")
    form = {**GRANT, "client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}
    assert (await ask(shared_city, form)).status_code == 200


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "EC"}]}', '{"kty": "EC"}'])
async def test_what_is_no_jwks_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="JWKS"):
        read_jwks(text.encode())


async def test_registration_refuses_what_it_does_not_understand(shared_city: City) -> None:
    for name, scope in (("app 1", "system/*.rs"), ("app-1", "system/*.sr"), ("app-1", "all")):
        with pytest.raises(Invalid):
            await register_client(shared_city.record, name, "x", scope)


KEY = ECKey.generate_key("P-256", {"kid": "k1"}, private=True)
ANOTHER = ECKey.generate_key("P-256", {"kid": "k1"}, private=True)
RSA = RSAKey.generate_key(2048, {"kid": "k2"}, private=True)


async def assertion(
    city: City, key: Any = KEY, *, alg: str = "ES256", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    now = int(city.record.clock.now().timestamp())
    claims = {
        "iss": "app-k",
        "sub": "app-k",
        "aud": city.base.removesuffix("/fhir") + "/oauth/token",
        "exp": now + 120,
        "jti": new_id(),
        **changes,
    }
    said = {name: value(now) if callable(value) else value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}, said, key, algorithms=[alg])


async def present(city: City, token: str) -> httpx.Response:
    return await ask(city, {**GRANT, "client_assertion_type": ASSERTION_TYPE, "client_assertion": token})


async def registered(city: City) -> None:
    jwks = {"keys": [key.as_dict(private=True) for key in (KEY, RSA)]}
    assert await register_client(city.record, "app-k", "With keys", "system/*.rs", jwks=jwks) == ""


async def test_a_signed_assertion_is_accepted_once(shared_city: City) -> None:
    await registered(shared_city)
    token = await assertion(shared_city)
    assert (await present(shared_city, token)).status_code == 200
    replay = await present(shared_city, token)
    assert (replay.status_code, replay.json()["error"]) == (401, "invalid_client")
    assert (await present(shared_city, await assertion(shared_city, RSA, alg="RS256"))).status_code == 200
    async with shared_city.record.database.acquire() as connection:
        assert '"d"' not in await connection.fetchval("SELECT jwks::text FROM client WHERE id = 'app-k'")


FORGED: dict[str, dict[str, Any]] = {
    "another key": {"key": ANOTHER},
    "unknown kid": {"header": {"kid": "unknown"}},
    "jku": {"header": {"jku": "http://attacker.example/jwks"}},
    "another issuer": {"iss": "someone-else"},
    "another subject": {"sub": "nobody"},
    "another audience": {"aud": "http://elsewhere.example/oauth/token"},
    "no audience": {"aud": None},
    "expired": {"exp": lambda now: now - 120},
    "too long": {"exp": lambda now: now + 3600},
    "no end": {"exp": None},
    "not yet": {"nbf": lambda now: now + 600},
    "no jti": {"jti": None},
    "long jti": {"jti": "x" * 300},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
async def test_a_forged_assertion_is_refused(shared_city: City, changes: dict[str, Any]) -> None:
    await registered(shared_city)
    answer = await present(shared_city, await assertion(shared_city, **changes))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_the_well_known_documents_lead_to_each_other(shared_city: City) -> None:
    document = (await shared_city.client().get("/.well-known/smart-configuration")).json()
    assert document["token_endpoint"] == shared_city.base.removesuffix("/fhir") + "/oauth/token"
    keys = (await shared_city.client().get(document["jwks_uri"])).json()["keys"]
    assert [(key["kty"], key["alg"], "d" in key) for key in keys] == [("EC", "ES256", False)]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer a.b.c, Bearer d.e.f"])
async def test_without_an_accepted_token_nothing_is_told(shared_city: City, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answers = [
        await shared_city.client().get(url, headers=headers) for url in ("/Patient", "/Patient/absent", "/_history")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].headers["www-authenticate"].startswith("Bearer")


async def test_a_token_in_the_address_is_not_read(shared_city: City) -> None:
    token = shared_city.system().headers["authorization"].removeprefix("Bearer ")
    assert (await shared_city.client().get("/Patient", params={"access_token": token})).status_code == 401
