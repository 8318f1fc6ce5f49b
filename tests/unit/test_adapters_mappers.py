"""HL7 messages of our own, one of each kind, and what they become; all of it valid FHIR R4."""

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapters.hl7v2.datatypes import decimal
from adapters.hl7v2.parse import parse
from adapters.hl7v2.route import SUPPORTED, bundle_of
from adapters.moments import Unreadable, date_time
from adapters.port import Origin
from ehr.errors import EhrError, Issue
from ehr.fhir import codec
from ehr.fhir.validate import validate
from ehr.fhir.vietnam import claim_columns
from tests.mllp.mothers import CCCD, LINK, MRN, discharge, header, in_production, message, pid, pv1, result

ORIGIN = Origin("01Z01", "C1", "Organization/o1")
Found = dict[str, list[dict[str, Any]]]


def mapped(*segments: str, body: bytes | None = None) -> Found:
    """The resources of a message by type, each checked against R4."""
    bundle = bundle_of(parse(body or message(*segments)), ORIGIN)
    assert isinstance(bundle, dict), bundle
    found: Found = {}
    for entry in bundle["entry"]:
        tree = codec.loads(codec.dumps(entry["resource"]))
        assert not [issue for issue in validate(tree) if issue.severity == "error"]
        found.setdefault(tree["resourceType"], []).append(entry["resource"])
    return found


def refused(*segments: str) -> list[Issue]:
    issues = bundle_of(parse(message(*segments)), ORIGIN)
    assert isinstance(issues, list), "a refusal"
    return issues


def test_the_patient_keeps_every_number_and_the_whole_name() -> None:
    (patient,) = mapped(header("ADT^A04", "1"), pid(), pv1())["Patient"]
    assert [(i["system"].rsplit("/", 1)[1], i["value"]) for i in patient["identifier"]] == [
        ("patient-internal-id", MRN),
        ("national_id", CCCD),
        ("insurance_number", "DN4010123456789"),
    ]
    assert patient["identifier"][0]["assigner"]["identifier"]["value"] == "01Z01"
    assert patient["name"] == [{"text": "Nguyễn Văn An", "family": "Nguyễn", "given": ["An", "Văn"]}]
    assert patient["telecom"] == [{"system": "phone", "value": "0912345678", "use": "mobile"}]


@pytest.mark.parametrize(
    ("number", "system"),
    [
        ("42", "patient-internal-id"),
        ("42^^^X^MR", "patient-internal-id"),
        ("001080012345^^^BCA^NI", "national_id"),
        ("123456789^^^BCA^NI", "citizen_id"),
        ("B1234567^^^XNC^PPN", "passport_number"),
        ("42^^^X&1.2.3&ISO^SS", "urn:oid:1.2.3"),
        ("12^^^BCA^NI", "urn:city-ehr:sid:authority%3ABCA"),
    ],
)
def test_a_number_gets_the_system_its_type_names(number: str, system: str) -> None:
    (patient,) = mapped(header("ADT^A31", "1"), f"PID|1||{number}")["Patient"]
    assert patient["identifier"][0]["system"].endswith(system)


def test_a_discharge_ends_the_visit_and_names_its_diagnosis() -> None:
    found = mapped(body=discharge())
    (visit,) = found["Encounter"]
    assert visit["status"] == "finished"
    assert visit["type"][0]["coding"][0] == {"system": "urn:city-ehr:codes:loai-kcb", "code": "01"}
    assert visit["serviceType"]["coding"][0] == {"system": "urn:city-ehr:codes:khoa", "code": "K01"}
    assert visit["hospitalization"]["dischargeDisposition"]["coding"][0]["system"] == "urn:city-ehr:codes:loai-rv"
    assert visit["diagnosis"][0]["use"]["coding"][0]["code"] == "DD"
    assert visit["diagnosis"][0]["rank"] == 1
    assert found["Condition"][0]["code"]["coding"][0] == {
        "system": "http://hl7.org/fhir/sid/icd-10",
        "code": "I10",
        "display": "Tăng huyết áp vô căn",
    }
    assert found["Practitioner"][0]["identifier"] == [
        {"system": "http://fhir.hl7.org.vn/core/sid/cchn", "value": "000123/HNO-CCHN"}
    ]


@pytest.mark.parametrize(
    ("obx", "value"),
    [
        (
            "NM|1^x||13.50|g/dL^^UCUM",
            {"valueQuantity": {"value": "13.50", "unit": "g/dL", "system": "U", "code": "g/dL"}},
        ),
        ("NM|1^x||13.50|mg%", {"valueQuantity": {"value": "13.50", "unit": "mg%"}}),
        ("NM|1^x||-.5", {"valueQuantity": {"value": "-0.5"}}),
        ("NM|1^x||Âm tính", {"valueString": "Âm tính"}),
        ("SN|1^x||<^0.010|U/L", {"valueQuantity": {"value": "0.010", "comparator": "<", "unit": "U/L"}}),
        ("SN|1^x||^1^:^128", {"valueRatio": {"numerator": {"value": "1"}, "denominator": {"value": "128"}}}),
        ("SN|1^x||^2^-^4.0", {"valueRange": {"low": {"value": "2"}, "high": {"value": "4.0"}}}),
        ("SN|1^x||^2^+", {"valueString": "^2^+"}),
        ("ST|1^x||a\\T\\b", {"valueString": "a&b"}),
        (
            "CWE|1^x||260385009^Âm tính^SCT",
            {"valueCodeableConcept": {"coding": [{"code": "260385009"}], "text": "Âm tính"}},
        ),
        ("DT|1^x||20261123", {"valueDateTime": "2026-11-23"}),
        ("TS|1^x||202611230815", {"valueDateTime": "2026-11-23T08:15:00+07:00"}),
        ("TM|1^x||0815", {"valueTime": "08:15:00"}),
        ("TX|1^x||dòng 1~dòng 2", {"valueString": "dòng 1\ndòng 2"}),
    ],
)
def test_values_are_typed_and_nothing_is_guessed(obx: str, value: dict[str, Any]) -> None:
    (observation,) = mapped(header("ORU^R01", "1"), pid(), "OBR|1||F1^LIS|1^t", f"OBX|1|{obx}")["Observation"]
    found = {name: content for name, content in observation.items() if name.startswith("value")}
    text = codec.dumps(found).decode().replace("http://unitsofmeasure.org", "U")
    for name, content in value.items():
        got = json.loads(text, parse_float=str, parse_int=str)[name]
        if name == "valueCodeableConcept":
            got["coding"] = [{"code": item["code"]} for item in got["coding"]]
        assert got == content


def test_a_report_groups_its_results() -> None:
    found = mapped(body=result())
    (report,) = found["DiagnosticReport"]
    assert report["status"] == "final"
    assert len(report["result"]) == 1
    (observation,) = found["Observation"]
    assert observation["referenceRange"][0]["text"] == "12.0-16.0"
    assert str(observation["referenceRange"][0]["low"]["value"]) == "12.0"
    assert observation["interpretation"][0]["coding"][0]["code"] == "N"
    assert observation["issued"] == "2026-11-23T09:00:00+07:00"
    assert {i["type"]["coding"][0]["code"] for i in found["ServiceRequest"][0]["identifier"][:2]} == {"PLAC", "FILL"}


def test_lines_of_text_are_one_observation_and_a_document_is_attached() -> None:
    pdf = base64.b64encode(b"%PDF-1.7").decode()
    lines = [f"OBX|{n}|TX|1^Mô tả||dòng {n}||||||F" for n in (1, 2)]
    document = f"OBX|3|ED|2^Phim||HIS^application^pdf^Base64^{pdf}||||||F"
    found = mapped(header("ORU^R01", "1"), pid(), "OBR|1||F1^LIS|1^t" + "|" * 20 + "RAD|F", *lines, document)
    assert found["Observation"][0]["valueString"] == "dòng 1\ndòng 2"
    assert found["Observation"][0]["category"][0]["coding"][0]["code"] == "imaging"
    form = found["DiagnosticReport"][0]["presentedForm"][0]
    assert form == {"contentType": "application/pdf", "data": pdf, "title": "Phim"}


def test_an_order_and_its_cancellation_are_one_request() -> None:
    order = mapped(header("ORM^O01", "1"), pid(), "ORC|NW|P1^HIS", "OBR|1|P1^HIS||1^t^LN|S")["ServiceRequest"][0]
    cancelled = mapped(header("ORM^O01", "2"), pid(), "ORC|CA|P1^HIS", "OBR|1|P1^HIS||1^t^LN")["ServiceRequest"][0]
    assert (order["status"], order["priority"]) == ("active", "stat")
    assert cancelled["status"] == "revoked"
    assert order["identifier"] == cancelled["identifier"]


def test_a_medicine_order_keeps_amounts_and_words() -> None:
    rxe = "RXE|^2 lần/ngày|40.685^Paracetamol^THUOC|0.50||viên||^Uống sau ăn|||10|viên"
    (request,) = mapped(header("RDE^O11", "1"), pid(), pv1(), "ORC|NW|R1^HIS", rxe, "RXR|PO^Uống")["MedicationRequest"]
    assert request["medicationCodeableConcept"]["coding"][0]["system"] == "urn:city-ehr:codes:thuoc"
    dosage = request["dosageInstruction"][0]
    assert dosage["text"] == "Uống sau ăn; 2 lần/ngày"
    assert str(dosage["doseAndRate"][0]["doseQuantity"]["value"]) == "0.50"
    assert request["dispenseRequest"]["quantity"] == {"value": decimal("10"), "unit": "viên"}


def test_a_vaccination_keeps_lot_and_expiry_and_999_is_no_dose() -> None:
    rxa = "RXA|0|1|20261123||20^DTaP^CVX|999|||00^New^NIP001||||||L123|20271231|SKB^GSK^MVX|||CP|A"
    (vaccination,) = mapped(header("VXU^V04", "1"), pid(), "ORC|RE||V1^HIS", rxa)["Immunization"]
    assert vaccination["lotNumber"] == "L123"
    assert vaccination["expirationDate"] == "2027-12-31"
    assert vaccination["primarySource"] is True
    assert "doseQuantity" not in vaccination
    refusal = rxa.replace("|CP|", "|RE|")
    assert mapped(header("VXU^V04", "2"), pid(), "ORC|RE||V1^HIS", refusal)["Immunization"][0]["status"] == "not-done"


def test_a_document_keeps_its_lines() -> None:
    txa = "TXA|1|DS^Giấy ra viện|TX|||202611230900||||||D1^HIS|||||AU"
    segments = (header("MDM^T02", "1"), pid(), pv1(), txa, "OBX|1|TX|1^a||dòng 1", "OBX|2|TX|1^a||dòng 2")
    (document,) = mapped(*segments)["DocumentReference"]
    assert base64.b64decode(document["content"][0]["attachment"]["data"]).decode() == "dòng 1\ndòng 2"
    assert document["docStatus"] == "final"


def test_an_appointment_has_a_start_and_an_end() -> None:
    sch = "SCH|A1^HIS|||||R^Tái khám|||30|min|^^^202612010800"
    (appointment,) = mapped(header("SIU^S12", "1"), pid(), sch)["Appointment"]
    assert (appointment["start"], appointment["end"]) == ("2026-12-01T08:00:00+07:00", "2026-12-01T08:30:00+07:00")
    assert refused(header("SIU^S12", "2"), pid(), "SCH|A1^HIS")[0].at == "SCH-11"


def test_a_charge_keeps_its_money_and_its_columns() -> None:
    ft1 = "FT1|1|L/XML2/1||20261123|20261123|CG|40.685^Paracetamol^THUOC|||12.000|14400.00&VND|1200.000&VND"
    zcc = "ZCC|MA_NHOM^4~TYLE_TT_BH^100~DON_VI_TINH^viên~TYLE_TT_DV^50"
    (charge,) = mapped(header("DFT^P03", "1"), pid(), pv1(), ft1, zcc)["ChargeItem"]
    assert str(charge["priceOverride"]["value"]) == "14400.00"
    assert str(charge["quantity"]["value"]) == "12.000"
    assert charge["quantity"]["unit"] == "viên"
    assert str(charge["factorOverride"]) == "0.5"
    columns = {"MA_NHOM": "4", "TYLE_TT_BH": "100", "DON_VI_TINH": "viên", "TYLE_TT_DV": "50", "DON_GIA": "1200.000"}
    assert claim_columns(charge) == columns
    assert charge["identifier"][0]["value"] == "L/XML2/1"


def test_a_card_is_a_coverage_with_its_columns() -> None:
    in1 = "IN1|1|DN^BHYT|BHXH|Bảo hiểm xã hội Việt Nam||||||||20260101|20261231||||SEL" + "|" * 19 + "DN4010123456789"
    (coverage,) = mapped(header("ADT^A08", "1"), pid(), pv1(), in1, "ZCC|MA_DKBD^01Z1G")["Coverage"]
    assert coverage["identifier"][0]["value"] == "DN4010123456789"
    assert coverage["period"] == {"start": "2026-01-01", "end": "2026-12-31"}
    assert claim_columns(coverage) == {"MA_DKBD": "01Z1G"}


def test_every_fault_of_a_message_is_told_at_once() -> None:
    issues = refused(header("ADT^A01", "1"), "PID|1||||An||19800231", "DG1|1", "AL1|1", "PV1|1|I")
    assert [(issue.code, issue.at) for issue in issues] == [("required", "PID-3")]
    issues = refused(
        header("ADT^A01", "1"), "PID|1||42||An||19800231", "DG1|1", "AL1|1", "PV1|1|I" + "|" * 42 + "2026-11"
    )
    assert {issue.at for issue in issues} == {"PID-7", "DG1-3", "AL1-3", "PV1-44"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026", "2026"),
        ("202611", "2026-11"),
        ("20261123", "2026-11-23"),
        ("19530000", "1953"),
        ("195305000000", "1953-05"),
        ("195300000000", "1953"),
        ("2026112308", "2026-11-23T08:00:00+07:00"),
        ("202611232400", "2026-11-24T00:00:00+07:00"),
        ("20261123081500.1230-0500", "2026-11-23T08:15:00.1230-05:00"),
        ("20261231235960", "2026-12-31T23:59:60+07:00"),
        ("00010101", "0001-01-01"),
        ("99991231", "9999-12-31"),
        ("", None),
        ("00000000", None),
    ],
)
def test_times_keep_their_precision(text: str, expected: str | None) -> None:
    assert date_time(text) == expected


@pytest.mark.parametrize(
    "text", ["20260230", "202613", "20261123 08", "2026-11-23", "202611232500", "20261123080099", "0000", "abc"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    if text == "0000":
        assert date_time(text) is None
        return
    with pytest.raises(Unreadable):
        date_time(text)


def test_all_mandatory_types_are_read() -> None:
    visits = {f"ADT^A{number}" for number in ("01", "02", "03", "04", "08", "11", "13", "31", "40")}
    rest = "ORU^R01 ORM^O01 OML^O21 OMP^O09 RDE^O11 MDM^T02 SIU^S12 VXU^V04 DFT^P03 PPR^PC1"
    assert visits | set(rest.split()) <= set(SUPPORTED)


def test_real_world_messages_become_valid_resources_or_reasons(shared_data: Path) -> None:
    outcomes: Counter[str] = Counter()
    for line in (shared_data / "hl7v2" / "messages.jsonl").read_text("utf-8").splitlines():
        try:
            bundle = bundle_of(parse(in_production(json.loads(line)["msg"]).encode()), ORIGIN)
        except EhrError as error:
            outcomes[error.ack] += 1
            continue
        if isinstance(bundle, list):
            outcomes["AE"] += 1
            assert all(issue.at for issue in bundle)
            continue
        wrong = [
            issue
            for entry in bundle["entry"]
            for issue in validate(codec.loads(codec.dumps(entry["resource"])))
            if issue.severity == "error"
        ]
        outcomes["AE" if wrong else "AA"] += 1
        assert {issue.text.partition(":")[0] for issue in wrong} <= {"per-1"}
    assert sum(outcomes.values()) == 311
    assert outcomes["AA"] >= 250
    assert outcomes["AR"] <= 2


def test_equal_links_make_equal_keys() -> None:
    """A resend in another envelope restates the same resources: same criteria, same order of keys."""
    first, again = (bundle_of(parse(result(control)), ORIGIN) for control in ("1", "2"))
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert [entry["request"] for entry in first["entry"]] == [entry["request"] for entry in again["entry"]]
    assert LINK in json.dumps(first["entry"][1]["request"])
