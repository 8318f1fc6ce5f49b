"""A small world whose answers to searches can be told by reading R4's chapter on search beside it."""

from typing import Any

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
Tree = dict[str, Any]


def concept(*codings: tuple[str, str]) -> Tree:
    return {"coding": [{"system": system, "code": code} for system, code in codings]}


def quantity(value: float, unit: str = "mg") -> Tree:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def to(reference: str) -> Tree:
    return {"reference": reference}


def of(type_name: str, id: str, **elements: Any) -> Tree:
    return {"resourceType": type_name, "id": id, **elements}


def observed(id: str, loinc: str = "1", **elements: Any) -> Tree:
    return of("Observation", id, **{"status": "final", "code": concept((LOINC, loinc)), **elements})


def encounter(id: str, status: str, kind: str, **elements: Any) -> Tree:
    return of("Encounter", id, status=status, **{"class": {"system": ACT, "code": kind}}, **elements)


def narrative(text: str) -> Tree:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>'}


PATIENTS = [
    of(
        "Patient",
        "p1",
        name=[{"family": "Carreno", "given": ["Eve"]}],
        gender="male",
        birthDate="1970-05-01",
        active=True,
        identifier=[{"system": "urn:a", "value": "X|1,2$3", "type": concept((IDENTIFIER_TYPE, "MR"))}],
        address=[{"line": ["12 Main St., Apt 4"], "city": "Huế"}],
        telecom=[{"system": "phone", "value": "+84 (90) 123-4567"}],
        communication=[{"language": concept(("urn:ietf:bcp:47", one))} for one in ("vi", "en")],
    ),
    of(
        "Patient",
        "p2",
        name=[{"family": "O'Brien", "given": ["Severine"]}],
        birthDate="1970",
        communication=[{"language": concept(("urn:ietf:bcp:47", "fr"))}],
        identifier=[{"value": "nosys"}],
        deceasedDateTime="2020-01-01",
    ),
    of("Patient", "p3", gender="female", name=[{"text": "Đào Thị Én"}]),
    of("Practitioner", "d1", name=[{"family": "Joe"}]),
]
ENCOUNTERS = [
    encounter("e1", "finished", "IMP", subject=to("Patient/p1"), period={"start": "2020-01-01", "end": "2020-01-10"}),
    encounter(
        "e2", "finished", "AMB", subject=to("Patient/p1"), period={"start": "2020-01-05"}, partOf=to("Encounter/e1")
    ),
    encounter("e3", "planned", "AMB", period={"end": "2020-01-05"}, partOf=to("Encounter/e2")),
    of(
        "MedicationAdministration",
        "ma1",
        status="completed",
        medicationCodeableConcept=concept(("urn:m", "m")),
        subject=to("Patient/p1"),
        context=to("Encounter/e3"),
        effectiveDateTime="2020",
    ),
]
OBSERVATIONS = [
    observed(
        "q1",
        valueQuantity=quantity(5.4),
        subject=to("Patient/p1"),
        effectiveDateTime="2013-01-14",
        encounter=to("Encounter/e2"),
    ),
    observed(
        "q2", valueQuantity=quantity(5400, "ug"), subject=to("Patient/p1"), effectiveDateTime="2013-01-14T10:00:00Z"
    ),
    observed(
        "q3",
        valueQuantity={"value": 5.4, "unit": "mg"},
        subject=to("Patient/p2"),
        effectiveDateTime="2013-01-15T00:00:00+07:00",
    ),
    observed("q4", valueQuantity=quantity(5.44), effectivePeriod={"start": "2013-01-01", "end": "2013-12-31"}),
    observed("q5", valueQuantity=quantity(5.45), effectivePeriod={"start": "2013-01-21"}),
    observed("q6", valueQuantity=quantity(60), effectivePeriod={"end": "2013-01-21"}),
    observed(
        "q7",
        code={"text": "Nhức đầu"},
        component=[
            {"code": concept((LOINC, "8480-6")), "valueQuantity": quantity(120, "mm[Hg]")},
            {"code": concept((LOINC, "8462-4")), "valueQuantity": quantity(55, "mm[Hg]")},
        ],
    ),
    observed(
        "q8",
        "c8",
        valueCodeableConcept=concept(("urn:s", "v1"), ("urn:s", "v2")),
        subject={"identifier": {"system": "urn:mrn", "value": "77"}},
    ),
    observed(
        "q9", "c9", valueString="Dương Tính mạnh", subject=to("http://other.org/fhir/Patient/p1"), status="amended"
    ),
    observed(
        "q10",
        "c10",
        subject=to("#pp"),
        performer=[to("Practitioner/d1")],
        contained=[of("Patient", "pp", name=[{"family": "Inside"}])],
    ),
    of(
        "DiagnosticReport",
        "r1",
        status="final",
        code=concept((LOINC, "rep")),
        result=[to("#o1"), to("Observation/q1")],
        subject=to("Patient/p3"),
        contained=[observed("o1", "inner", valueQuantity=quantity(9), subject=to("Patient/p3"))],
    ),
]
PLACES = [
    of("Location", "l1", name="Hospital", position={"latitude": 21.0, "longitude": 105.8}),
    of("Location", "l2", name="Ward", partOf=to("Location/l1"), position={"latitude": 21.05, "longitude": 105.8}),
    of("Location", "l3", name="Bed", partOf=to("Location/l2"), position={"latitude": 22.0, "longitude": 105.8}),
    of(
        "Procedure",
        "pr1",
        status="completed",
        subject=to("Patient/p1"),
        location=to("Location/l3"),
        performedPeriod={"start": "2020-02-01", "end": "2020-02-03"},
    ),
]
KNOWLEDGE = [
    of("ValueSet", "v1", url="http://acme.org/fhir/ValueSet/123", status="active", version="1.0"),
    of("ValueSet", "v2", url="http://acme.org/fhir/ValueSet/123", status="active", version="2.0"),
    of("ValueSet", "v3", url="http://acme.org/fhir/ValueSet/123/sub", status="draft"),
    of(
        "QuestionnaireResponse",
        "qr1",
        status="completed",
        questionnaire="http://acme.org/Q/1|1.0",
        subject=to("Patient/p1"),
    ),
    of("QuestionnaireResponse", "qr2", status="completed", questionnaire="http://acme.org/Q/1|2.0"),
    of("QuestionnaireResponse", "qr3", status="completed", questionnaire="http://acme.org/Q/1"),
]
OTHERS = [
    of("Condition", "c1", subject=to("Patient/p1"), code=concept(("urn:x", "flu")), text=narrative("bone metastases")),
    of("Condition", "c2", subject=to("Patient/p1"), code=concept(("urn:x", "cold")), text=narrative("liver spots")),
    of("RiskAssessment", "ra1", status="final", subject=to("Patient/p1"), prediction=[{"probabilityDecimal": 0.80}]),
    of("RiskAssessment", "ra2", status="final", subject=to("Patient/p1"), prediction=[{"probabilityDecimal": 0.85}]),
    of(
        "Group",
        "g1",
        type="person",
        actual=True,
        characteristic=[
            {
                "code": concept(("urn:c", "gender")),
                "valueCodeableConcept": concept(("urn:v", "mixed")),
                "exclude": False,
            },
            {"code": concept(("urn:c", "owner")), "valueBoolean": True, "exclude": True},
        ],
        member=[{"entity": to("Patient/p1")}],
    ),
    of(
        "List", "li", status="current", mode="working", entry=[{"item": to("Patient/p1")}], code=concept(("urn:l", "x"))
    ),
]
WORLD = [*PATIENTS, *ENCOUNTERS, *OBSERVATIONS, *PLACES, *KNOWLEDGE, *OTHERS]
