"""Turn AL1 and IAM into AllergyIntolerance.

Errors:  required where a segment names no substance
Source:  HL7 v2-to-FHIR guide, AL1[AllergyIntolerance], IAM[AllergyIntolerance], tables 0127 and 0128
"""

from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Segment
from adapters.hl7v2.reading import Reading
from ehr.fhir.elements import TERMINOLOGY, coded, reference

CATEGORY: Final = {
    "DA": "medication",
    "DRUG": "medication",
    "FA": "food",
    "FOOD": "food",
    "EA": "environment",
    "AA": "environment",
    "PA": "environment",
    "LA": "environment",
}
CRITICALITY: Final = {"SV": "high", "SEVERE": "high", "MO": "low", "MODERATE": "low", "MI": "low", "MILD": "low"}
SEVERITY: Final = {"SV": "severe", "MO": "moderate", "MI": "mild", "SEVERE": "severe", "MODERATE": "moderate"}
CLINICAL: Final = TERMINOLOGY + "allergyintolerance-clinical"
VERIFICATION: Final = TERMINOLOGY + "allergyintolerance-verification"


def allergies(reading: Reading, patient_url: str) -> None:
    for segment in reading.message.all("AL1"):
        _allergy(reading, segment, patient_url, onset=6, removed=False)
    for segment in reading.message.all("IAM"):
        _allergy(reading, segment, patient_url, onset=11, removed=segment.text(6).upper() == "D")


def _allergy(reading: Reading, segment: Segment, patient_url: str, *, onset: int, removed: bool) -> None:
    code = reading.concept(segment, 3)
    if not code:
        reading.fault("required", f"{segment.name} names no substance", segment.path(3))
        return
    key = digest(patient_url, datatypes.concept_key(code))
    system = systems.local("allergy")
    resource: Tree = {"resourceType": "AllergyIntolerance", "identifier": [{"system": system, "value": key}]}
    if removed:
        resource["verificationStatus"] = coded(VERIFICATION, "entered-in-error")
    else:
        resource["clinicalStatus"] = coded(CLINICAL, "active")
        resource["verificationStatus"] = coded(VERIFICATION, "confirmed")
    category = CATEGORY.get(segment.text(2).upper())
    if category:
        resource["category"] = [category]
    severity = segment.text(4).upper()
    if severity in CRITICALITY:
        resource["criticality"] = CRITICALITY[severity]
    elif severity == "U":
        resource["criticality"] = "unable-to-assess"
    resource["code"] = code
    resource["patient"] = reference(patient_url)
    began = reading.moment(segment, onset)
    if began:
        resource["onsetDateTime"] = began
    reactions = [element.whole().strip() for element in segment.repetitions(5)]
    if reactions:
        reaction: Tree = {"manifestation": [{"text": text} for text in reactions]}
        if severity in SEVERITY:
            reaction["severity"] = SEVERITY[severity]
        resource["reaction"] = [reaction]
    reading.draft.state(resource, system, key)
