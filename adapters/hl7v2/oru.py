"""Turn one ORU^R01 (and R03, R30, R32) into a FHIR transaction Bundle.

Out:     of each patient: Patient and Encounter mentioned, one DiagnosticReport per OBR, one Observation per OBX,
         Specimens; OBX before the first order are Observations of the patient
Keeps:   digits, units, ranges and flags as sent (observation.py); embedded documents as presentedForm
Order:   a result may come before its patient's admission: patient and visit are made sure of, not stated
Errors:  list[Issue] with HL7 paths; no partial Bundle
Source:  HL7 v2-to-FHIR guide, message ORU_R01, OBR[DiagnosticReport], tables 0123 and 0074
"""

from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import order
from adapters.hl7v2.attachment import attachment
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.observation import Context, observations
from adapters.hl7v2.order import Group
from adapters.hl7v2.patient import patient
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.specimen import specimens
from adapters.hl7v2.visit import Visit, mentioned
from adapters.port import Mapped, Origin
from ehr.fhir import vietnam
from ehr.fhir.elements import EXTENSION, TERMINOLOGY, code_of, coded, reference

STATUS: Final = {
    "O": "registered",
    "I": "registered",
    "S": "registered",
    "A": "partial",
    "P": "preliminary",
    "R": "partial",
    "N": "registered",
    "C": "corrected",
    "M": "corrected",
    "F": "final",
    "X": "cancelled",
}
"""OBR-25 (table 0123) → DiagnosticReport.status."""
IMAGING: Final = frozenset({"RAD", "RUS", "RX", "CT", "CTH", "CUS", "NMR", "NMS", "OUS", "VUS", "XRC", "IMG", "MRI"})
PROCEDURE: Final = frozenset({"EC", "EN", "CUS", "PF", "PHY", "OT", "PT", "RT", "RC", "EKG", "ECG"})


def oru(message: Message, origin: Origin) -> Mapped:
    reading = Reading(message, origin)
    for part in message.by_patient():
        _results(reading.about(part), origin)
    return reading.result()


def _results(reading: Reading, origin: Origin) -> None:
    """The results of one patient."""
    patient_url = patient(reading, mention=True)
    if patient_url is None:
        return
    visit = mentioned(reading, patient_url)
    groups = order.groups(reading.message)
    if not any(group.find("OBR") for group in groups):
        reading.fault("required", "a result message has an OBR segment", "OBR")
    context = Context(patient_url, digest(patient_url, origin.control_id, "oru"), visit.url if visit else None)
    observations(reading, order.before(reading.message, groups), context)
    for group in groups:
        if group.find("OBR"):
            report(reading, group, patient_url, visit)
        elif group.find("OBX"):
            reading.fault("required", "results follow an OBR segment; this order has none", group.segments[0].name)


def section(segment: Segment) -> str:
    """OBR-24 as observation category: laboratory unless the sender names another department."""
    code = segment.text(24).upper()
    if code in IMAGING:
        return "imaging"
    return "procedure" if code in PROCEDURE else "laboratory"


def report(reading: Reading, group: Group, patient_url: str, visit: Visit | None) -> str:
    """DiagnosticReport with its observations."""
    request = group.find("OBR")
    assert request is not None, "a report has an OBR"
    system = systems.local("report")
    key = order.key(reading, group, "report", filler_first=True)
    while reading.draft.states("DiagnosticReport", system, key):
        key = digest(key, "again")  # the same test under the same number, twice in one message
    status = STATUS.get(request.text(25).upper(), "unknown")
    specimen_urls = specimens(reading, group, patient_url, key)
    context = Context(
        patient_url,
        key,
        visit_url=visit.url if visit else None,
        effective=reading.moment(request, 7),
        issued=issued(reading, request),
        specimen_url=specimen_urls[0] if specimen_urls else None,
        order_url=_order(reading, group, patient_url, visit, request),
        section=section(request),
        service_code=code_of(reading.concept(request, 4), vietnam.MA_DICH_VU) or "",
        status="final" if status in ("final", "corrected") else "unknown",
    )
    found = observations(reading, group.segments, context)
    resource: Tree = {
        "resourceType": "DiagnosticReport",
        "identifier": [*order.identifiers(group), {"system": system, "value": key}],
        "status": status,
        "category": [_category(request, context)],
        "code": reading.concept(request, 4) or _without_code(),
        "subject": reference(patient_url),
    }
    if context.order_url:
        resource["basedOn"] = [reference(context.order_url)]
    if visit:
        resource["encounter"] = reference(visit.url)
    ended = reading.moment(request, 8)
    if context.effective and ended and ended != context.effective:
        resource["effectivePeriod"] = {"start": context.effective, "end": ended}
    elif context.effective:
        resource["effectiveDateTime"] = context.effective
    if context.issued:
        resource["issued"] = context.issued
    if specimen_urls:
        resource["specimen"] = [reference(url) for url in specimen_urls]
    if found:
        resource["result"] = [reference(url) for url in found]
    _readers(request, resource)
    _documents(group, resource)
    notes = request.notes
    if notes:
        resource["conclusion"] = "\n".join(notes)
    return reading.draft.state(resource, system, key)


def issued(reading: Reading, request: Segment) -> str | None:
    """OBR-22 as instant; a day alone is none."""
    moment = reading.moment(request, 22)
    return moment if moment and "T" in moment else None


def _category(request: Segment, context: Context) -> Tree:
    code = request.text(24).upper()
    if code:
        return coded(TERMINOLOGY + "v2-0074", code)
    default = {"laboratory": "LAB", "imaging": "RAD"}.get(context.section, "OTH")
    return coded(TERMINOLOGY + "v2-0074", default)


def _without_code() -> Tree:
    """DiagnosticReport.code is demanded; a sender who named no test is not given one."""
    url = EXTENSION + "data-absent-reason"
    return {"extension": [{"url": url, "valueCode": "unknown"}]}


def _readers(request: Segment, resource: Tree) -> None:
    """OBR-32 (NDL: the person is the first component) interprets; OBR-16 ordered it."""
    readers = []
    for element in request.repetitions(32):
        family, given = element.text(1, 2), element.text(1, 3)
        name = " ".join(part for part in (family, given) if part)
        number = element.text(1, 1)
        item: Tree = {"display": name} if name else {}
        if number:
            item["identifier"] = {"system": systems.local("reader"), "value": number}
        if item:
            readers.append(item)
    if readers:
        resource["resultsInterpreter"] = readers


def _documents(group: Group, resource: Tree) -> None:
    forms = []
    for segment in group.all("OBX"):
        if segment.text(2).upper() != "ED":
            continue
        for element in segment.repetitions(5):
            found = attachment(element)
            if found:
                title = segment.text(3, 2) or segment.text(3)
                forms.append({**found, **({"title": title} if title else {})})
    if forms:
        resource["presentedForm"] = forms


def _order(reading: Reading, group: Group, patient_url: str, visit: Visit | None, request: Segment) -> str | None:
    """The order a report answers, where it has a number of the placer; its own message says more."""
    placer, _ = order.numbers(group)
    if placer is None:
        return None
    key = order.key(reading, group, "order")
    system = systems.local("service-request")
    resource: Tree = {
        "resourceType": "ServiceRequest",
        "identifier": [*order.identifiers(group), {"system": system, "value": key}],
        "status": "completed" if STATUS.get(request.text(25).upper()) in ("final", "corrected") else "active",
        "intent": "order",
        "subject": reference(patient_url),
    }
    code = reading.concept(request, 4)
    if code:
        resource["code"] = code
    if visit:
        resource["encounter"] = reference(visit.url)
    requesters = practitioners(reading, group.common, 12) or practitioners(reading, request, 16)
    if requesters:
        resource["requester"] = requesters[0]
    return reading.draft.mention(resource, system, key)
