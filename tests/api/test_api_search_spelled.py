"""Searches as R4's chapter on search spells them, over HTTP: what each finds can be told from the text beside it."""

import httpx
import pytest
import pytest_asyncio

from tests.api.conftest import City
from tests.api.mothers import bundle, entry
from tests.api.spelled import WORLD

MG = "http://unitsofmeasure.org|mg"
SET = "http://acme.org/fhir/ValueSet/123"
FOUND: dict[str, dict[str, str]] = {
    "quantity": {
        f"Observation?value-quantity=5.4|{MG}": "q1 q2 q4",
        "Observation?value-quantity=5400|http://unitsofmeasure.org|ug": "q1 q2",
        "Observation?value-quantity=5.40e-3|http://unitsofmeasure.org|g": "q1 q2",
        "Observation?value-quantity=5.4||mg": "q1 q3 q4",
        "Observation?value-quantity=5.4": "q1 q3 q4",
        f"Observation?value-quantity=le5.4|{MG}": "q1 q2",
        f"Observation?value-quantity=ne5.4|{MG}": "q5 q6",
        f"Observation?value-quantity=ap5.4|{MG}": "q1 q2 q4 q5",
        "Observation?value-quantity=gt5.4||mg": "q4 q5 q6",
    },
    "date": {
        "Observation?date=2013-01-14": "q1 q2",
        "Observation?date=ne2013-01-14": "q3 q4 q5 q6",
        "Observation?date=lt2013-01-14T17:00:00%2B07:00": "q1 q4 q6",
        "Observation?date=gt2013-01-14T17:00": "q1 q3 q4 q5 q6",
        "Observation?date=ge2013-03-14": "q4 q5",
        "Observation?date=sa2013-01-14": "q3 q5",
        "Observation?date=eb2013-01-22": "q1 q2 q3 q6",
        "Observation?date=2013": "q1 q2 q3 q4",
        "Observation?date=2013-01-14T10:00Z": "q2",
        "Patient?birthdate=1970": "p1 p2",
        "Patient?birthdate=1970-05-01": "p1",
        "Patient?birthdate=sa1969,eb1900": "p1 p2",
        "Encounter?date=eb2020-01-11": "e1 e3",
        "Encounter?date=ge2020-01-10": "e1 e2",
        "Encounter?date=le2020-01-05": "e1 e2 e3",
        "Encounter?date=le2020-01-04": "e1 e3",
        "Encounter?date=ge2020-01-10&date=le2020-01-10": "e1 e2",
        "Observation?date=ge2013-01-14T10:00:00.000Z&date=le2013-01-14T10:00:00.000Z": "q1 q2 q4 q6",
        "Procedure?date=2020-02": "pr1",
        "Patient?_lastUpdated=ne2020": "p1 p2 p3",
        "Patient?_lastUpdated=eb2100&_sort=-_lastUpdated,_id": "p1 p2 p3",
        "Patient?_lastUpdated=lt2020": "",
    },
    "string": {
        "Patient?given=eve": "p1",
        "Patient?given:contains=eve": "p1 p2",
        "Patient?given:exact=Eve": "p1",
        "Patient?given:exact=eve": "",
        "Patient?name=dao thi": "p3",
        "Patient?address=12 main st": "p1",
        "Patient?address-city=hue": "p1",
    },
    "token": {
        "Patient?gender:not=male": "p2 p3",
        "Patient?language=vi&language=en": "p1",
        "Patient?language:not=vi": "p2 p3",
        "Patient?language:not=fr,vi": "p3",
        r"Patient?identifier=urn:a|X\|1\,2\$3": "p1",
        "Patient?identifier=|nosys": "p2",
        "Patient?identifier=urn:a|": "p1",
        r"Patient?identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|X\|1\,2\$3": "p1",
        "Patient?deceased=false": "p1 p3",
        "Patient?phone=%2B84901234567": "p1",
        "Patient?gender:missing=true": "p2",
        "Patient?_id:not=p1": "p2 p3",
        "Patient?_id:not=p1,p3": "p2",
        "Observation?code:text=nhuc": "q7",
        "Observation?value-concept:not=v2&value-concept:missing=false": "",
    },
    "composite": {
        "Observation?component-code-value-quantity=http://loinc.org|8480-6$lt60": "",
        "Observation?component-code-value-quantity=http://loinc.org|8462-4$lt60": "q7",
        "Group?characteristic-value=gender$mixed,owner$Eve": "g1",
        "Group?characteristic-value=gender$true": "",
        "Observation?component-code-value-quantity:missing=false": "q7",
        "Observation?code-value-concept:missing=false": "q8",
    },
    "reference": {
        "Observation?subject=Patient/p1": "q1 q2",
        "Observation?subject:Patient=p1": "q1 q2",
        "Observation?subject={base}/Patient/p1": "q1 q2",
        "Observation?subject:Patient={base}/Patient/p1": "q1 q2",
        "Observation?patient={base}/Patient/p1,Patient/p2": "q1 q2 q3",
        "Patient?_has:Observation:patient:encounter={base}/Encounter/e2": "p1",
        "Observation?subject:Patient={base}/Group/p1": "400",
        "Observation?subject=http://other.org/fhir/Patient/p1": "q9",
        "Observation?subject:Patient=http://other.org/fhir/Patient/p1": "q9",
        "Observation?subject:identifier=urn:mrn|77": "q8",
        "Observation?subject:identifier=urn:mrn|": "400",
        "Observation?patient=Patient/p1/_history/1": "q1 q2",
    },
    "chain": {
        "Observation?subject:Patient.name=eve": "q1 q2",
        "DiagnosticReport?result.code=inner": "r1",
        "DiagnosticReport?result.code-value-quantity=http://loinc.org|inner$gt5.4": "r1",
        "Encounter?part-of.part-of=e1": "e3",
        "Observation?patient.name=inside": "q10",
        "Observation?patient.name:contains=s": "q3 q10",
        "Observation?subject:Patient.family=inside": "q10",
        "Observation?subject.gender:not=male": "q3 q10",
        "DiagnosticReport?result.subject.name=dao": "r1",
        "Patient?_has:Observation:patient:_has:DiagnosticReport:result:code=rep": "p1",
        "Patient?_has:Observation:patient:encounter.class=AMB": "p1",
        "Encounter?_has:Observation:encounter:code=1&_has:Observation:encounter:subject.name=eve": "e2",
    },
    "uri": {
        f"ValueSet?url={SET}": "v1 v2",
        f"ValueSet?url={SET}|1.0": "v1",
        f"ValueSet?url={SET}|3.0": "",
        f"ValueSet?url={SET}|2.0,{SET}/sub": "v2 v3",
        f"ValueSet?url={SET}|2.0|x": "400",
        "ValueSet?url:below=http://acme.org/fhir": "v1 v2 v3",
        "ValueSet?url:below=http://acme.org/fh": "",
        f"ValueSet?url:above={SET}/sub/x": "v1 v2 v3",
        "QuestionnaireResponse?questionnaire=http://acme.org/Q/1": "qr1 qr2 qr3",
        "QuestionnaireResponse?questionnaire=http://acme.org/Q/1|1.0": "qr1",
        "QuestionnaireResponse?questionnaire=http://acme.org/Q/1|1": "",
    },
    "hierarchy": {
        "Procedure?location:below=l1": "pr1",
        "Procedure?location:below=l3": "pr1",
        "Procedure?location:above=l2": "",
        "Location?partof:below=l1": "l2 l3",
        "Location?partof:below=Location/l2,l9": "l3",
        "Location?partof:above=l2": "l2 l3",
        "Encounter?part-of:below=e1": "e2 e3",
        "MedicationAdministration?context:below=Encounter/e1": "ma1",
        "MedicationAdministration?context:below=e1": "ma1",
        "Observation?encounter:above=e3": "q1",
        "Patient?_has:Observation:patient:encounter:above=e3": "p1",
        "Observation?patient:below=p1": "400",
        "QuestionnaireResponse?questionnaire:below=http://acme.org/Q/1": "qr1 qr2 qr3",
        "QuestionnaireResponse?questionnaire:below=http://acme.org/Q/1|1": "400",
    },
    "special": {
        "Location?near=21.0|105.8|5|km": "l1",
        "Location?near=21.0|105.8|6000|m": "l1 l2",
        "Location?near=21.0|105.8|4|[mi_us]": "l1 l2",
        "Location?near=21.0|105.8": "l1 l2",
        "Patient?_list=li": "p1",
        "Condition?patient=p1&_list=$current-problems": "400",
        "Condition?_text=(bone OR liver) and metastases": "c1",
        "Condition?_text=liver NOT metastases": "c2",
        "Condition?_content=flu or cold": "c1 c2",
        "RiskAssessment?probability=gt8e-1": "ra2",
        "RiskAssessment?probability=0.8": "ra1",
    },
    "types": {
        "?_type=Observation,Condition&patient=p1": "q1 q2 c1 c2",
        "?_type=Patient&name=eve": "p1",
        "?_type=Patient&_sort=-birthdate": "p1 p2 p3",
        "?_type=Patient,Practitioner&name=joe": "d1",
        "?_type=Patient,Practitioner&name:missing=false": "d1 p1 p2 p3",
        "?_type=Patient,Practitioner&_has:Observation:performer:code=c10": "d1",
        "?_type=Observation,Encounter&patient.name=eve": "e1 e2 q1 q2",
        "?_type=Observation,Encounter&status:not=final,finished": "q9 e3",
        "?_type=Encounter,Observation&date=2013-01-14": "q1 q2",
        '?_type=Encounter,Observation&_filter=status eq planned or date eq "2013-01-14"': "e3 q1 q2",
        "?_type=Observation,RiskAssessment&_id=ra1,q1": "ra1 q1",
        "?_type=Patient,Observation&birthdate=1970": "400",
        "?_type=Encounter,Observation&_sort=date": "400",
        "Patient/p1/*?_type=Observation,Condition": "q1 q2 c1 c2",
        "Patient/p1/*": "c1 c2 e1 e2 g1 ma1 p1 pr1 q1 q2 qr1 ra1 ra2",
        "Patient/p1/*?_id=q1": "q1",
        "Patient/p1/*?name=eve": "400",
    },
    "filter": {
        'Observation?_filter=code eq http://loinc.org|1 and subject.name co "ve"': "q1 q2 q3",
        "Observation?_filter=not (code eq 1)": "q7 q8 q9 q10",
        "Observation?_filter=status ne final": "q9",
        "Observation?_filter=date po 2013-01-14": "q1 q2 q4 q6",
        "Observation?_filter=value-quantity gt 5.4||mg or code eq c9": "q4 q5 q6 q9",
        "Observation?_filter=(code eq c9 or code eq c8) and not (status eq final)": "q9",
        "Observation?_filter=value-concept pr true": "q8",
        "Observation?_filter=subject re Patient/p1": "q1 q2",
        'Observation?_filter=value-string ew "manh"': "q9",
        "Patient?_filter=not (gender eq male) and not (deceased eq true)": "p3",
        "Patient?_filter=_id eq p1": "p1",
        'Patient?_filter=given eq "eve" and _has:Observation:patient:code eq 1': "p1",
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def base(shared_city: City) -> str:
    entries = [entry("PUT", f"{one['resourceType']}/{one['id']}", one) for one in WORLD]
    answer = await shared_city.system().post("", json=bundle("transaction", *entries))
    assert answer.status_code == 200, answer.text
    return shared_city.base


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("part", FOUND)
async def test_what_is_found(shared_city: City, base: str, part: str) -> None:
    client = shared_city.system()
    wrong = {}
    for asked, expected in FOUND[part].items():
        query = asked.replace("{base}", base)
        answer = await client.get(query if query.startswith("?") else f"/{query}")
        if (told := _told(answer)) != sorted(expected.split()):
            wrong[query] = told
    assert wrong == {}


def _told(answer: httpx.Response) -> list[str]:
    """Ids of the matches, or the status of a refusal."""
    if answer.status_code != 200:
        assert answer.json()["resourceType"] == "OperationOutcome"
        return [str(answer.status_code)]
    return sorted(one["resource"]["id"] for one in answer.json().get("entry", []) if one["search"]["mode"] == "match")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_whole_compartment_is_walked_by_its_own_links(shared_city: City, base: str) -> None:
    client = shared_city.system()
    following: str | None = f"{base}/Patient/p1/*?_count=5"
    seen: list[str] = []
    while following:
        answer = await client.get(following)
        seen += _told(answer)
        following = next((one["url"] for one in answer.json()["link"] if one["relation"] == "next"), None)
    assert sorted(seen) == sorted(FOUND["types"]["Patient/p1/*"].split())
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = await client.post("/Patient/p1/*/_search", content="_type=Observation", headers=form)
    assert _told(posted) == ["q1", "q2"]
    assert posted.json()["link"][0]["url"] == f"{base}/Patient/p1/*?_type=Observation"
