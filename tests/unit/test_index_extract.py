"""What extraction puts into the index, against expectations written by hand from the R4 search parameter pages.

For each resource: the exact set of parameters that have a value, and for each of them its values.
  token       "system|code", "|code" (no system), "code" (a code element), as the search would be written
  reference   "Type/id", or the text of any other reference; "@system|value" the identifier in it
  string      the text as written
  date        the text it came from ("start/end" for periods)
  number      number, or (number, system, code)
"""

from collections.abc import Iterator
from typing import Any

import pytest

from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.extract import Extractor, IndexRows
from ehr.index.generate import source
from ehr.index.hashing import TARGET_MASK, Hasher
from ehr.index.main_date import CHOSEN, main_date
from ehr.index.normalize import contact, fold
from ehr.index.ranges import date_range, period_range

HASHER = Hasher(-7_003_211)
EXTRACTOR = Extractor(HASHER)


def cc(system: str, *codes: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} for code in codes], "text": "as written"}


def ref(reference: str) -> dict[str, Any]:
    return {"reference": reference}


PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "identifier": [{"system": "urn:cccd", "value": "001"}, {"value": "MRN"}],
    "active": True,
    "name": [{"family": "Nguyễn", "given": ["Văn", "An"], "text": "Ông An"}],
    "telecom": [{"system": "phone", "value": "(024) 38-1"}, {"system": "email", "value": "A@B.vn"}],
    "gender": "male",
    "birthDate": "1980-02",
    "deceasedBoolean": False,
    "address": [
        {
            "use": "home",
            "line": ["12 Hàng Bông"],
            "city": "Hà Nội",
            "state": "HN",
            "postalCode": "10000",
            "country": "VN",
        }
    ],
    "communication": [{"language": cc("urn:ietf:bcp:47", "vi")}],
    "generalPractitioner": [ref("Practitioner/d"), ref("Organization/o")],
    "managingOrganization": ref("Organization/o/_history/3"),
    "link": [{"other": ref("Patient/q"), "type": "seealso"}],
    "meta": {
        "tag": [{"system": "urn:t", "code": "T"}],
        "security": [{"code": "R"}],
        "profile": ["http://p|1"],
        "source": "urn:src",
    },
}
ENCOUNTER = {
    "resourceType": "Encounter",
    "id": "e",
    "identifier": [{"system": "ma-lk", "value": "LK1"}],
    "status": "finished",
    "class": {"system": "urn:act", "code": "AMB"},
    "type": [cc("urn:type", "K")],
    "subject": ref("Patient/p"),
    "episodeOfCare": [ref("EpisodeOfCare/x")],
    "basedOn": [ref("ServiceRequest/s")],
    "participant": [{"type": [cc("urn:pt", "ATND")], "individual": ref("Practitioner/d")}],
    "appointment": [ref("Appointment/a")],
    "period": {"start": "2026-03-01T08:00:00+07:00"},
    "length": {"value": 30, "unit": "phút", "system": "http://unitsofmeasure.org", "code": "min"},
    "reasonCode": [cc("icd", "J18.9")],
    "diagnosis": [{"condition": ref("Condition/c")}],
    "account": [ref("Account/k")],
    "hospitalization": {"specialArrangement": [cc("urn:sa", "wheel")]},
    "location": [{"location": ref("Location/l"), "period": {"start": "2026-03-01", "end": "2026-03-02"}}],
    "serviceProvider": ref("Organization/o"),
    "partOf": ref("Encounter/parent"),
}
CONDITION = {
    "resourceType": "Condition",
    "id": "c",
    "clinicalStatus": cc("urn:cs", "active"),
    "verificationStatus": cc("urn:vs", "confirmed"),
    "category": [cc("urn:cat", "encounter-diagnosis")],
    "severity": cc("urn:sev", "6736007"),
    "code": cc("http://hl7.org/fhir/sid/icd-10", "I10", "I10.9"),
    "bodySite": [cc("urn:site", "S")],
    "subject": ref("Patient/p"),
    "encounter": ref("Encounter/e"),
    "onsetDateTime": "2025-11",
    "abatementAge": {"value": 46, "unit": "tuổi", "system": "http://unitsofmeasure.org", "code": "a"},
    "recordedDate": "2026-03-01",
    "asserter": ref("Practitioner/d"),
    "stage": [{"summary": cc("urn:st", "II")}],
    "evidence": [{"code": [cc("urn:ev", "E")], "detail": [ref("Observation/b")]}],
}
OBSERVATION = {
    "resourceType": "Observation",
    "id": "b",
    "identifier": [{"value": "L-1"}],
    "basedOn": [ref("ServiceRequest/s")],
    "status": "final",
    "category": [cc("urn:oc", "laboratory")],
    "code": cc("http://loinc.org", "85354-9"),
    "subject": ref("Patient/p"),
    "encounter": ref("Encounter/e"),
    "effectivePeriod": {"end": "2026-03-02T10:00:00Z"},
    "performer": [{"identifier": {"system": "cchn", "value": "7"}}],
    "valueString": "Dương tính",
    "method": cc("urn:m", "M"),
    "specimen": ref("Specimen/s"),
    "device": ref("Device/v"),
    "hasMember": [ref("Observation/m")],
    "derivedFrom": [ref("urn:uuid:5")],
    "component": [
        {"code": cc("http://loinc.org", "8480-6"), "valueQuantity": {"value": 120.5, "unit": "mmHg"}},
        {"code": cc("http://loinc.org", "X"), "valueCodeableConcept": cc("urn:v", "POS")},
        {"code": cc("http://loinc.org", "Y"), "dataAbsentReason": cc("urn:dar", "unknown")},
    ],
}
MEDICATION_REQUEST = {
    "resourceType": "MedicationRequest",
    "id": "m",
    "identifier": [{"system": "rx", "value": "1"}],
    "status": "active",
    "intent": "order",
    "category": [cc("urn:mc", "outpatient")],
    "priority": "urgent",
    "medicationCodeableConcept": cc("urn:drug", "40.1"),
    "subject": ref("Patient/p"),
    "encounter": ref("Encounter/e"),
    "authoredOn": "2026-03-01T09:00:00+07:00",
    "requester": ref("Practitioner/d"),
    "performer": ref("Practitioner/n"),
    "performerType": cc("urn:role", "nurse"),
    "dosageInstruction": [{"timing": {"event": ["2026-03-02", "2026-03-05"]}}],
    "dispenseRequest": {"performer": ref("Organization/o")},
}
PROCEDURE = {
    "resourceType": "Procedure",
    "id": "t",
    "identifier": [{"system": "op", "value": "9"}],
    "instantiatesCanonical": ["http://x/plan|2"],
    "instantiatesUri": ["http://y"],
    "basedOn": [ref("ServiceRequest/s")],
    "partOf": [ref("Procedure/whole")],
    "status": "completed",
    "category": cc("urn:pc", "surgery"),
    "code": cc("urn:dv", "37.8D05"),
    "subject": ref("Group/g"),
    "encounter": ref("Encounter/e"),
    "performedPeriod": {"start": "2026-03-01T09:00:00Z", "end": "2026-03-01T10:30:00Z"},
    "performer": [{"actor": ref("Practitioner/d")}],
    "location": ref("Location/l"),
    "reasonCode": [cc("icd", "K35")],
    "reasonReference": [ref("Condition/c")],
}
ALLERGY = {
    "resourceType": "AllergyIntolerance",
    "id": "a",
    "identifier": [{"value": "A1"}],
    "clinicalStatus": cc("urn:acs", "active"),
    "verificationStatus": cc("urn:avs", "confirmed"),
    "type": "allergy",
    "category": ["medication", "food"],
    "criticality": "high",
    "code": cc("urn:atc", "J01CA04"),
    "patient": ref("Patient/p"),
    "onsetDateTime": "2010",
    "recordedDate": "2020-05-05",
    "recorder": ref("Practitioner/d"),
    "asserter": ref("Patient/p"),
    "lastOccurrence": "2021-06",
    "reaction": [
        {
            "substance": cc("urn:atc", "J01"),
            "manifestation": [cc("urn:mf", "rash")],
            "onset": "2021-06-07",
            "severity": "mild",
            "exposureRoute": cc("urn:route", "PO"),
        }
    ],
}
IMMUNIZATION = {
    "resourceType": "Immunization",
    "id": "i",
    "identifier": [{"value": "V1"}],
    "status": "completed",
    "statusReason": cc("urn:sr", "OSTOCK"),
    "vaccineCode": cc("urn:cvx", "08"),
    "patient": ref("Patient/p"),
    "occurrenceDateTime": "2026-01-01T00:30:00+07:00",
    "location": ref("Location/l"),
    "manufacturer": ref("Organization/maker"),
    "lotNumber": "Lô 12",
    "performer": [{"actor": ref("Organization/o")}],
    "reasonCode": [cc("urn:rs", "R")],
    "reasonReference": [ref("Condition/c")],
    "reaction": [{"date": "2026-01-02", "detail": ref("Observation/b")}],
    "protocolApplied": [{"series": "Cơ bản", "targetDisease": [cc("urn:td", "HBV")], "doseNumberPositiveInt": 1}],
}
REPORT = {
    "resourceType": "DiagnosticReport",
    "id": "r",
    "identifier": [{"value": "R1"}],
    "basedOn": [ref("ServiceRequest/s")],
    "status": "final",
    "category": [cc("urn:dc", "LAB")],
    "code": cc("http://loinc.org", "58410-2"),
    "subject": ref("Patient/p"),
    "encounter": ref("Encounter/e"),
    "effectiveDateTime": "2026-03-01T09:00:00.5Z",
    "issued": "2026-03-01T11:00:00.123Z",
    "performer": [ref("Organization/lab")],
    "resultsInterpreter": [ref("Practitioner/d")],
    "specimen": [ref("Specimen/s")],
    "result": [ref("Observation/b"), ref("#inside")],
    "media": [{"link": ref("Media/m")}],
    "conclusionCode": [cc("icd", "D50")],
}
ORGANIZATION = {
    "resourceType": "Organization",
    "id": "o",
    "identifier": [{"system": "ma-cskcb", "value": "01001"}],
    "active": False,
    "type": [cc("urn:ot", "prov")],
    "name": "Trạm Y tế phường Đống Đa",
    "alias": ["TYT Đống Đa"],
    "address": [{"use": "work", "city": "Hà Nội", "text": "số 1"}],
    "partOf": ref("Organization/so"),
    "endpoint": [ref("https://elsewhere.vn/fhir/Endpoint/1")],
}
PRACTITIONER = {
    "resourceType": "Practitioner",
    "id": "d",
    "identifier": [{"system": "cchn", "value": "000123/HNO-CCHN"}],
    "active": True,
    "name": [{"text": "BS. Đặng Thùy Trâm"}],
    "telecom": [{"system": "phone", "value": "+84 90 123"}],
    "gender": "female",
    "communication": [cc("urn:ietf:bcp:47", "vi", "fr")],
}

EXPECTED: dict[str, tuple[dict[str, Any], dict[str, list[Any] | None]]] = {
    "Patient": (
        PATIENT,
        {
            "identifier": ["urn:cccd|001", "|MRN"],
            "active": ["true"],
            "name": ["Nguyễn", "Văn", "An", "Ông An", "Nguyễn Văn An", "Văn An Nguyễn"],
            "family": ["Nguyễn"],
            "given": ["Văn", "An"],
            "telecom": ["(024) 38-1", "A@B.vn"],
            "phone": ["(024) 38-1"],
            "email": ["A@B.vn"],
            "gender": ["male"],
            "birthdate": ["1980-02"],
            "deceased": ["false"],
            "address": ["12 Hàng Bông", "Hà Nội", "HN", "10000", "VN"],
            "address-city": ["Hà Nội"],
            "address-state": ["HN"],
            "address-postalcode": ["10000"],
            "address-country": ["VN"],
            "address-use": ["home"],
            "language": ["urn:ietf:bcp:47|vi"],
            "general-practitioner": ["Practitioner/d", "Organization/o"],
            "organization": ["Organization/o"],
            "link": ["Patient/q"],
            "_tag": ["urn:t|T"],
            "_security": ["|R"],
            "_profile": ["http://p|1", "http://p"],
            "_source": ["urn:src"],
        },
    ),
    "Encounter": (
        ENCOUNTER,
        {
            "identifier": ["ma-lk|LK1"],
            "status": ["finished"],
            "class": ["urn:act|AMB"],
            "type": ["urn:type|K"],
            "subject": ["Patient/p"],
            "patient": [],
            "episode-of-care": ["EpisodeOfCare/x"],
            "based-on": ["ServiceRequest/s"],
            "participant-type": ["urn:pt|ATND"],
            "participant": ["Practitioner/d"],
            "practitioner": [],
            "appointment": ["Appointment/a"],
            "date": ["2026-03-01T08:00:00+07:00/"],
            "length": [(30.0, "http://unitsofmeasure.org", "min"), (30.0, None, "phút")],
            "reason-code": ["icd|J18.9"],
            "diagnosis": ["Condition/c"],
            "account": ["Account/k"],
            "special-arrangement": ["urn:sa|wheel"],
            "location": ["Location/l"],
            "location-period": ["2026-03-01/2026-03-02"],
            "service-provider": ["Organization/o"],
            "part-of": ["Encounter/parent"],
        },
    ),
    "Condition": (
        CONDITION,
        {
            "clinical-status": ["urn:cs|active"],
            "verification-status": ["urn:vs|confirmed"],
            "category": ["urn:cat|encounter-diagnosis"],
            "severity": ["urn:sev|6736007"],
            "code": ["http://hl7.org/fhir/sid/icd-10|I10", "http://hl7.org/fhir/sid/icd-10|I10.9"],
            "body-site": ["urn:site|S"],
            "subject": ["Patient/p"],
            "patient": [],
            "encounter": ["Encounter/e"],
            "onset-date": ["2025-11"],
            "abatement-age": [(46.0, "http://unitsofmeasure.org", "a"), (46.0, None, "tuổi")],
            "recorded-date": ["2026-03-01"],
            "asserter": ["Practitioner/d"],
            "stage": ["urn:st|II"],
            "evidence": ["urn:ev|E"],
            "evidence-detail": ["Observation/b"],
        },
    ),
    "Observation": (
        OBSERVATION,
        {
            "identifier": ["|L-1"],
            "based-on": ["ServiceRequest/s"],
            "status": ["final"],
            "category": ["urn:oc|laboratory"],
            "code": ["http://loinc.org|85354-9"],
            "subject": ["Patient/p"],
            "patient": [],
            "encounter": ["Encounter/e"],
            "date": ["/2026-03-02T10:00:00Z"],
            "performer": ["@cchn|7"],
            "value-string": ["Dương tính"],
            "method": ["urn:m|M"],
            "specimen": ["Specimen/s"],
            "device": ["Device/v"],
            "has-member": ["Observation/m"],
            "derived-from": ["urn:uuid:5"],
            "component-code": ["http://loinc.org|8480-6", "http://loinc.org|X", "http://loinc.org|Y"],
            "component-value-quantity": [(120.5, None, "mmHg")],
            "component-value-concept": ["urn:v|POS"],
            "component-data-absent-reason": ["urn:dar|unknown"],
            "component-code-value-quantity": None,  # its own test below
            "component-code-value-concept": None,
        },
    ),
    "MedicationRequest": (
        MEDICATION_REQUEST,
        {
            "identifier": ["rx|1"],
            "status": ["active"],
            "intent": ["order"],
            "category": ["urn:mc|outpatient"],
            "priority": ["urgent"],
            "code": ["urn:drug|40.1"],
            "subject": ["Patient/p"],
            "patient": [],
            "encounter": ["Encounter/e"],
            "authoredon": ["2026-03-01T09:00:00+07:00"],
            "requester": ["Practitioner/d"],
            "intended-performer": ["Practitioner/n"],
            "intended-performertype": ["urn:role|nurse"],
            "intended-dispenser": ["Organization/o"],
            "date": ["2026-03-02", "2026-03-05"],
        },
    ),
    "Procedure": (
        PROCEDURE,
        {
            "identifier": ["op|9"],
            "instantiates-canonical": ["http://x/plan|2", "http://x/plan"],
            "instantiates-uri": ["http://y"],
            "based-on": ["ServiceRequest/s"],
            "part-of": ["Procedure/whole"],
            "status": ["completed"],
            "category": ["urn:pc|surgery"],
            "code": ["urn:dv|37.8D05"],
            "subject": ["Group/g"],
            "encounter": ["Encounter/e"],
            "date": ["2026-03-01T09:00:00Z/2026-03-01T10:30:00Z"],
            "performer": ["Practitioner/d"],
            "location": ["Location/l"],
            "reason-code": ["icd|K35"],
            "reason-reference": ["Condition/c"],
        },
    ),
    "AllergyIntolerance": (
        ALLERGY,
        {
            "identifier": ["|A1"],
            "clinical-status": ["urn:acs|active"],
            "verification-status": ["urn:avs|confirmed"],
            "type": ["allergy"],
            "category": ["medication", "food"],
            "criticality": ["high"],
            "code": ["urn:atc|J01CA04", "urn:atc|J01"],
            "patient": ["Patient/p"],
            "date": ["2020-05-05"],
            "recorder": ["Practitioner/d"],
            "asserter": ["Patient/p"],
            "last-date": ["2021-06"],
            "manifestation": ["urn:mf|rash"],
            "onset": ["2021-06-07"],
            "severity": ["mild"],
            "route": ["urn:route|PO"],
        },
    ),
    "Immunization": (
        IMMUNIZATION,
        {
            "identifier": ["|V1"],
            "status": ["completed"],
            "status-reason": ["urn:sr|OSTOCK"],
            "vaccine-code": ["urn:cvx|08"],
            "patient": ["Patient/p"],
            "date": ["2026-01-01T00:30:00+07:00"],
            "location": ["Location/l"],
            "manufacturer": ["Organization/maker"],
            "lot-number": ["Lô 12"],
            "performer": ["Organization/o"],
            "reason-code": ["urn:rs|R"],
            "reason-reference": ["Condition/c"],
            "reaction": ["Observation/b"],
            "reaction-date": ["2026-01-02"],
            "series": ["Cơ bản"],
            "target-disease": ["urn:td|HBV"],
        },
    ),
    "DiagnosticReport": (
        REPORT,
        {
            "identifier": ["|R1"],
            "based-on": ["ServiceRequest/s"],
            "status": ["final"],
            "category": ["urn:dc|LAB"],
            "code": ["http://loinc.org|58410-2"],
            "subject": ["Patient/p"],
            "patient": [],
            "encounter": ["Encounter/e"],
            "date": ["2026-03-01T09:00:00.5Z"],
            "issued": ["2026-03-01T11:00:00.123Z"],
            "performer": ["Organization/lab"],
            "results-interpreter": ["Practitioner/d"],
            "specimen": ["Specimen/s"],
            "result": ["Observation/b"],
            "media": ["Media/m"],
            "conclusion": ["icd|D50"],
        },
    ),
    "Organization": (
        ORGANIZATION,
        {
            "identifier": ["ma-cskcb|01001"],
            "active": ["false"],
            "type": ["urn:ot|prov"],
            "name": ["Trạm Y tế phường Đống Đa", "TYT Đống Đa"],
            "address": ["Hà Nội", "số 1"],
            "address-city": ["Hà Nội"],
            "address-use": ["work"],
            "partof": ["Organization/so"],
            "endpoint": ["https://elsewhere.vn/fhir/Endpoint/1"],
        },
    ),
    "Practitioner": (
        PRACTITIONER,
        {
            "identifier": ["cchn|000123/HNO-CCHN"],
            "active": ["true"],
            "name": ["BS. Đặng Thùy Trâm"],
            "telecom": ["+84 90 123"],
            "phone": ["+84 90 123"],
            "gender": ["female"],
            "communication": ["urn:ietf:bcp:47|vi", "urn:ietf:bcp:47|fr"],
        },
    ),
}


def test_the_table_is_worth_its_name() -> None:
    assert sum(len(values) for _, values in EXPECTED.values()) >= 60


@pytest.mark.parametrize("type_name", EXPECTED)
def test_exactly_these_parameters_have_a_value(type_name: str) -> None:
    tree, expected = EXPECTED[type_name]
    rows = EXTRACTOR.extract(tree, type_name, tree["id"])
    known = parameters.of(type_name)
    present = {code for code, one in known.items() if HASHER.present(one.id) in rows.tokens}
    assert present == set(expected)


CASES = [(name, code) for name, (_, values) in EXPECTED.items() for code in values if values[code] is not None]


@pytest.mark.parametrize(("type_name", "code"), CASES)
def test_a_parameter_has_exactly_these_values(type_name: str, code: str) -> None:
    tree, expected = EXPECTED[type_name]
    parameter = parameters.of(type_name)[code]
    rows = EXTRACTOR.extract(tree, type_name, tree["id"])
    wanted = expected[code] or []
    match parameter.kind:
        case "token":
            assert {one for text in wanted for one in token_hashes(parameter, text)} <= set(rows.tokens)
            other = HASHER.code(parameter.id, "another")
            assert other not in rows.tokens
        case "reference":
            hashes = {reference_hash(parameter, text) for text in wanted}
            assert hashes <= set(rows.tokens)
            if not parameter.union:
                local = {reference_hash(parameter, text) for text in wanted if text.partition("/")[0] in TYPE_IDS}
                assert set(named(rows, parameter)) >= {HASHER.target(one, parameter.id) for one in local}
        case "uri":
            assert {HASHER.uri(parameter.id, text) for text in wanted} <= set(rows.tokens)
        case "string":
            assert {value for param_id, value in rows.strings if param_id == parameter.id} == set(map(fold, wanted))
        case "date":
            assert sorted(dates(rows, parameter, type_name)) == sorted(map(as_range, wanted))
        case "number" | "quantity":
            found = {row[1:] for row in rows.quantities if row[0] == parameter.id}
            assert found == {quantity_row(one) for one in wanted}


def token_hashes(parameter: Parameter, text: str) -> Iterator[int]:
    """Every form a search may ask for."""
    types = {path.type for path in parameter.paths}
    if "|" not in text:
        yield HASHER.code(parameter.id, contact(text) if "ContactPoint" in types else text)
        return
    system, code = text.split("|")
    yield HASHER.code(parameter.id, code)
    yield HASHER.token(parameter.id, system or None, code)
    if system:
        yield HASHER.system(parameter.id, system)


def reference_hash(parameter: Parameter, text: str) -> int:
    if text.startswith("@"):
        system, value = text[1:].split("|")
        return HASHER.identifier(parameter.id, system, value)
    type_name, slash, id = text.partition("/")
    if slash and type_name in TYPE_IDS:
        return HASHER.reference(parameter.id, parameter.slot, type_name, id)
    return HASHER.uri(parameter.id, text)


def named(rows: IndexRows, parameter: Parameter) -> Iterator[int]:
    """The way _has reads tokens: those with the slot, turned back into their targets."""
    return (HASHER.target(token, parameter.id) for token in rows.tokens if token & 255 == parameter.slot)


def dates(rows: IndexRows, parameter: Parameter, type_name: str) -> list[tuple[int | None, int | None]]:
    if parameter.code == main_date(type_name):
        return [(rows.date_lo_us, rows.date_hi_us)]
    return [(low, high) for param_id, low, high in rows.dates if param_id == parameter.id]


def as_range(text: str) -> Any:
    start, slash, end = text.partition("/")
    return period_range(start or None, end or None) if slash else date_range(text)


def quantity_row(one: Any) -> tuple[float, int, int]:
    number, system, code = one
    return number, HASHER.unit(None, code), HASHER.unit(system, "") if system else 0


def test_the_shard_is_the_source_patient() -> None:
    of_patient = HASHER.shard("Patient", "p")
    for type_name, (tree, _) in EXPECTED.items():
        rows = EXTRACTOR.extract(tree, type_name, tree["id"])
        outside = type_name in {"Organization", "Practitioner"} or tree["id"] == "t"
        assert rows.shard == (HASHER.shard(type_name, tree["id"]) if outside else of_patient)
        assert rows.tokens[0] == HASHER.shard(type_name, tree["id"]) & TARGET_MASK
        assert len(set(rows.tokens)) == len(rows.tokens)


def test_components_are_kept_together() -> None:
    rows = EXTRACTOR.extract(OBSERVATION, "Observation", "b")
    parameter = parameters.of("Observation")["component-code-value-quantity"]
    found = {row[1:] for row in rows.quantities if row[0] == parameter.id}
    unit = HASHER.unit(None, "mmHg")
    forms = ("c8480-6", "thttp://loinc.org\x1f8480-6")
    assert found == {(120.5, unit, HASHER.unit(None, form)) for form in forms}


def test_a_timing_is_its_outer_limits() -> None:
    tree = OBSERVATION | {"effectiveTiming": {"event": ["2026-05", "2026-03-01", "2026-04"]}}
    del tree["effectivePeriod"]
    rows = EXTRACTOR.extract(tree, "Observation", "b")
    march, may = date_range("2026-03-01"), date_range("2026-05")
    assert march is not None
    assert may is not None
    assert (rows.date_lo_us, rows.date_hi_us) == (march[0], may[1])


ODD: tuple[Any, ...] = (
    *(None, True, 7, "x", [], {}, [None], [[]], [7]),
    *({"x": 1}, {"coding": 7}, {"coding": [7]}, [{"coding": {"code": "x"}}]),
    *({"reference": 7}, {"reference": ""}, {"value": "x"}, {"value": float("inf")}, {"start": 7}),
)


@pytest.mark.parametrize("type_name", EXPECTED)
def test_odd_values_never_stop_the_rest(type_name: str) -> None:
    """The validator refuses them; the index passes over them."""
    tree, _ = EXPECTED[type_name]
    for name in tree:
        if name not in {"resourceType", "id"}:
            for odd in ODD:
                rows = EXTRACTOR.extract(tree | {name: odd}, type_name, tree["id"])
                assert rows.tokens


def test_every_type_compiles_and_every_main_date_is_single() -> None:
    for type_name in TYPE_IDS:
        compile(source(type_name, HASHER), type_name, "exec")
        assert type_name not in CHOSEN or main_date(type_name) == CHOSEN[type_name]


def test_another_key_gives_other_hashes() -> None:
    other = Extractor(Hasher(1)).extract(PATIENT, "Patient", "p")
    assert not set(other.tokens) & set(EXTRACTOR.extract(PATIENT, "Patient", "p").tokens)
