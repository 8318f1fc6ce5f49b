"""Turn PPR^PC1, PC2 and PC3 into a transaction Bundle: the patient, the visit and the problem list.

Errors:  required where a message names no problem
Source:  HL7 v2.5.1 12.3.2 (PPR), 12.4.2 PRB; HL7 v2-to-FHIR guide, PID and PV1 maps
"""

from adapters.draft import digest
from adapters.hl7v2 import order
from adapters.hl7v2.allergy import allergies
from adapters.hl7v2.diagnosis import problems
from adapters.hl7v2.message import Message
from adapters.hl7v2.observation import Context, observations
from adapters.hl7v2.orm import requested
from adapters.hl7v2.patient import patient
from adapters.hl7v2.reading import Reading
from adapters.hl7v2.visit import mentioned, stated
from adapters.port import Mapped, Origin


def ppr(message: Message, origin: Origin) -> Mapped:
    reading = Reading(message, origin)
    patient_url = patient(reading)
    if patient_url is None:
        return reading.issues
    visit = mentioned(reading, patient_url) or stated(reading, patient_url, "")
    allergies(reading, patient_url)
    problems(reading, patient_url, visit)
    groups = order.groups(message)
    context = Context(
        patient_url, digest(patient_url, origin.control_id, "ppr"), visit_url=visit.url if visit else None
    )
    observations(reading, order.before(message, groups), context)
    for group in groups:
        requested(reading, group, patient_url, visit)
    return reading.result()
