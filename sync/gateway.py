"""Sealed files → the insurer's gateway, and its answers back.

Calls:   POST /api/token/take                            username, MD5 of the password in upper case → APIKey
         POST /api/qd130/guiHoSoXmlQD3176                headers accessToken, tokenId, passwordHash; form fields
         GET  /api/kcb/tra-cuu-trang-thai/{maGiaoDich}   standing of a file; the path of the Hanoi hub, because the
                                                         insurer documents no call for it (docs/adr/0055)
Source:  CV 1245/BHXH-CNTT 03/05/2024; practice of live systems: one account and token a facility, maTinh = first two
         characters of the facility code, renewed 60 s before it expires, 5 s to connect, 30 s to answer, 3 tries
Errors:  GatewayRefused      the gateway understood and said no; its code and words are kept
         Unavailable, Busy   try again later; the same bytes may be sent again, the gateway replaces by MA_LK
"""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from ehr.clock import Clock
from ehr.errors import Busy, Refused, Unavailable
from sync.accounts import Account, Accounts

TRIES_MAX: Final = 3
RENEW_BEFORE: Final = timedelta(seconds=60)
TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_PAUSE_S: Final = 0.5
_PAUSE_MAX_S: Final = 5.0
_DONE: Final = "200"
_TOKEN_REFUSED: Final = frozenset({"401", "501"})
_FILE_KIND: Final = "130"


class GatewayRefused(Refused):
    """The gateway refused a whole call. code: maKetQua."""

    http_status, issue_code, ack = 422, "processing", "AE"

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"the insurer's gateway answered {code}: {text}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Token:
    access: str
    id: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """The gateway has a file. transaction: maGiaoDich."""

    transaction: str
    received: str


class Gateway:
    """One client for all facilities; each call is made with the facility's own account and token."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, accounts: Accounts, clock: Clock) -> None:
        self._http, self._base, self._accounts, self._clock = http, base_url.rstrip("/"), accounts, clock
        self._tokens: dict[str, Token] = {}
        self._taking: dict[str, asyncio.Lock] = {}

    async def send(self, facility_code: str, body: bytes) -> Taken:
        """Send one sealed envelope."""
        account = self._accounts(facility_code)
        form = {
            "username": account.username,
            "loaiHoSo": _FILE_KIND,
            "maTinh": facility_code[:2],
            "maCSKCB": facility_code,
            "fileHSBase64": base64.b64encode(body).decode("ascii"),
        }

        async def call(headers: Mapping[str, str]) -> httpx.Response:
            url = f"{self._base}/api/qd130/guiHoSoXmlQD3176"
            return await self._http.post(url, headers=dict(headers), data=form, timeout=TIMEOUT)

        answer = await self._with_token(facility_code, account, call)
        transaction = str(answer.get("maGiaoDich") or "")
        if not transaction:
            # it may have been taken: the same bytes go again, and the insurer replaces by MA_LK
            raise Unavailable("the insurer's gateway said yes and gave no transaction number")
        return Taken(transaction, str(answer.get("thoiGianTiepNhan") or ""))

    async def standing(self, facility_code: str, transaction: str) -> dict[str, Any]:
        """What the gateway says of a file it has."""
        account = self._accounts(facility_code)

        async def call(headers: Mapping[str, str]) -> httpx.Response:
            url = f"{self._base}/api/kcb/tra-cuu-trang-thai/{transaction}"
            params = {"username": account.username, "maCSKCB": facility_code}
            return await self._http.get(url, headers=dict(headers), params=params, timeout=TIMEOUT)

        return await self._with_token(facility_code, account, call)

    async def _with_token(
        self, facility_code: str, account: Account, call: Callable[[Mapping[str, str]], Awaitable[httpx.Response]]
    ) -> dict[str, Any]:
        """Make a call, with a new token where the old one is refused, and again where the gateway is not well."""
        trouble: Exception | None = None
        for attempt in range(TRIES_MAX):
            if attempt:
                await asyncio.sleep(min(_PAUSE_MAX_S, _PAUSE_S * 2 ** (attempt - 1)))
            try:
                token = await self._token(facility_code, account)
                answer = _read(await call(_headers(token, account)))
            except (httpx.TransportError, Unavailable) as error:
                trouble = error
                continue
            code = str(answer.get("maKetQua", ""))
            if code == _DONE:
                return answer
            if code not in _TOKEN_REFUSED:
                raise GatewayRefused(code, str(answer.get("thongDiep", "")))
            trouble = GatewayRefused(code, str(answer.get("thongDiep", "")))
            self._tokens.pop(facility_code, None)
        if isinstance(trouble, (GatewayRefused, Unavailable)):
            raise trouble
        raise Unavailable(f"the insurer's gateway was not reached in {TRIES_MAX} tries") from trouble

    async def _token(self, facility_code: str, account: Account) -> Token:
        """The facility's token, taken anew a minute before it expires; one request at a time a facility."""
        async with self._taking.setdefault(facility_code, asyncio.Lock()):
            known = self._tokens.get(facility_code)
            if known is not None and self._clock.now() < known.expires - RENEW_BEFORE:
                return known
            form = {"username": account.username, "password": password_hash(account)}
            answer = _read(await self._http.post(f"{self._base}/api/token/take", data=form, timeout=TIMEOUT))
            code, key = str(answer.get("maKetQua", "")), answer.get("APIKey")
            if code != _DONE or not isinstance(key, dict):
                raise GatewayRefused(code, str(answer.get("thongDiep", "no token was given")))
            token = Token(str(key["access_token"]), str(key["id_token"]), _expiry(str(key["expires_in"])))
            self._tokens[facility_code] = token
            return token


def password_hash(account: Account) -> str:
    """MD5 in upper case: what the gateway asks for, and all it asks for."""
    return hashlib.md5(account.password.encode(), usedforsecurity=False).hexdigest().upper()


def _headers(token: Token, account: Account) -> dict[str, str]:
    return {"accessToken": token.access, "tokenId": token.id, "passwordHash": password_hash(account)}


def _read(response: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer. The gateway says no in its body; HTTP statuses come from what stands before it."""
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise Busy("the insurer's gateway asks to wait")
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Unavailable(f"the insurer's gateway answered HTTP {response.status_code}")
    try:
        answer = response.json()
    except ValueError as error:
        raise Unavailable(f"the insurer's gateway answered HTTP {response.status_code} without JSON") from error
    if not isinstance(answer, dict):
        raise Unavailable("the insurer's gateway answered JSON that is no object")
    return answer


def _expiry(text: str) -> datetime:
    """expires_in is a date-time in UTC, with or without its Z."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Unavailable("the insurer's gateway gave a token whose expiry cannot be read") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
