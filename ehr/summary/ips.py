"""Turn a person's record into an International Patient Summary: a document Bundle.

In:      PersonRecord   current resources of all source Patients of one person
Out:     Bundle         type document: Composition, one Patient, then what the sections name
Keeps:   digits, codes and texts as the facilities sent them; references to any source Patient of the person
         point at the one Patient of the document, because a document must stand alone
Source:  IPS 2.0.0 Bundle-uv-ips, Composition-uv-ips; FHIR R4 documents 3.3
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ehr.clock import day_of, instant
from ehr.fhir.elements import TERMINOLOGY, coded
from ehr.fhir.references import rewrite
from ehr.fhir.vietnam import LOINC
from ehr.summary.render import narrative
from ehr.summary.sections import ALLERGIES, MEDICATIONS, PROBLEMS, Section, Tree, Trees, sections

IPS_BUNDLE: Final = "http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips"
IPS_COMPOSITION: Final = "http://hl7.org/fhir/uv/ips/StructureDefinition/Composition-uv-ips"
EMPTY_REASON: Final = TERMINOLOGY + "list-empty-reason"
CUSTODIAN_TEXT: Final = "Hồ sơ sức khỏe điện tử Hà Nội"


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """What a summary is made of.

    key        Person.id, or the id of the only source Patient where it is linked to no Person
    subject    id of the source Patient that stands for the person in the document
    patients   all source Patients, the subject first
    trees      current resources by type
    senders    "Type/id" → name of the facility that sent the resource
    withheld   types the caller may not read; their sections say so
    """

    key: str
    subject: str
    patients: tuple[Tree, ...]
    trees: Trees
    senders: Mapping[str, str] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()


_SECTION_TYPES: Final = {
    PROBLEMS: "Condition",
    ALLERGIES: "AllergyIntolerance",
    MEDICATIONS: "MedicationRequest",
}
"""What the three required sections are made of."""


def document(record: PersonRecord, *, base_url: str, now: datetime) -> dict[str, Any]:
    """The IPS document of a person as of now; base_url is the FHIR base without a final slash."""
    chosen = sections(record.trees, day_of(now))
    composition_id = f"summary-{record.key}"
    to_subject = {
        form: f"Patient/{record.subject}"
        for patient in record.patients
        for form in (f"Patient/{patient['id']}", f"{base_url}/Patient/{patient['id']}")
    }
    entries = [_entry(base_url, _composition(record, chosen, composition_id, now)), _entry(base_url, patient(record))]
    included: set[str] = set()
    for section in chosen:
        for tree in section.entries:
            local = f"{tree['resourceType']}/{tree['id']}"
            if local not in included:
                included.add(local)
                entries.append(_entry(base_url, rewrite(dict(tree), to_subject)))
    return {
        "resourceType": "Bundle",
        "id": composition_id,
        "meta": {"profile": [IPS_BUNDLE], "lastUpdated": instant(now)},
        "language": "vi",
        "identifier": {"system": f"{base_url}/summary", "value": f"{record.key}/{instant(now)}"},
        "type": "document",
        "timestamp": instant(now),
        "entry": entries,
    }


def patient(record: PersonRecord) -> dict[str, Any]:
    """The one Patient of the document: the subject's own data, with the identifiers of all its sources."""
    subject = dict(record.patients[0])
    identifiers: list[Any] = []
    for source in record.patients:
        identifiers += [i for i in source.get("identifier", ()) if i not in identifiers]
    if identifiers:
        subject["identifier"] = identifiers
    subject.pop("link", None)
    subject.pop("managingOrganization", None)
    subject.pop("generalPractitioner", None)
    return subject


def _entry(base_url: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    return {"fullUrl": f"{base_url}/{tree['resourceType']}/{tree['id']}", "resource": tree}


def _composition(record: PersonRecord, chosen: list[Section], composition_id: str, now: datetime) -> dict[str, Any]:
    title = "Tóm tắt hồ sơ sức khỏe / Patient summary"
    return {
        "resourceType": "Composition",
        "id": composition_id,
        "meta": {"profile": [IPS_COMPOSITION]},
        "language": "vi",
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{title}</p></div>',
        },
        "status": "final",
        "type": {"coding": [{"system": LOINC, "code": "60591-5", "display": "Patient summary Document"}]},
        "subject": {"reference": f"Patient/{record.subject}"},
        "date": instant(now),
        "author": [{"display": CUSTODIAN_TEXT}],
        "title": title,
        "section": [_section(record, section) for section in chosen],
    }


def _section(record: PersonRecord, section: Section) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "title": f"{section.title_vi} / {section.title_en}",
        "code": {"coding": [{"system": LOINC, "code": section.code, "display": section.display}]},
        "text": narrative(section),
    }
    if section.entries:
        tree["entry"] = [{"reference": f"{t['resourceType']}/{t['id']}"} for t in section.entries]
    else:
        reason = "withheld" if _SECTION_TYPES.get(section.code) in record.withheld else "unavailable"
        tree["emptyReason"] = coded(EMPTY_REASON, reason)
    return tree
