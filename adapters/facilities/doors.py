"""Send one message of a facility through a real socket and say how it was answered.

In:      Outgoing payloads; the addresses of the MLLP listener, the FHIR base and the claim-file door
Out:     Answer(said, accepted, final, body)
Errors:  NoAnswer: connection lost, deadline passed, or the server asks to try later; the caller sends again
Source:  HL7 v2.5.1 2.9 (MSA-1: AA, AE, AR), RFC 9110 (409, 425, 429 and 5xx may be tried again)
"""

import asyncio
import base64
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx

from adapters.facilities.outgoing import Outgoing
from adapters.facilities.registry import Facility
from adapters.mllp.client import MllpClient, NotAnswered
from ehr.clock import Clock

ANSWER_S: Final = 30.0
_TRY_LATER: Final = frozenset({408, 425, 429})
_RENEW_BEFORE_S: Final = 60.0
_SCOPE: Final = "system/*.cruds"


class NoAnswer(Exception):
    """The fate of the message is unknown or put off: send the same bytes again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """said: AA, AE, AR, or the HTTP status."""

    said: str
    accepted: bool
    body: bytes


class Tokens(Protocol):
    async def token(self, facility: Facility) -> str | None:
        """A bearer token of the facility's client; None where the server asks for none."""
        ...

    def forget(self, facility: Facility) -> None:
        """The token was refused: get a new one next time."""
        ...


class NoTokens:
    """For a server with open access on loopback."""

    async def token(self, facility: Facility) -> str | None:  # noqa: ARG002 - the port's signature
        return None

    def forget(self, facility: Facility) -> None: ...


class ClientCredentials:
    """Tokens by the client-credentials grant, one client a facility (RFC 6749 4.4), renewed before they end."""

    def __init__(self, http: httpx.AsyncClient, token_url: str, secrets: Mapping[str, str], clock: Clock) -> None:
        self._http = http
        self._url = token_url
        self._secrets = secrets
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    async def token(self, facility: Facility) -> str | None:
        held = self._held.get(facility.client_id)
        if held is not None and self._clock.monotonic_s() < held[1]:
            return held[0]
        basic = base64.b64encode(f"{facility.client_id}:{self._secrets[facility.client_id]}".encode()).decode()
        try:
            response = await self._http.post(
                self._url,
                data={"grant_type": "client_credentials", "scope": _SCOPE},
                headers={"authorization": f"Basic {basic}"},
                timeout=ANSWER_S,
            )
        except httpx.TransportError as error:
            raise NoAnswer("the token endpoint cannot be reached") from error
        if response.status_code != 200:
            raise NoAnswer(f"the token endpoint answered {response.status_code}")
        granted = response.json()
        ends_s = self._clock.monotonic_s() + max(1.0, float(granted["expires_in"]) - _RENEW_BEFORE_S)
        self._held[facility.client_id] = (str(granted["access_token"]), ends_s)
        return str(granted["access_token"])

    def forget(self, facility: Facility) -> None:
        self._held.pop(facility.client_id, None)


class MllpDoor:
    """One persistent connection of one facility."""

    def __init__(self, host: str, port: int) -> None:
        self._client = MllpClient(host, port)
        self._address = (host, port)

    async def send(self, message: Outgoing, payload: bytes) -> Answer:  # noqa: ARG002 - one shape for all doors
        try:
            body = await self._client.send(payload, ANSWER_S)
        except NotAnswered as error:
            raise NoAnswer(str(error)) from error
        said = acknowledged(body)
        return Answer(said, said == "AA", body)

    async def cut(self, payload: bytes, part: float) -> None:
        """Begin the message on a connection of its own and break it off."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*self._address)
            writer.write(b"\x0b" + payload[: int(len(payload) * part)])
            await _hang_up(writer)

    async def close(self) -> None:
        await self._client.close()


class HttpDoor:
    """The HTTP feed of one facility; connections are the client's pool."""

    def __init__(self, http: httpx.AsyncClient, url: str, media_type: str, facility: Facility, tokens: Tokens) -> None:
        self._http = http
        self._url = url
        self._media_type = media_type
        self._facility = facility
        self._tokens = tokens

    async def send(self, message: Outgoing, payload: bytes) -> Answer:
        headers = {"content-type": self._media_type, "x-message-control-id": message.control_id}
        token = await self._tokens.token(self._facility)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        try:
            response = await self._http.post(self._url, content=payload, headers=headers, timeout=ANSWER_S)
        except httpx.TransportError as error:
            raise NoAnswer(type(error).__name__) from error
        if response.status_code == 401:
            self._tokens.forget(self._facility)
            raise NoAnswer("the token was refused")
        if response.status_code >= 500 or response.status_code in _TRY_LATER:
            raise NoAnswer(f"status {response.status_code}")
        return Answer(str(response.status_code), response.is_success, response.content)

    async def cut(self, payload: bytes, part: float) -> None:
        """Announce the whole body, send a part of it, and hang up."""
        address = urlsplit(self._url)
        head = (
            f"POST {address.path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: {self._media_type}\r\n"
            f"content-length: {len(payload)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(address.hostname, address.port or 80)
            writer.write(head.encode() + payload[: int(len(payload) * part)])
            await _hang_up(writer)

    async def close(self) -> None:
        """The pool belongs to the run."""


Door = MllpDoor | HttpDoor


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def acknowledged(answer: bytes) -> str:
    """MSA-1 of an acknowledgment, "?" where there is none."""
    for line in answer.replace(b"\n", b"\r").split(b"\r"):
        if line.startswith(b"MSA") and len(line) > 5:
            return line[4:6].decode("ascii", "replace")
    return "?"
