"""The citizen's page, the health book and the summary show one record; the console shows the facilities."""

import re
from typing import Any

import httpx
import orjson
import pytest

from ehr import identity, limits
from ehr.access.authenticate import citizen_link
from ehr.access.token import LINK
from ehr.fhir.vietnam import NATIONAL_ID, PATIENT_NUMBER
from ehr.intake import Intake, Source
from ehr.jobs.queue import Queue
from ehr.web.ops import OPERATOR_SCOPE, operator_link
from tests.api.conftest import City

CCCD = "001180012345"
HL7 = "http://terminology.hl7.org/CodeSystem"
GLUCOSE = """{"resourceType": "Observation", "status": "final",
 "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                           "code": "laboratory"}]}],
 "code": {"coding": [{"system": "http://loinc.org", "code": "NUMBER"}], "text": "Đường máu NUMBER"},
 "subject": {"reference": "PATIENT"}, "effectiveDateTime": "2026-11-01",
 "valueQuantity": {"value": 13.50, "unit": "mmol/L"},
 "referenceRange": [{"low": {"value": 3.9}, "high": {"value": 6.4}}]}"""


def root_of(city: City) -> str:
    return city.base.removesuffix("/fhir")


async def person(city: City, cccd: str, name: str) -> str:
    """Two facilities know one citizen; one of them measured glucose. The Person's id."""
    for number, client in enumerate((city.system(facility_id=0, name="a"), city.system(name="b"))):
        patient = {
            "resourceType": "Patient",
            "identifier": [
                {"system": NATIONAL_ID, "value": cccd},
                {"system": PATIENT_NUMBER, "value": f"{cccd}-{number}"},
            ],
            "name": [{"text": name}],
            "gender": "female",
            "birthDate": "1980-02-29",
        }
        answer = await client.post("/Patient", content=orjson.dumps(patient))
        assert answer.status_code == 201, answer.text
        reference = f"Patient/{answer.json()['id']}"
        glucose = GLUCOSE.replace("NUMBER", str(number)).replace("PATIENT", reference)
        answer = await client.post("/Observation", content=glucose)
        assert answer.status_code == 201, answer.text
    async with city.record.database.acquire() as connection:
        found = await identity.by_national_id(connection, cccd)
    assert found is not None
    return found


async def browser(city: City, link: str, path: str = "/citizen") -> httpx.AsyncClient:
    """A client that followed a link and holds the cookie it got."""
    made = httpx.AsyncClient(base_url=root_of(city), trust_env=False, verify=False)
    city.opened.append(made)
    entered = await made.get(f"{path}/enter", params={"link": link})
    assert entered.status_code == 303, entered.text
    assert "link=" not in entered.headers["location"]
    return made


async def test_page_book_and_summary_show_the_record_of_all_facilities(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    made = await browser(city, citizen_link(city.authenticator.tokens, person_id))
    page = await made.get("/citizen")
    assert page.status_code == 200
    for words in ("Nguyễn Thị Hà", CCCD, "Đường máu 0", "Đường máu 1", "13.50 mmol/L", "cao hơn khoảng tham chiếu"):
        assert words in page.text
    english = await made.get("/citizen", params={"lang": "en"})
    assert "above the reference range" in english.text
    summary = await made.get("/citizen/summary.json")
    assert summary.text.replace(" ", "").count('"value":13.50') == 2
    citizen = city.citizen(person_id)
    book = (await citizen.get(f"{root_of(city)}/identity/v1/citizens/{CCCD}/health-book")).json()
    assert book["hanhChinh"]["hoTen"] == "Nguyễn Thị Hà"
    whole = (await citizen.get(f"/Person/{person_id}/$summary")).json()
    assert {e["resource"]["resourceType"] for e in whole["entry"]} == {"Composition", "Patient", "Observation"}


async def test_every_section_of_the_page_is_filled_from_the_record(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    client = city.system()
    document = (await client.get(f"/Person/{person_id}/$summary")).json()
    subject = {"reference": f"Patient/{document['entry'][1]['resource']['id']}"}
    visit = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": subject,
        "period": {"start": "2026-11-01T08:00:00+07:00", "end": "2026-11-01T09:00:00+07:00"},
        "hospitalization": {"dischargeDisposition": {"text": "Ra viện"}},
    }
    of_visit = {"encounter": {"reference": f"Encounter/{(await _made(client, visit))['id']}"}, "subject": subject}
    active = {"coding": [{"system": f"{HL7}/condition-clinical", "code": "active"}]}
    for resource in (
        {"resourceType": "Condition", "clinicalStatus": active, "code": {"text": "Tăng huyết áp"}, **of_visit},
        {
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": {"coding": [{"system": f"{HL7}/allergyintolerance-clinical", "code": "active"}]},
            "code": {"text": "Penicillin"},
            "patient": subject,
        },
        {
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": "Amlodipin 5 mg"},
            "dosageInstruction": [{"text": "Ngày uống 1 viên"}],
            **of_visit,
        },
        {"resourceType": "Procedure", "status": "completed", "code": {"text": "Siêu âm tim"}, **of_visit},
        {
            "resourceType": "Immunization",
            "status": "completed",
            "vaccineCode": {"text": "Vắc xin cúm"},
            "patient": subject,
            "occurrenceDateTime": "2025-10",
        },
    ):
        await _made(client, resource)
    made = await browser(city, citizen_link(city.authenticator.tokens, person_id))
    page = await made.get("/citizen")
    assert page.status_code == 200
    for words in ("Tăng huyết áp", "Penicillin", "Amlodipin 5 mg", "Ngày uống 1 viên", "Siêu âm tim", "Vắc xin cúm"):
        assert words in page.text
    assert "01/11/2026" in page.text
    assert "10/2025" in page.text
    assert "Ra viện" in page.text


async def _made(client: httpx.AsyncClient, resource: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"/{resource['resourceType']}", content=orjson.dumps(resource))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_summary_is_as_fresh_as_the_last_write(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    client = city.system()
    first = await client.get(f"/Person/{person_id}/$summary")
    again = await client.get(f"/Person/{person_id}/$summary", headers={"If-None-Match": first.headers["etag"]})
    patient_id = first.json()["entry"][1]["resource"]["id"]
    allergy: dict[str, Any] = {
        "resourceType": "AllergyIntolerance",
        "patient": {"reference": f"Patient/{patient_id}"},
        "code": {"text": "Penicillin"},
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}
            ]
        },
    }
    assert (await client.post("/AllergyIntolerance", content=orjson.dumps(allergy))).status_code == 201
    assert "Penicillin" in (await client.get(f"/Patient/{patient_id}/$summary")).text
    assert again.status_code in (200, 304)


async def test_a_citizen_sees_who_looked(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    await city.system(name="clinic-seven").get(f"/Person/{person_id}/$summary")
    made = await browser(city, citizen_link(city.authenticator.tokens, person_id))
    page = await made.get("/citizen")
    assert "clinic-seven" in page.text


async def test_a_citizen_sees_who_was_refused(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    other = await person(city, "001080054321", "Trần Văn Nam")
    assert (await city.citizen(other).get(f"/Person/{person_id}")).status_code == 404
    assert (
        await city.system("system/Observation.rs", name="clinic-eight").get(f"/Person/{person_id}")
    ).status_code == 403
    made = await browser(city, citizen_link(city.authenticator.tokens, person_id))
    page = await made.get("/citizen")
    rows = [" ".join(row.split()) for row in page.text.split("<li>") if "(bị từ chối)" in row]
    assert len(rows) == 2
    assert any("một người dân khác" in row for row in rows)
    assert any("clinic-eight" in row for row in rows)
    assert "0 nơi đã mở" in page.text


async def test_a_link_opens_one_record_and_may_be_used_once(city: City) -> None:
    mine, other = await person(city, CCCD, "Nguyễn Thị Hà"), await person(city, "001080054321", "Trần Văn Nam")
    link = citizen_link(city.authenticator.tokens, mine, once=True)
    made = await browser(city, link)
    assert (await made.get("/citizen/enter", params={"link": link})).status_code == 401
    citizen = city.citizen(mine)
    assert (await citizen.get(f"/Person/{other}/$summary")).status_code == 404
    assert (await citizen.get(f"{root_of(city)}/identity/v1/citizens/001080054321/health-book")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/citizen", "/citizen/looks", "/citizen/summary.json", "/ops", "/ops/messages", "/ops/jobs"]
)
async def test_pages_need_a_cookie(city: City, path: str) -> None:
    async with httpx.AsyncClient(base_url=root_of(city), trust_env=False, verify=False) as made:
        assert (await made.get(path)).status_code == 401


async def test_the_console_lists_facilities_and_finds_messages(city: City, facilities: list[int]) -> None:
    link = city.authenticator.tokens.issue("operator", OPERATOR_SCOPE, typ=LINK)
    made = await browser(city, link, "/ops")
    page = await made.get("/ops")
    assert page.status_code == 200
    assert "01Z01" in page.text
    assert "01Z02" in page.text
    found = await made.get("/ops", params={"q": "01z02"})
    assert "Station 01Z02" in found.text
    assert "Station 01Z01" not in found.text
    for path in ("/ops/facilities/01Z01", "/ops/messages?state=refused", "/ops/insurance", "/ops/jobs"):
        assert (await made.get(path)).status_code == 200, path
    assert (await made.get("/ops/facilities/99999")).status_code == 404
    assert facilities


async def test_a_citizen_is_no_operator(city: City) -> None:
    person_id = await person(city, CCCD, "Nguyễn Thị Hà")
    citizen = city.citizen(person_id)
    assert (await citizen.get(f"{root_of(city)}/ops")).status_code == 401


async def test_pages_carry_a_strict_policy_and_are_never_cached(city: City) -> None:
    async with httpx.AsyncClient(base_url=root_of(city), trust_env=False, verify=False) as made:
        answer = await made.get("/citizen")
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await made.get("/static/style.css")).status_code == 200


async def test_the_console_says_how_many_lines_of_an_import_were_refused_and_where_they_are(city: City) -> None:
    queue = Queue(city.record.database)
    job_id = await queue.enqueue("import", {"home": "/imports"}, [{}, {}], owner="cli")
    for refused in (0, 5):
        chunk = await queue.claim(["import"])
        assert chunk is not None
        await queue.finish(chunk, {"lines": 40, "refused": refused})
    made = await browser(city, city.authenticator.tokens.issue("operator", OPERATOR_SCOPE, typ=LINK), "/ops")
    cells = re.findall(r"<td>([^<]*)</td>", (await made.get("/ops/jobs")).text)
    assert cells[0] == job_id
    assert cells[-6:] == ["2", "2", "80", "5", f"/imports/{job_id}", ""]


async def test_a_citizen_sees_who_opened_a_message_about_them(city: City, facilities: list[int]) -> None:
    """Bytes that an operator looks at are their data too, as much as a resource."""
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": NATIONAL_ID, "value": CCCD}, {"system": PATIENT_NUMBER, "value": "1"}],
        "name": [{"text": "Nguyễn Thị Hà"}],
        "gender": "female",
        "birthDate": "1980-02-29",
    }
    entry = {"resource": patient, "request": {"method": "POST", "url": "Patient"}}
    intake = Intake(city.record)
    receipt = await intake.keep(b"{}", Source(facilities[0], "01Z01", "fhir", "transaction", "1"))
    await intake.submit({"resourceType": "Bundle", "type": "transaction", "entry": [entry]}, receipt, answer=b"")
    operator = await browser(city, operator_link(city.authenticator.tokens, "operator-hoa"), "/ops")
    shown = await operator.post(f"/ops/messages/{receipt.message_id}", data={"reason": "sender asked"})
    assert shown.status_code == 200
    async with city.record.database.acquire() as connection:
        person_id = await identity.by_national_id(connection, CCCD)
    assert person_id is not None
    made = await browser(city, citizen_link(city.authenticator.tokens, person_id))
    shown = await made.get("/citizen")
    assert "<b>operator-hoa</b>: xem hoặc tổng hợp — vận hành hệ thống" in shown.text
    assert "<b>Bạn</b>: xem hoặc tổng hợp — bạn yêu cầu" in (await made.get("/citizen")).text


async def test_a_session_of_an_operator_ends(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "operator_session_life_s", 60)
    link = operator_link(city.authenticator.tokens, "operator-hoa")
    entered = await city.client().get(f"{root_of(city)}/ops/enter", params={"link": link})
    assert "Max-Age=60;" in entered.headers["set-cookie"]


async def test_a_link_of_an_operator_works_once_and_the_way_in_is_told(city: City) -> None:
    link = operator_link(city.authenticator.tokens, "operator-hoa")
    made = await browser(city, link, "/ops")
    again = await made.get("/ops/enter", params={"link": link})
    assert again.status_code == 401
    assert "ehr console" in again.text


@pytest.mark.parametrize(
    "path",
    [
        "/ops/messages/99999999999999999999",
        "/ops/messages?before=99999999999999999999",
        "/ops/messages/" + "9" * 5_000,
        "/ops/messages?before=" + "9" * 5_000,
        "/ops/messages?state=%00",
        "/ops/facilities/%00",
    ],
)
async def test_what_can_be_no_id_code_or_state_is_no_bug(city: City, path: str) -> None:
    made = await browser(city, operator_link(city.authenticator.tokens, "operator-hoa"), "/ops")
    assert (await made.get(path)).status_code in {200, 404}
