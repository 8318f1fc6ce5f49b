"""Turn SPM, or OBR-15 of older versions, into Specimen.

Source:  HL7 v2-to-FHIR guide, SPM[Specimen], OBR[Specimen]; FHIR R4 10.5
"""

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Segment
from adapters.hl7v2.order import Group
from adapters.hl7v2.reading import Reading
from ehr.fhir.elements import reference


def specimens(reading: Reading, group: Group, patient_url: str, order_key: str) -> list[str]:
    """The references of a group's specimens."""
    found = [_from_spm(reading, segment, patient_url, order_key) for segment in group.all("SPM")]
    request = group.find("OBR")
    if not found and request is not None and request.first(15):
        found.append(_from_obr(reading, request, patient_url, order_key))
    return found


def _from_spm(reading: Reading, segment: Segment, patient_url: str, order_key: str) -> str:
    placer, filler = segment.text(2, 1, 1), segment.text(2, 2, 1)
    number = placer or filler
    namespace = segment.text(2, 1, 2) if placer else segment.text(2, 2, 2)
    if number:
        system, value = systems.local("specimen" + (f":{namespace}" if namespace else "")), number
    else:
        system, value = systems.local("specimen"), digest(order_key, segment.text(1) or str(segment.occurrence))
    resource: Tree = {"resourceType": "Specimen", "identifier": [{"system": system, "value": value}]}
    kind = reading.concept(segment, 4)
    if kind:
        resource["type"] = kind
    resource["subject"] = reference(patient_url)
    received = reading.moment(segment, 18)
    if received:
        resource["receivedTime"] = received
    collection: Tree = {}
    began = reading.moment_of(segment.text(17, 1), segment.path(17))
    ended = reading.moment_of(segment.text(17, 2), segment.path(17))
    if began and ended and began != ended:
        collection["collectedPeriod"] = {"start": began, "end": ended}
    elif began:
        collection["collectedDateTime"] = began
    for name, field in (("method", 7), ("bodySite", 8)):
        concept = reading.concept(segment, field)
        if concept:
            collection[name] = concept
    if collection:
        resource["collection"] = collection
    notes = [element.whole().strip() for element in segment.repetitions(14)]
    if notes:
        resource["note"] = [{"text": text} for text in notes]
    return reading.draft.state(resource, system, value)


def _from_obr(reading: Reading, segment: Segment, patient_url: str, order_key: str) -> str:
    """OBR-15: specimen source; the code and its text are sub-components of the first component."""
    code, text, system_name = (segment.text(15, 1, sub) for sub in (1, 2, 3))
    system, value = systems.local("specimen"), digest(order_key, "OBR-15")
    resource: Tree = {"resourceType": "Specimen", "identifier": [{"system": system, "value": value}]}
    uri = systems.code_system(system_name, reading.origin.facility_code)
    kind: Tree = {}
    if code:
        kind["coding"] = [{**({"system": uri} if uri else {}), "code": " ".join(code.split())}]
    if text or not code:
        kind["text"] = text or datatypes.concept_key(reading.concept(segment, 15) or {}) or segment.first(15).whole()
    resource["type"] = kind
    resource["subject"] = reference(patient_url)
    received = reading.moment(segment, 14)
    if received:
        resource["receivedTime"] = received
    return reading.draft.state(resource, system, value)
