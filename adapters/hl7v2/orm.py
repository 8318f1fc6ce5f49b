"""Turn ORM^O01, OML^O21, OMG^O19, OMP^O09, RDE^O11 and RDE^O01 into a transaction Bundle of requests.

Out:     Patient and Encounter mentioned; per order a ServiceRequest (OBR, ODS) or a MedicationRequest (RXO, RXE),
         with its DG1 as Conditions and its OBX as supporting Observations
Errors:  required where a message has no order, or a medicine order no medicine
Source:  HL7 v2-to-FHIR guide, messages ORM_O01 and OML_O21; ORC, OBR[ServiceRequest], RXO, RXE, RXR, TQ1 maps
"""

from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import order
from adapters.hl7v2.allergy import allergies
from adapters.hl7v2.diagnosis import conditions, problems
from adapters.hl7v2.insurance import coverages
from adapters.hl7v2.medication import medication_request
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.observation import Context, observations
from adapters.hl7v2.order import Group
from adapters.hl7v2.patient import patient, related_persons
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.specimen import specimens
from adapters.hl7v2.visit import Visit, mentioned
from adapters.port import Mapped, Origin
from ehr.fhir.elements import reference

MEDICINES: Final = ("RXE", "RXO")


def orm(message: Message, origin: Origin) -> Mapped:
    reading = Reading(message, origin)
    patient_url = patient(reading, mention=True)
    if patient_url is None:
        return reading.issues
    related_persons(reading, patient_url)
    allergies(reading, patient_url)
    coverages(reading, patient_url)
    visit = mentioned(reading, patient_url)
    conditions(reading, patient_url, None)
    problems(reading, patient_url, visit)
    groups = order.groups(message)
    if not groups:
        reading.fault("required", "an order message has an ORC segment", "ORC")
    context = Context(patient_url, digest(patient_url, origin.control_id, "orm"), visit.url if visit else None)
    observations(reading, order.before(message, groups), context)
    for group in groups:
        requested(reading, group, patient_url, visit)
    return reading.result()


def requested(reading: Reading, group: Group, patient_url: str, visit: Visit | None) -> str:
    """The request of one order group."""
    medicine = next((segment for name in MEDICINES if (segment := group.find(name))), None)
    if medicine is not None:
        url = medication_request(reading, group, medicine, patient_url, visit)
    else:
        url = _service_request(reading, group, patient_url, visit)
    key = order.key(reading, group, "order-detail")
    context = Context(patient_url, key, visit_url=visit.url if visit else None, section="exam")
    found = observations(reading, group.segments, context)
    if found:
        name = "supportingInformation" if medicine is not None else "supportingInfo"
        reading.draft.get(url)[name] = [reference(other) for other in found]
    return url


def _service_request(reading: Reading, group: Group, patient_url: str, visit: Visit | None) -> str:
    key = order.key(reading, group, "order")
    system = systems.local("service-request")
    request = group.find("OBR")
    resource: Tree = {
        "resourceType": "ServiceRequest",
        "identifier": [*order.identifiers(group), {"system": system, "value": key}],
        "status": order.status(group),
        "intent": "order",
    }
    urgency = order.priority(group)
    if urgency:
        resource["priority"] = urgency
    detail = group.detail
    code = reading.concept(detail, {"OBR": 4, "ODS": 3}.get(detail.name, 4)) if detail else None
    if code:
        resource["code"] = code
    resource["subject"] = reference(patient_url)
    if visit:
        resource["encounter"] = reference(visit.url)
    _when_and_who(reading, group, request, resource)
    found = specimens(reading, group, patient_url, key)
    if found:
        resource["specimen"] = [reference(url) for url in found]
    notes = request.notes if request else []
    if notes:
        resource["note"] = [{"text": text} for text in notes]
    return reading.draft.state(resource, system, key)


def _when_and_who(reading: Reading, group: Group, request: Segment | None, resource: Tree) -> None:
    timing = group.find("TQ1")
    start = reading.moment(timing, 7) or (
        reading.moment_of(group.common.text(7, 4), group.common.path(7)) if group.common else None
    )
    occurs = start or reading.moment(request, 6) or reading.moment(request, 7)
    if occurs:
        resource["occurrenceDateTime"] = occurs
    authored = reading.moment(group.common, 9)
    if authored:
        resource["authoredOn"] = authored
    requesters = practitioners(reading, group.common, 12) or practitioners(reading, request, 16)
    if requesters:
        resource["requester"] = requesters[0]
    reasons = [
        concept
        for segment, field in ((request, 31), (group.common, 16))
        if segment is not None
        for element in segment.repetitions(field)
        if (concept := reading.concept_of(element))
    ]
    if request is not None and request.text(13):
        reasons.append({"text": request.first(13).whole().strip()})
    if reasons:
        resource["reasonCode"] = reasons
