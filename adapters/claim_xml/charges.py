"""Turn rows of XML2 and XML3 into what was ordered or done, and what it costs: MedicationRequest, ServiceRequest,
Procedure, ChargeItem.

Units:   money and quantities with their digits as sent, as Decimal where FHIR has the element and as text in the claim
         columns; nothing is computed here
Source:  QĐ 4750 tables XML2 and XML3; MA_NHOM: cost groups; ehr.fhir.vietnam (how a row lies in a ChargeItem)
"""

from decimal import Decimal
from typing import Final

from adapters import systems
from adapters.claim_xml.columns import add_columns, clinicians, parts
from adapters.claim_xml.envelope import Row
from adapters.claim_xml.moments import minute
from adapters.claim_xml.stay import Stay
from adapters.draft import Tree
from ehr.fhir import vietnam
from ehr.fhir.elements import coded, reference

REQUESTED: Final = frozenset({"1", "2", "3"})
"""MA_NHOM of tests, images and functional tests: their result is in XML4."""
PERFORMED: Final = frozenset({"8", "18"})
"""MA_NHOM of operations and procedures."""
CODES: Final = (
    ("MA_THUOC", "TEN_THUOC", vietnam.MA_THUOC),
    ("MA_VAT_TU", "TEN_VAT_TU", vietnam.MA_VAT_TU),
    ("MA_DICH_VU", "TEN_DICH_VU", vietnam.MA_DICH_VU),
)
_HUNDRED: Final = Decimal(100)
_OWN_ELEMENT: Final = frozenset({"MA_LK", "STT", "SO_LUONG", "DON_VI_TINH"})


def medicines(stay: Stay, rows: list[Row]) -> None:
    for row in rows:
        order = _medication_request(stay, row)
        _charge(stay, row, "XML2", order)


def services(stay: Stay, rows: list[Row]) -> None:
    for row in rows:
        group = row.get("MA_NHOM", "")
        done: str | None = None
        if row.get("MA_DICH_VU") and group in REQUESTED:
            done = _service_request(stay, row)
        elif row.get("MA_DICH_VU") and group in PERFORMED:
            done = _procedure(stay, row)
        _charge(stay, row, "XML3", done)


def number_of(row: Row, table: str) -> str:
    return f"{row['MA_LK']}/{table}/{row['STT']}"


def _concept(row: Row, *, only: str | None = None) -> Tree:
    """The one code of a row and its name."""
    for code, name, system in CODES:
        if row.get(code) and only in (None, code):
            text = row.get(name) or row[code]
            return coded(system, " ".join(row[code].split()), text)
    text = next((row[name] for _, name, _ in CODES if row.get(name)), "")
    return {"text": text} if text else {}


def _medication_request(stay: Stay, row: Row) -> str:
    system, value = systems.local("medication-request"), number_of(row, "XML2")
    resource: Tree = {
        "resourceType": "MedicationRequest",
        "identifier": [{"system": system, "value": value}],
        "status": "completed",
        "intent": "order",
        "medicationCodeableConcept": _concept(row, only="MA_THUOC"),
        "subject": stay.patient,
        "encounter": stay.visit,
        "authoredOn": minute(row["NGAY_YL"]),
    }
    requesters = clinicians(row, "MA_BAC_SI")
    if requesters:
        resource["requester"] = requesters[0]
    dosage: Tree = {}
    if row.get("LIEU_DUNG"):
        dosage["text"] = row["LIEU_DUNG"]
    if row.get("CACH_DUNG"):
        dosage["patientInstruction"] = row["CACH_DUNG"]
    if row.get("DUONG_DUNG"):
        dosage["route"] = coded(vietnam.DUONG_DUNG, row["DUONG_DUNG"])
    if dosage:
        resource["dosageInstruction"] = [dosage]
    resource["dispenseRequest"] = {"quantity": _quantity(row)}
    add_columns(resource, row, ("HAM_LUONG", "DANG_BAO_CHE", "SO_DANG_KY"))
    return stay.draft.state(resource, system, value)


def _service_request(stay: Stay, row: Row) -> str:
    system, value = systems.local("service-request"), number_of(row, "XML3")
    resource: Tree = {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": system, "value": value}],
        "status": "completed",
        "intent": "order",
        "code": _concept(row, only="MA_DICH_VU"),
        "subject": stay.patient,
        "encounter": stay.visit,
        "authoredOn": minute(row["NGAY_YL"]),
    }
    if row.get("NGAY_TH_YL"):
        resource["occurrenceDateTime"] = minute(row["NGAY_TH_YL"])
    requesters = clinicians(row, "MA_BAC_SI")
    if requesters:
        resource["requester"] = requesters[0]
    performers = clinicians(row, "NGUOI_THUC_HIEN")
    if performers:
        resource["performer"] = performers
    return stay.draft.state(resource, system, value)


def _procedure(stay: Stay, row: Row) -> str:
    system, value = systems.local("procedure"), number_of(row, "XML3")
    code = _concept(row, only="MA_DICH_VU")
    code["coding"] += [{"system": vietnam.ICD_9_CM, "code": part} for part in parts(row, "MA_PTTT_QT")]
    resource: Tree = {
        "resourceType": "Procedure",
        "identifier": [{"system": system, "value": value}],
        "status": "completed",
        "code": code,
        "subject": stay.patient,
        "encounter": stay.visit,
        "performedDateTime": minute(row.get("NGAY_TH_YL") or row["NGAY_YL"]),
    }
    performers = clinicians(row, "NGUOI_THUC_HIEN") or clinicians(row, "MA_BAC_SI")
    if performers:
        resource["performer"] = [{"actor": person} for person in performers]
    reasons = parts(row, "MA_BENH")
    if reasons:
        resource["reasonCode"] = [coded(vietnam.ICD_10, code) for code in reasons]
    return stay.draft.state(resource, system, value)


def _charge(stay: Stay, row: Row, table: str, service: str | None) -> None:
    value = number_of(row, table)
    resource: Tree = {
        "resourceType": "ChargeItem",
        "identifier": [{"system": vietnam.CHARGE_NUMBER, "value": value}],
        "status": "billable",
        "code": _concept(row),
        "subject": stay.patient,
        "context": stay.visit,
    }
    if row.get("NGAY_TH_YL"):
        resource["occurrenceDateTime"] = minute(row["NGAY_TH_YL"])
    resource["enteredDate"] = minute(row["NGAY_YL"])
    orderers = clinicians(row, "MA_BAC_SI")
    if orderers:
        resource["enterer"] = orderers[0]
    performers = clinicians(row, "NGUOI_THUC_HIEN")
    if performers:
        resource["performer"] = [{"actor": person} for person in performers]
    resource["quantity"] = _quantity(row)
    resource["priceOverride"] = {"value": Decimal(row["THANH_TIEN_BV"]), "currency": vietnam.DONG}
    if row.get("TYLE_TT_DV"):
        resource["factorOverride"] = Decimal(row["TYLE_TT_DV"]) / _HUNDRED
    if service:
        resource["service"] = [reference(service)]
    kept = {name: text for name, text in row.items() if text and name not in _OWN_ELEMENT}
    resource["extension"] = [vietnam.columns_extension(kept)]
    stay.draft.state(resource, vietnam.CHARGE_NUMBER, value)


def _quantity(row: Row) -> Tree:
    quantity: Tree = {"value": Decimal(row["SO_LUONG"])}
    if row.get("DON_VI_TINH"):
        quantity["unit"] = row["DON_VI_TINH"]
    return quantity
