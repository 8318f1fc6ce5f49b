"""Turn IN1 into Coverage; a BHYT card by its number.

Keeps:   claim columns that follow IN1 (MA_DKBD, MA_KHUVUC …)
Source:  HL7 v2-to-FHIR guide, IN1[Coverage]; card form by QĐ 1351/QĐ-BHXH (2 letters and 13 digits, or 10 digits)
"""

import re
from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Segment
from adapters.hl7v2.reading import Reading
from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference

CARD: Final = re.compile(r"[A-Z]{2}\d{13}|\d{10}")
RELATION: Final = {"SEL": "self", "SELF": "self", "SPO": "spouse", "CHD": "child", "PAR": "parent", "OTH": "other"}


def coverages(reading: Reading, patient_url: str) -> None:
    for segment in reading.message.all("IN1"):
        _coverage(reading, segment, patient_url)


def _coverage(reading: Reading, segment: Segment, patient_url: str) -> None:
    card = (segment.text(36) or segment.text(49)).replace(" ", "")
    insurer = segment.text(4)
    plan = reading.concept(segment, 2)
    if not card and not insurer and not plan and not segment.filled(3):
        return  # an IN1 with a set id only
    if CARD.fullmatch(card):
        system, value = vietnam.INSURANCE_NUMBER, card
    else:
        system = systems.local("coverage")
        value = digest(patient_url, card, insurer, segment.text(3), datatypes.concept_key(plan or {}))
    resource: Tree = {
        "resourceType": "Coverage",
        "identifier": [{"system": system, "value": value}],
        "status": "active",
        "beneficiary": reference(patient_url),
        "payor": [_payor(segment)],
    }
    if card:
        resource["subscriberId"] = card
    if plan:
        resource["type"] = plan
    relation = RELATION.get(segment.text(17).upper())
    if relation:
        resource["relationship"] = coded(TERMINOLOGY + "subscriber-policyholder-relationship", relation)
    period = {key: day for key, field in (("start", 12), ("end", 13)) if (day := reading.moment(segment, field))}
    if period:
        resource["period"] = period
    group = segment.text(8)
    if group:
        resource["class"] = [{"type": coded(TERMINOLOGY + "coverage-class", "group"), "value": group}]
    columns = reading.claim_columns(segment)
    if columns:
        resource["extension"] = [columns]
    reading.draft.state(resource, system, value)


def _payor(segment: Segment) -> Tree:
    """The insurer by name and number; its Organization is not the facility's to write."""
    number = segment.first(3).component(1)
    result: Tree = {}
    if number:
        result["identifier"] = {"system": systems.local("insurer"), "value": number}
    if segment.text(4):
        result["display"] = segment.text(4)
    return result or {"display": "insurer not named"}
