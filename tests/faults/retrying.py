"""HTTP writes that are sent again until they are answered, and what each answer said was written.

Ask       one request with the means to repeat it: Idempotency-Key, If-None-Exist, or the facility's ledger
Sender    sends it until an answer is read; sometimes hangs up before the answer, as a mobile network does
Answer    status, and the versions it names ("Patient/x/_history/1"): the part that must be the same in every answer
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

TAG: Final = "urn:test:tag"
COUNT: Final = "urn:test:count"
CCCD: Final = "http://fhir.ehealth.gov.vn/core/sid/national_id"
_VERSION: Final = re.compile(r"([A-Z][A-Za-z]+/[A-Za-z0-9.-]+/_history/\d+)$")
HANG_UP_RATE: Final = 0.15
AGAIN_S: Final = 0.05


@dataclass(frozen=True)
class Answer:
    status: int
    places: tuple[str, ...]
    body: bytes


@dataclass
class Ask:
    """tag names everything the request makes; parts is the number of Observations beside its Patient."""

    kind: str
    tag: str
    method: str
    path: str
    tree: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: int = 0
    answer: Answer | None = None


def patient(tag: str, *more: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": TAG, "value": tag}, *more],
        "name": [{"family": "Nguyễn", "given": ["Thị", "Đào"]}],
    }


def observation(tag: str, subject: str, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "identifier": [{"system": TAG, "value": f"{tag}.{number}"}],
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]},
        "subject": {"reference": subject},
        "valueQuantity": {"value": number, "unit": "mmol/L"},
    }


def bundle(tag: str, parts: int, *, conditional: bool, more: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    """A transaction: a Patient and its Observations, created if they are not there where conditional."""
    subject = f"urn:uuid:{random.Random(tag).getrandbits(128):032x}"
    subject = f"{subject[:17]}-{subject[17:21]}-4{subject[22:25]}-8{subject[26:29]}-{subject[29:]}"
    made: list[tuple[str, dict[str, Any], str, str | None]] = [("Patient", patient(tag, *more), tag, subject)]
    made += [("Observation", observation(tag, subject, n), f"{tag}.{n}", None) for n in range(parts)]
    entries = []
    for name, tree, value, full_url in made:
        request = {"method": "POST", "url": name}
        if conditional:
            request["ifNoneExist"] = f"identifier={TAG}|{value}"
        entries.append({"resource": tree, "request": request} | ({"fullUrl": full_url} if full_url else {}))
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def keyed_create(tag: str) -> Ask:
    return Ask("keyed create", tag, "POST", "/Patient", patient(tag), {"Idempotency-Key": tag})


def conditional_create(tag: str) -> Ask:
    return Ask(
        "conditional create", tag, "POST", "/Patient", patient(tag), {"If-None-Exist": f"identifier={TAG}|{tag}"}
    )


def keyed_transaction(tag: str, parts: int = 3) -> Ask:
    tree = bundle(tag, parts, conditional=False)
    return Ask("keyed transaction", tag, "POST", "", tree, {"Idempotency-Key": tag}, parts)


def conditional_transaction(tag: str, parts: int = 3) -> Ask:
    return Ask("conditional transaction", tag, "POST", "", bundle(tag, parts, conditional=True), {}, parts)


def facility_transaction(tag: str, cccd: str, parts: int = 2) -> Ask:
    """As a facility pushes it: its control id in Bundle.identifier, and a person's number in the Patient."""
    tree = bundle(tag, parts, conditional=False, more=({"system": CCCD, "value": cccd},))
    tree["identifier"] = {"system": "urn:test:control-id", "value": tag}
    return Ask("facility transaction", tag, "POST", "", tree, {}, parts)


def counting_update(id: str, number: int) -> Ask:
    """The number-th version of a counter, onto the one before it."""
    tree = {
        "resourceType": "Basic",
        "id": id,
        "code": {"text": "counter"},
        "identifier": [{"system": COUNT, "value": str(number)}],
    }
    match = {"If-Match": f'W/"{number - 1}"'} if number > 1 else {}
    return Ask("update", id, "PUT", f"/Basic/{id}", tree, {"Idempotency-Key": f"{id}.{number}", **match})


class Sender:
    """One client. where() is the FHIR base now; headers() what every request carries (a token)."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        up: asyncio.Event,
        chance: random.Random,
        where: Callable[[], str],
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._http, self._up, self._chance = http, up, chance
        self._where, self._headers = where, headers
        self.cut = 0
        """Requests whose connection broke before the answer: nobody told us whether they were done."""
        self.hung_up = 0

    async def until_answered(self, ask: Ask) -> Answer:
        """Send, and send again, until an answer is read. An answer that is no success is a failure of the test."""
        while True:
            await self._up.wait()
            patience_s = self._chance.uniform(0.005, 0.08) if self._chance.random() < HANG_UP_RATE else None
            try:
                async with asyncio.timeout(patience_s):
                    response = await self._send(ask)
            except TimeoutError:
                self.hung_up += 1
                continue
            except httpx.TransportError:
                self.cut += 1
                await asyncio.sleep(AGAIN_S)
                continue
            if response.status_code == 503:
                await asyncio.sleep(AGAIN_S)
                continue
            assert response.status_code in (200, 201), (ask.kind, response.status_code, response.text)
            return Answer(response.status_code, places(response), response.content)

    async def _send(self, ask: Ask) -> httpx.Response:
        headers = {"Content-Type": "application/fhir+json", **self._headers(), **ask.headers}
        return await self._http.request(
            ask.method, self._where() + ask.path, content=orjson.dumps(ask.tree), headers=headers
        )


def places(response: httpx.Response) -> tuple[str, ...]:
    """The versions an answer names, in its order."""
    location = response.headers.get("location")
    named = [location] if location else [one["response"]["location"] for one in response.json().get("entry", ())]
    found = [_VERSION.search(one) for one in named]
    assert all(found), named
    return tuple(one[1] for one in found if one)
