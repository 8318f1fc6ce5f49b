"""Turn MDM^T01 to T11 into a transaction Bundle with one DocumentReference.

Keeps:   the text of every OBX, line by line, as text/plain; an embedded document (ED) byte for byte. Where a message
         has none, as a notification or a cancellation, what an earlier one brought stays
Source:  HL7 v2-to-FHIR guide, message MDM_T02, TXA[DocumentReference], OBX[DocumentReference], tables 0271, 0273
"""

from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.attachment import attachment, media_type, text_attachment
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.order import groups
from adapters.hl7v2.orm import requested
from adapters.hl7v2.patient import patient
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.visit import Visit, mentioned
from adapters.port import Mapped, Origin
from ehr.fhir.elements import TERMINOLOGY, coded, reference

COMPLETION: Final = {
    "DI": "preliminary",
    "DO": "final",
    "IP": "preliminary",
    "IN": "preliminary",
    "PA": "preliminary",
    "AU": "final",
    "LA": "final",
}
"""TXA-17 → DocumentReference.docStatus."""
AVAILABILITY: Final = {"AV": "current", "CA": "entered-in-error", "OB": "superseded", "UN": "superseded"}
CONFIDENTIALITY: Final = {"V": "V", "R": "R", "U": "N", "N": "N"}
CANCELS: Final = frozenset({"T11"})


def mdm(message: Message, origin: Origin) -> Mapped:
    reading = Reading(message, origin)
    patient_url = patient(reading, mention=True)
    if patient_url is None:
        return reading.issues
    visit = mentioned(reading, patient_url)
    segment = message.find("TXA")
    if segment is None:
        reading.fault("required", "a document message has a TXA segment", "TXA")
        return reading.result()
    orders = [group for group in groups(message) if group.common is not None]
    for other in message.segments[: segment.position]:
        if other.name == "OBX" and not any(other in group.segments for group in orders):
            reading.fault("structure", "an OBX before TXA belongs to no document", other.path(5))
    related = [requested(reading, group, patient_url, visit) for group in orders]
    _document(reading, segment, patient_url, visit, related)
    return reading.result()


def _document(reading: Reading, segment: Segment, patient_url: str, visit: Visit | None, related: list[str]) -> None:
    own = datatypes.entity(segment.first(12))
    number = segment.text(12)
    system = systems.local("document")
    value = digest(*own) if own else digest(patient_url, reading.origin.control_id)
    _, event = reading.message.type
    resource: Tree = {
        "resourceType": "DocumentReference",
        "identifier": [{"system": system, "value": value}],
        "status": "entered-in-error" if event in CANCELS else AVAILABILITY.get(segment.text(19).upper(), "current"),
        "subject": reference(patient_url),
    }
    if own and number:
        resource["masterIdentifier"] = {"system": own[0], "value": own[1]}
    completion = COMPLETION.get(segment.text(17).upper())
    if completion:
        resource["docStatus"] = completion
    kind = reading.concept(segment, 2)
    if kind:
        resource["type"] = kind
    made = reading.moment(segment, 6) or reading.moment(segment, 4)
    if made and "T" in made:
        resource["date"] = made
    authors = practitioners(reading, segment, 9)
    if authors:
        resource["author"] = authors
    signers = practitioners(reading, segment, 10)
    if signers:
        resource["authenticator"] = signers[0]
    label = CONFIDENTIALITY.get(segment.text(18).upper())
    if label:
        resource["securityLabel"] = [coded(TERMINOLOGY + "v3-Confidentiality", label)]
    if segment.text(25):
        resource["description"] = segment.text(25)
    sent = _contents(reading, segment)
    resource["content"] = sent or [{"attachment": _kind(segment)}]
    context: Tree = {}
    if visit:
        context["encounter"] = [reference(visit.url)]
    if related:
        context["related"] = [reference(url) for url in related]
    if context:
        resource["context"] = context
    url = reading.draft.state(resource, system, value)
    if not sent:
        reading.draft.defer(url, ["content"])


def _contents(reading: Reading, segment: Segment) -> list[Tree]:
    """One text of all text lines, then every embedded document."""
    lines: list[str] = []
    embedded: list[Tree] = []
    for other in reading.message.segments[segment.position + 1 :]:
        if other.name != "OBX":
            continue
        for element in other.repetitions(5):
            found = attachment(element) if other.text(2).upper() == "ED" else None
            if found:
                embedded.append(found)
            else:
                lines.append(element.whole())
    contents = [{"attachment": text_attachment("\n".join(lines), _title(segment))}] if any(lines) else []
    return [*contents, *({"attachment": found} for found in embedded)]


def _kind(segment: Segment) -> Tree:
    """What is said of a document that was not sent."""
    title = _title(segment)
    kind: Tree = {"contentType": media_type(segment.text(3), segment.text(3))}
    return {**kind, **({"title": title} if title else {})}


def _title(segment: Segment) -> str:
    return segment.text(25) or segment.text(16)
