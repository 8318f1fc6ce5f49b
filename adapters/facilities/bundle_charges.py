"""Write what was given and done as MedicationRequest and Procedure, and every billed line as ChargeItem.

Out:     entries of a Draft; ChargeItem.identifier is MA_LK/table/STT
Source:  ehr.fhir.vietnam, "ChargeItem = one row of XML2 or XML3"
"""

from collections.abc import Mapping
from typing import Any, Final

from adapters.facilities import claim_columns, claim_xml
from adapters.facilities.episode import Medicine, Service
from adapters.facilities.sheet import Sheet, Tree, columns, moment
from adapters.systems import local
from ehr.fhir import vietnam
from ehr.fhir.elements import coded, reference
from terminology.lists import ATC

_PRESCRIPTION: Final = local("prescription")
_PROCEDURE: Final = local("procedure")


def charges(sheet: Sheet, answers: Mapping[int, str]) -> None:
    """answers: place in XML3 → the report that line paid for."""
    rows = claim_xml.rows(sheet.episode)
    for number, (medicine, row) in enumerate(zip(sheet.episode.medicines, rows.get("XML2", ()), strict=True), start=1):
        order = _prescription(sheet, number, medicine)
        body = _common(sheet, f"XML2/{number}", columns(row, claim_columns.DRUG))
        body |= {
            "code": coded(vietnam.MA_THUOC, medicine.code, medicine.name),
            "occurrenceDateTime": moment(medicine.given),
            "quantity": {"value": medicine.quantity, "unit": medicine.unit},
            "priceOverride": {"value": medicine.amounts.hospital, "currency": vietnam.DONG},
            "enteredDate": moment(medicine.ordered),
            "service": [reference(order)],
        }
        _charge(sheet, f"XML2/{number}", body)
    for number, (service, row) in enumerate(zip(sheet.episode.services, rows["XML3"], strict=True), start=1):
        _service(sheet, number, service, row, answers.get(number))


def _service(
    sheet: Sheet,
    number: int,
    service: Service,
    row: claim_xml.Row,
    report: str | None,
) -> None:
    body = _common(sheet, f"XML3/{number}", columns(row, claim_columns.SERVICE))
    body |= {
        "code": coded(vietnam.MA_DICH_VU, service.code, service.name),
        "occurrenceDateTime": moment(service.done),
        "quantity": {"value": service.quantity, "unit": service.unit},
        "priceOverride": {"value": service.amounts.hospital, "currency": vietnam.DONG},
        "enteredDate": moment(service.ordered),
    }
    if service.performer is not None:
        identifier = {"system": vietnam.PRACTISING_CERTIFICATE, "value": service.performer.certificate}
        body["performer"] = [{"actor": {"identifier": identifier, "display": service.performer.name}}]
    delivered = report or (_procedure(sheet, number, service) if service.is_procedure else None)
    if delivered is not None:
        body["service"] = [reference(delivered)]
    _charge(sheet, f"XML3/{number}", body)


def _common(sheet: Sheet, place: str, extension: Tree) -> Tree:
    return {
        "resourceType": "ChargeItem",
        "extension": [extension],
        "identifier": [{"system": vietnam.CHARGE_NUMBER, "value": f"{sheet.episode.link}/{place}"}],
        "status": "billable",
        "subject": reference(sheet.patient),
        "context": reference(sheet.visit),
        "enterer": reference(sheet.doctor, sheet.episode.doctor.name),
        "performingOrganization": reference(f"Organization/{sheet.episode.facility.organization_id}"),
    }


def _charge(sheet: Sheet, place: str, body: Tree) -> None:
    sheet.draft.state(body, vietnam.CHARGE_NUMBER, f"{sheet.episode.link}/{place}")


def _prescription(sheet: Sheet, number: int, medicine: Medicine) -> str:
    value = f"{sheet.episode.link}/R{number}"
    codings: list[Tree] = [{"system": vietnam.MA_THUOC, "code": medicine.code}]
    if medicine.atc:
        codings.append({"system": ATC, "code": medicine.atc})
    dosage: dict[str, Any] = {
        "text": medicine.dose,
        "patientInstruction": medicine.instructions,
        "timing": {"repeat": {"frequency": medicine.times, "period": 1, "periodUnit": "d"}},
        "route": {"text": medicine.route_name},
    }
    if not medicine.whole_pack:
        dosage["doseAndRate"] = [{"doseQuantity": {"value": medicine.each, "unit": medicine.unit}}]
    request: Tree = {
        "resourceType": "MedicationRequest",
        "identifier": [{"system": _PRESCRIPTION, "value": value}],
        "status": "completed" if sheet.episode.kind == "inpatient" else "active",
        "intent": "order",
        "medicationCodeableConcept": {"coding": codings, "text": medicine.name},
        "subject": reference(sheet.patient),
        "encounter": reference(sheet.visit),
        "authoredOn": moment(medicine.ordered),
        "requester": reference(sheet.doctor, sheet.episode.doctor.name),
        "reasonCode": [coded(vietnam.ICD_10, sheet.episode.main.code, sheet.episode.main.text)],
        "dosageInstruction": [dosage],
        "dispenseRequest": {
            "quantity": {"value": medicine.quantity, "unit": medicine.unit},
            "expectedSupplyDuration": {
                "value": medicine.days,
                "unit": "ngày",
                "system": vietnam.UCUM,
                "code": "d",
            },
        },
    }
    return sheet.draft.state(request, _PRESCRIPTION, value)


def _procedure(sheet: Sheet, number: int, service: Service) -> str:
    value = f"{sheet.episode.link}/P{number}"
    concept = coded(vietnam.MA_DICH_VU, service.code, service.name)
    if service.icd9:
        concept["coding"].append({"system": vietnam.ICD_9_CM, "code": service.icd9})
    procedure: Tree = {
        "resourceType": "Procedure",
        "identifier": [{"system": _PROCEDURE, "value": value}],
        "status": "completed",
        "code": concept,
        "subject": reference(sheet.patient),
        "encounter": reference(sheet.visit),
        "performedDateTime": moment(service.done),
        "performer": [{"actor": reference(sheet.doctor, sheet.episode.doctor.name)}],
    }
    return sheet.draft.state(procedure, _PROCEDURE, value)
