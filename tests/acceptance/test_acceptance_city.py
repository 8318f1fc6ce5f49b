"""The city as everybody meets it: one `ehr demo`, and only its public doors."""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.mllp.client import MllpClient
from tests.acceptance.demo import Demo, demo
from tests.faults.serving import living_in

NATIONAL_ID = "http://fhir.ehealth.gov.vn/core/sid/national_id"
LEDGER = "urn:city-ehr:intake-message"


@pytest.mark.timeout(300)
async def test_the_city_runs_is_seen_and_stops(data_dir: Path) -> None:
    async with demo(data_dir, "--facilities", "30", "--speed", "200", "--faults", "0.05") as city:
        base = (await city.wait_for(r"^ready (http://127\.0\.0\.1:\d+/fhir)$"))[0]
        citizens = await city.wait_for(r"citizen  (http\S+\?link=[\w-]+\.[\w-]+\.[\w-]+)\s", 3)
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as http, operator(city) as console:
            assert (await http.get("/Patient")).status_code == 401, "closed without a token"
            await every_feed_is_heard(console, base.removesuffix("/fhir"))
            http.headers["Authorization"] = f"Bearer {token(city)}"
            people = [e["resource"] for e in await entries(http, "/Person?_count=200")]
            assert people
            await persons_are_whole(http, people)
            await every_resource_says_where_it_came_from(http)
            await a_repeat_changes_nothing(city, http)
            await bad_input_is_refused_kept_and_shown(city, http, console, base)
            for link in citizens:
                await a_citizen_sees_themselves(link, people)
            patients = [e["resource"] for e in await entries(http, "/Patient?_count=500")]
        await city.wait_for(r"insurer accepted +([1-9]\d*)")
        assert await city.interrupt() == 0, city.screen()[-2_000:]
        screen, log = city.screen(), (data_dir / "demo.log").read_text()
    assert "balance closed" in screen
    assert "Traceback" not in screen + log
    assert '"event"' not in screen, "logs would tear the live table"
    moments = city.found(r"running (\d{4}-\d\d-\d\d \d\d:\d\d)")
    assert moments == sorted(moments), "the city's day does not go back"
    assert not [text for text in personal(patients) if text in log]
    assert not living_in(data_dir)


@asynccontextmanager
async def operator(city: Demo) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that followed the printed link of the console."""
    (link,) = city.found(r"^console  (http\S+)$")
    async with httpx.AsyncClient(trust_env=False, timeout=30, follow_redirects=True) as browser:
        assert "Heard from" in (await browser.get(link)).text
        yield browser


async def every_feed_is_heard(console: httpx.AsyncClient, root: str) -> None:
    """HL7 v2, FHIR and claim files: at least one facility of each has sent, by the console."""
    for feed in ("hl7v2", "fhir", "claim_xml"):
        for _ in range(300):
            shown = (await console.get(f"{root}/ops/facilities.fragment?feed={feed}")).text
            if re.search(r"<td>\d\d/\d\d/\d{4} ", shown):
                break
            await asyncio.sleep(0.2)
        else:
            raise AssertionError(f"no facility of the feed {feed} was heard in a minute")


def token(city: Demo) -> str:
    """By the command that the demo printed, as it was printed."""
    (printed,) = city.found(r"^token    \.venv/bin/ehr (.+)$")
    return city.command(*shlex.split(printed))


async def entries(http: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    answer = await http.get(path)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json().get("entry", [])
    return found


async def persons_are_whole(http: httpx.AsyncClient, people: list[dict[str, Any]]) -> None:
    """What is asked of a Person is what its Patients have together; its summary is valid by our own $validate."""
    one = max(people, key=lambda person: len(person["link"]))
    sources = [link["target"]["reference"].removeprefix("Patient/") for link in one["link"]]
    for name in ("Encounter", "Condition"):
        whole = {e["fullUrl"] for e in await entries(http, f"/Person/{one['id']}/{name}?_count=500")}
        parts = {e["fullUrl"] for id in sources for e in await entries(http, f"/{name}?patient={id}&_count=500")}
        assert whole <= parts or parts <= whole, "the same but for what arrived between the two questions"
        assert whole & parts
    everything = {e["fullUrl"] for e in await entries(http, f"/Person/{one['id']}/$everything?_count=1000")}
    assert {f"{http.base_url}Patient/{id}" for id in sources} <= everything
    document = await http.get(f"/Person/{one['id']}/$summary")
    for entry in document.json()["entry"]:
        found = await http.post(f"/{entry['resource']['resourceType']}/$validate", json=entry["resource"])
        assert not [i for i in found.json()["issue"] if i["severity"] in ("error", "fatal")], found.text
    checked = await http.post("/Bundle/$validate", json=document.json())
    assert not [i for i in checked.json()["issue"] if i["severity"] in ("error", "fatal")], checked.text


async def every_resource_says_where_it_came_from(http: httpx.AsyncClient) -> None:
    """Provenance to a facility's Organization and to the message of the ledger."""
    for name in ("Patient", "Encounter", "Condition", "Observation", "MedicationRequest"):
        found = await entries(http, f"/{name}?_revinclude=Provenance:target&_count=20")
        told: dict[str, list[dict[str, Any]]] = {}
        for entry in found:
            for target in entry["resource"].get("target", ()):
                told.setdefault(target["reference"].split("/_history")[0], []).append(entry["resource"])
        matches = [e["resource"] for e in found if e["search"]["mode"] == "match"]
        assert matches, name
        for resource in matches:
            proofs = told.get(f"{name}/{resource['id']}")
            assert proofs, f"{name}/{resource['id']} has no Provenance"
            for proof in proofs:
                assert proof["agent"][0]["who"]["reference"].startswith("Organization/")
                assert LEDGER in [e["what"]["identifier"]["system"] for e in proof["entity"]]


def hl7(facility: str, control_id: str, born: str = "19990201") -> bytes:
    return "\r".join([
        rf"MSH|^~\&|HIS|{facility}|EHR|HN|20261123080000||ADT^A04^ADT_A01|{control_id}|P|2.5.1|||||VNM|UNICODE UTF-8",
        "EVN|A04|20261123080000",
        f"PID|1||ACC-1^^^{facility}^PI~001199012345^^^VNM^NI||Kiểm^Thử||{born}|F",
        "PV1|1|O|||||||||||||||||ACC-1-1",
        "",
    ]).encode()  # fmt: skip


def segments(answer: bytes) -> dict[str, list[str]]:
    return {line.split("|")[0]: line.split("|") for line in answer.decode().split("\r") if line}


async def bad_input_is_refused_kept_and_shown(
    city: Demo, http: httpx.AsyncClient, console: httpx.AsyncClient, base: str
) -> None:
    root, sender = base.removesuffix("/fhir"), "01Z21"
    mllp = MllpClient("127.0.0.1", mllp_port(city))
    for block, code, location, words in (
        (hl7("99Z99", "acc-unknown"), "AR", "MSH^1^4", "the sending facility is not registered"),
        (hl7("01Z01", "acc-month", born="19991301"), "AE", "PID^1^7", "no such month"),
        (b"hello\r", "AR", "MSH^1", "a message starts with MSH"),
    ):
        said = segments(await mllp.send(block, timeout_s=10))
        assert said["MSA"][1] == code
        assert (said["ERR"][2], words in said["ERR"][8]) == (location, True), said["ERR"]
    await mllp.close()
    facility = city.command("token", "--client", "acc", "--scope", "system/*.cruds", "--facility", sender)
    headers = {"Authorization": f"Bearer {facility}", "Content-Type": "application/fhir+json"}
    wrong = {"resourceType": "Patient", "gender": "man", "birthDate": "1999-13-01"}
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": [entry_of(wrong)]}
    answer = await http.post(base, json=sent, headers=headers)
    assert answer.status_code == 400
    places = [issue["expression"] for issue in answer.json()["issue"]]
    assert places == [["Bundle.entry[0].resource.gender"], ["Bundle.entry[0].resource.birthDate"]]
    answer = await http.post(f"{root}/intake/claim-xml", content=b"<GIAMDINHHS>", headers=headers)
    assert answer.status_code == 400
    assert "line 1" in answer.json()["issue"][0]["details"]["text"]
    kept = [json.loads(line) for line in city.command("message", "list", "--state", "refused").splitlines()]
    assert {"acc-unknown", "acc-month"} <= {one["control_id"] for one in kept}
    told = {(one["channel"], one["facility"]) for one in kept}
    assert told >= {("fhir", sender), ("claim_xml", sender), ("mllp", "01Z01"), ("mllp", "")}
    shown = (await console.get(f"{root}/ops/messages?state=refused")).text
    for words in ("acc-month", "no such month", "the sending facility is not registered", "gender", "01Z21"):
        assert words in shown, words


def entry_of(resource: dict[str, Any]) -> dict[str, Any]:
    return {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}


def mllp_port(city: Demo) -> int:
    return int(city.found(r"^mllp     127\.0\.0\.1:(\d+)$")[0])


async def a_repeat_changes_nothing(city: Demo, http: httpx.AsyncClient) -> None:
    mllp = MllpClient("127.0.0.1", mllp_port(city))
    block = hl7("01Z01", "acc-good")
    first = await mllp.send(block, timeout_s=10)
    assert segments(first)["MSA"][1:] == ["AA", "acc-good"]
    assert await mllp.send(block, timeout_s=10) == first
    await mllp.close()
    found = await entries(http, "/Patient?identifier=ACC-1&organization.identifier=01Z01")
    assert [e["resource"]["meta"]["versionId"] for e in found] == ["1"]


async def a_citizen_sees_themselves(link: str, people: list[dict[str, Any]]) -> None:
    """The printed link opens the page of one person, and the cookie it gives opens no other door."""
    root = link.split("/citizen", maxsplit=1)[0]
    async with httpx.AsyncClient(trust_env=False, timeout=30, follow_redirects=True) as browser:
        page = await browser.get(link)
        assert page.status_code == 200
        numbers = {number for person in people for number in national(person)}
        assert len([number for number in numbers if number in page.text]) == 1, "one's own number and nobody else's"
        assert "My health record" in (await browser.get(f"{root}/citizen?lang=en")).text
        assert (await browser.get(f"{root}/citizen/summary.json")).json()["type"] == "document"
        assert (await browser.get(f"{root}/ops")).status_code == 401


def national(resource: dict[str, Any]) -> Iterator[str]:
    return (one["value"] for one in resource.get("identifier", ()) if one["system"] == NATIONAL_ID)


def personal(patients: list[dict[str, Any]]) -> list[str]:
    """What no log may hold: names, national numbers, telephones."""
    names = [name["text"] for one in patients for name in one["name"] if "text" in name]
    numbers = [number for one in patients for number in national(one)]
    phones = [t["value"] for one in patients for t in one.get("telecom", ())]
    assert len(names) > 10
    assert len(numbers) > 10
    return [*names, *numbers, *phones]
