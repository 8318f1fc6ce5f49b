"""Turn one DFT^P03 into a transaction Bundle: one ChargeItem per FT1, and what the message says of the visit.

Units:   money and quantities with their digits as sent; the currency of FT1-11 and FT1-12, đồng where none is named
Keeps:   claim columns (ZCC after FT1: MA_NHOM, DON_GIA, TYLE_TT_BH …) exactly as sent; FT1-12 is the unit price where
         no column says it
Errors:  required where FT1 names no item; not-supported for credits and payments, which are no charge
Source:  HL7 v2.5.1 6.5.1 FT1; FHIR R4 13.3 ChargeItem; ehr.fhir.vietnam (how a charge lies in a ChargeItem)
"""

from decimal import Decimal
from typing import Final

from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes, order
from adapters.hl7v2.diagnosis import conditions, procedures
from adapters.hl7v2.insurance import coverages
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.observation import Context, observations
from adapters.hl7v2.orm import requested
from adapters.hl7v2.patient import patient
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.visit import Visit, mentioned
from adapters.port import Mapped, Origin
from ehr.fhir import vietnam
from ehr.fhir.elements import reference

CHARGE: Final = frozenset({"", "CG", "CHARGE", "CD", "DEBIT"})
"""FT1-6 (table 0017): a charge, or nothing said."""
REVERSAL: Final = frozenset({"CR", "CREDIT"})
UNIT_PRICE: Final = {vietnam.MA_THUOC: "DON_GIA", vietnam.MA_DICH_VU: "DON_GIA_BV", vietnam.MA_VAT_TU: "DON_GIA_BV"}


def dft(message: Message, origin: Origin) -> Mapped:
    reading = Reading(message, origin)
    patient_url = patient(reading, mention=True)
    if patient_url is None:
        return reading.issues
    visit = mentioned(reading, patient_url)
    coverages(reading, patient_url)
    conditions(reading, patient_url, None)
    procedures(reading, patient_url, visit)
    groups = order.groups(message)
    context = Context(patient_url, digest(patient_url, origin.control_id, "dft"), visit.url if visit else None)
    observations(reading, order.before(message, groups), context)
    for group in groups:
        requested(reading, group, patient_url, visit)
    charges = message.all("FT1")
    if not charges:
        reading.fault("required", "a charge message has an FT1 segment", "FT1")
    for segment in charges:
        _charge(reading, segment, patient_url, visit)
    return reading.result()


def _charge(reading: Reading, segment: Segment, patient_url: str, visit: Visit | None) -> None:
    kind = segment.text(6).upper()
    code = _item(reading, segment)
    if kind not in CHARGE | REVERSAL:
        reading.fault("not-supported", "FT1-6: payments and adjustments are not charges", segment.path(6))
        return
    if not code:
        reading.fault("required", "FT1-7 names no item", segment.path(7))
        return
    number = segment.text(2)
    scope = visit.key if visit else patient_url
    if number:
        system, value = vietnam.CHARGE_NUMBER, number
    else:
        system, value = vietnam.CHARGE_NUMBER, digest(scope, reading.origin.control_id, str(segment.occurrence))
    resource: Tree = {
        "resourceType": "ChargeItem",
        "identifier": [{"system": system, "value": value}],
        "status": "entered-in-error" if kind in REVERSAL else "billable",
        "code": code,
        "subject": reference(patient_url),
    }
    if visit:
        resource["context"] = reference(visit.url)
    happened = reading.moment_of(segment.text(4, 1), segment.path(4))
    if happened:
        resource["occurrenceDateTime"] = happened
    entered = reading.moment(segment, 5)
    if entered:
        resource["enteredDate"] = entered
    _people(reading, segment, resource)
    _money(reading, segment, resource)
    reasons = [
        found
        for element in segment.repetitions(19)
        if (found := datatypes.diagnosis(element, reading.origin.facility_code))
    ]
    if reasons:
        resource["reason"] = reasons
    reading.draft.state(resource, system, value)


def _item(reading: Reading, segment: Segment) -> Tree:
    """FT1-7, the name from FT1-8 where the code brings none; FT1-25 for a procedure without an item code."""
    code = reading.concept(segment, 7) or reading.concept(segment, 25) or {}
    if segment.text(8) and "text" not in code:
        code["text"] = segment.text(8)
    return code


def _people(reading: Reading, segment: Segment, resource: Tree) -> None:
    performers = practitioners(reading, segment, 20)
    if performers:
        resource["performer"] = [{"actor": person} for person in performers]
    orderers = practitioners(reading, segment, 21, 24)
    if orderers:
        resource["enterer"] = orderers[0]


def _money(reading: Reading, segment: Segment, resource: Tree) -> None:
    """Quantity, the whole line as priceOverride, and the claim columns."""
    quantity = datatypes.decimal(segment.text(10))
    if segment.text(10) and quantity is None:
        reading.fault("value", "not a number", segment.path(10))
    elif quantity is not None:
        resource["quantity"] = {"value": quantity}
    # CP: amount (MO: number & currency) ^ price type; older versions send a bare number
    whole = _amount(reading, segment, 11)
    if whole is not None:
        resource["priceOverride"] = {"value": whole, "currency": segment.text(11, 1, 2) or vietnam.DONG}
    each = _amount(reading, segment, 12)
    columns = reading.claim_columns(segment)
    named = {part["url"] for part in columns["extension"]} if columns else set()
    price = next(
        (UNIT_PRICE[c["system"]] for c in resource["code"].get("coding", ()) if c.get("system") in UNIT_PRICE), ""
    )
    if each is not None and price and price not in named:
        columns = columns or {"url": vietnam.CLAIM_COLUMNS, "extension": []}
        columns["extension"].append({"url": price, "valueString": segment.text(12, 1, 1)})
    elif each is not None and not price:
        resource["note"] = [{"text": f"unit price {segment.text(12, 1, 1)} {segment.text(12, 1, 2)}".strip()}]
    if columns:
        resource["extension"] = [columns]
        _measures(columns, resource)


def _measures(columns: Tree, resource: Tree) -> None:
    """The unit and the rate that FT1 has no field for, in the elements ChargeItem has for them."""
    stated = {part["url"]: part["valueString"] for part in columns["extension"]}
    if stated.get("DON_VI_TINH") and "quantity" in resource:
        resource["quantity"]["unit"] = stated["DON_VI_TINH"]
    rate = datatypes.decimal(stated.get("TYLE_TT_DV", ""))
    if rate is not None:
        resource["factorOverride"] = rate / 100


def _amount(reading: Reading, segment: Segment, number: int) -> Decimal | None:
    text = segment.text(number, 1, 1)
    amount = datatypes.decimal(text)
    if text and amount is None:
        reading.fault("value", "not an amount", segment.path(number))
    return amount
