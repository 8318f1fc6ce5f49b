"""What a citizen reads of an uncommon record: partial persons, days near midnight, withdrawn and flagged results, and
everybody who looked, however long ago."""

import re
from typing import Any

import httpx
import orjson

from ehr.access.authenticate import citizen_link
from ehr.fhir.vietnam import NATIONAL_ID, PATIENT_NUMBER
from ehr.identity import by_national_id
from tests.api.conftest import City
from tests.api.test_api_pages import CCCD, HL7, browser, person

LABORATORY = [{"coding": [{"system": f"{HL7}/observation-category", "code": "laboratory"}]}]
PAGE_BYTES_MAX = 100_000


async def patient_of(city: City, person_id: str) -> str:
    """One source Patient of a person."""
    found = (await city.system(name="setup").get(f"/Person/{person_id}")).json()
    return str(found["link"][0]["target"]["reference"])


def result(subject: str, name: str, **elements: Any) -> dict[str, Any]:
    told = {"status": "final", "category": LABORATORY, "code": {"text": name}, "subject": {"reference": subject}}
    return {"resourceType": "Observation", **told, **elements}


async def stored(city: City, *resources: dict[str, Any]) -> None:
    entries = [{"resource": one, "request": {"method": "POST", "url": one["resourceType"]}} for one in resources]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await city.system(name="laboratory").post("", content=orjson.dumps(bundle))
    assert answer.status_code == 200, answer.text


async def citizen(city: City, person_id: str) -> httpx.AsyncClient:
    return await browser(city, citizen_link(city.authenticator.tokens, person_id))


async def read(client: httpx.AsyncClient, path: str = "/citizen?lang=en") -> str:
    answer = await client.get(path)
    assert answer.status_code == 200
    return " ".join(answer.text.split())


async def test_results_say_the_day_here_the_laboratory_s_word_and_what_became_of_them(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    subject = await patient_of(city, person_id)
    flag = {"system": f"{HL7}/v3-ObservationInterpretation"}
    ranges = [
        {"low": {"value": 13}, "high": {"value": 17}, "appliesTo": [{"text": "Nam"}]},
        {"low": {"value": 12}, "high": {"value": 15}, "appliesTo": [{"text": "Nữ"}]},
    ]
    await stored(
        city,
        result(subject, "Late", valueQuantity={"value": 1}, effectiveDateTime="2026-11-01T23:30:00Z"),
        result(subject, "Early", valueQuantity={"value": 1}, effectiveDateTime="2026-11-02T01:00:00+07:00"),
        result(subject, "Iron", valueQuantity={"value": 14}, interpretation=[{"coding": [{**flag, "code": "LL"}]}]),
        result(subject, "Virus", valueString="x", interpretation=[{"coding": [{**flag, "code": "NEG"}]}]),
        result(subject, "Both", valueQuantity={"value": 12.5}, referenceRange=ranges),
        result(subject, "Smoker", valueBoolean=False),
        result(subject, "Titre", valueRatio={"numerator": {"value": 1}, "denominator": {"value": 128}}),
        result(subject, "Mended", valueQuantity={"value": 1}, status="corrected", effectiveDateTime="2026"),
        result(subject, "Early word", valueQuantity={"value": 1}, status="preliminary"),
        result(subject, "Mistake", valueQuantity={"value": 99}, status="entered-in-error"),
        result(subject, "Called off", status="cancelled"),
    )
    page = await read(await citizen(city, person_id))
    assert re.search(r"<b>Late</b>: 1 <br><span class=\"note\">02/11/2026.*<b>Early</b>: 1 <br>", page)
    assert '<b>Iron</b>: <span class="alert">↓ below the reference range</span>' in page
    assert "<b>Virus</b>: <span>negative</span>" in page
    assert "Nam: 13 - 17; Nữ: 12 - 15" in page
    assert "<b>Smoker</b>: Không / No" in page
    assert "<b>Titre</b>: 1 : 128" in page
    assert re.search(r"<b>Mended</b>: 1 \(corrected by the sender\) <br><span class=\"note\">2026", page)
    assert "(preliminary, may still change)" in page
    assert "Mistake" not in page
    assert "Called off" not in page


async def test_a_person_of_whom_little_is_known_is_told_so(city: City) -> None:
    known = [{"system": NATIONAL_ID, "value": CCCD}, {"system": PATIENT_NUMBER, "value": "1"}]
    await stored(city, {"resourceType": "Patient", "identifier": known, "deceasedDateTime": "2026-11-01T23:30:00Z"})
    async with city.record.database.acquire() as connection:
        person_id = await by_national_id(connection, CCCD)
    assert person_id is not None
    page = await read(await citizen(city, person_id))
    assert '<h2 id="who">Not named</h2>' in page
    assert "<dt>Born</dt><dd>Not given</dd>" in page
    assert "<dt>Recorded as deceased</dt><dd>02/11/2026</dd>" in page
    assert "<dt>Sex</dt><dd>Unknown</dd>" in page
    assert "That does not mean you have none" in page
    assert "0 places opened your record" in page


async def test_a_problem_that_is_over_or_not_sure_does_not_read_as_one_that_is(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    subject = {"reference": await patient_of(city, person_id)}

    def problem(name: str, clinical: str, sure: str) -> dict[str, Any]:
        return {
            "resourceType": "Condition",
            "clinicalStatus": {"coding": [{"system": f"{HL7}/condition-clinical", "code": clinical}]},
            "verificationStatus": {"coding": [{"system": f"{HL7}/condition-ver-status", "code": sure}]},
            "code": {"coding": [{"code": name}]},
            "subject": subject,
        }

    await stored(city, problem("J18.9", "resolved", "confirmed"), problem("C34.9", "active", "differential"))
    page = await read(await citizen(city, person_id))
    assert "<li>J18.9 — over, or no longer followed" in page
    assert "<li>C34.9 — not confirmed" in page


async def test_a_long_life_of_visits_stays_a_small_page_and_can_be_walked(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    subject = await patient_of(city, person_id)
    visits = [
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": {"reference": subject},
            "serviceProvider": {"display": f"Clinic {number:03}"},
            "period": {"start": f"2020-01-01T00:{number // 60:02}:{number % 60:02}Z"},
        }
        for number in range(300)
    ]
    await stored(city, *visits, *(result(subject, f"Result {n}", valueQuantity={"value": n}) for n in range(150)))
    client = await citizen(city, person_id)
    page = await read(client)
    assert len(page.encode()) < PAGE_BYTES_MAX
    assert "52 more are not shown here" in page
    seen: list[str] = []
    path = "/citizen?lang=en"
    while path:
        page = await read(client, path)
        seen += re.findall(r"Clinic (\d+)</summary>", page)
        further = re.search(r'href="(\?visits=\d+)#visits">Earlier visits', page)
        path = f"/citizen{further[1]}" if further else ""
    assert seen == [f"{number:03}" for number in reversed(range(300))]
    assert "Back to the newest visits" in page
    assert "Clinic 299" in await read(client, "/citizen?visits=x")


async def test_everybody_who_ever_looked_can_be_reached(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    for number in range(12):
        await city.system(name=f"reader-{number}").get(f"/Person/{person_id}")
    async with city.record.database.acquire() as connection:
        for number in range(12):
            await connection.execute(
                "update audit set at = at - make_interval(days => $1) where actor = $2", 45 * number, f"reader-{number}"
            )
        await connection.execute(
            "insert into audit (at, actor_kind, actor, action, person_id)"
            " select now() - make_interval(days => 50 + n / 150), 'client', 'busy-' || n, 'R', $1"
            " from generate_series(0, 599) n",
            person_id,
        )
    client = await citizen(city, person_id)
    first = await read(client)
    assert "reader-0" in first
    assert "reader-1<" not in first
    seen: list[str] = []
    path = "/citizen/looks?lang=en"
    while path:
        page = await read(client, path)
        assert len(page.encode()) < PAGE_BYTES_MAX
        seen += re.findall(r"<b>((?:reader|busy)-\d+)</b>: read — care", page)
        further = re.search(r'href="\?before=([0-9-]+)">Earlier days', page)
        path = f"/citizen/looks?before={further[1]}" if further else ""
    assert sorted(seen) == sorted([*(f"reader-{n}" for n in range(12)), *(f"busy-{n}" for n in range(600))])
    assert "Nobody looked before this day." in await read(client, "/citizen/looks?before=1999-01-01")
    assert "reader-0" in await read(client, "/citizen/looks?before=nonsense")


async def test_who_looked_names_the_facility_and_who_in_it(city: City, facilities: list[int]) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    await city.system(name="ward-3", facility_id=facilities[0]).get(f"/Person/{person_id}")
    page = await read(await citizen(city, person_id))
    assert "<b>Station 01Z01 · ward-3</b>: read — care" in page
    assert "1 place opened your record" in page
