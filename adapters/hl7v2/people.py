"""Turn persons and places of the facility (XCN, PL, HD) into Practitioner and Location, by their own numbers.

Keeps:   the practising certificate number (CCHN) as identifier; persons without any number as display only
Source:  HL7 v2-to-FHIR guide, XCN[Practitioner], PL[Location]; FHIR R4 8.4, 8.7
"""

from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Element, Segment
from adapters.hl7v2.reading import Reading
from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference

CERTIFICATE_TYPES: Final = frozenset({"", "LN", "MD", "CCHN", "LIC"})
"""XCN-13 of a practising certificate. An empty one is taken for it: claims know clinicians by nothing else."""
NPI: Final = "http://hl7.org/fhir/sid/us-npi"

PHYSICAL_TYPES: Final = (("bd", 3), ("ro", 2), ("wa", 1))
"""Location.physicalType by the finest part of PL that is filled."""


def practitioner_identifier(element: Element) -> tuple[str, str] | None:
    """XCN-1 with the system its type and authority tell."""
    number = element.text(1)
    if not number:
        return None
    kind = element.text(13).upper()
    if kind == "NPI":
        return NPI, number
    if kind in CERTIFICATE_TYPES:
        issuer = datatypes.authority(element, 9)
        if kind or issuer is None or element.text(9).upper() in ("BYT", "SYT", "CCHN"):
            return vietnam.PRACTISING_CERTIFICATE, number
        return issuer, number
    return datatypes.authority(element, 9) or systems.local("practitioner:" + kind), number


def practitioner(reading: Reading, element: Element) -> Tree | None:
    """A Reference to the person; a Practitioner resource where there is a number to know them by."""
    human = datatypes.name(element, first=2)
    display = str(human["text"]) if human else ""
    known = practitioner_identifier(element)
    if known is None:
        return {"display": display} if display else None
    system, value = known
    resource: Tree = {"resourceType": "Practitioner", "identifier": [{"system": system, "value": value}]}
    if human:
        resource["name"] = [human]
    return reference(reading.draft.mention(resource, system, value), display)


def practitioners(reading: Reading, segment: Segment | None, *fields: int) -> list[Tree]:
    """References to every person of some fields, each once."""
    found: dict[str, Tree] = {}
    for field in fields if segment else ():
        assert segment is not None
        for element in segment.repetitions(field):
            person = practitioner(reading, element)
            if person:
                found.setdefault(str(person.get("reference") or person.get("display")), person)
    return list(found.values())


def location(reading: Reading, element: Element) -> Tree | None:
    """PL as a Reference to the Location: point of care, room, bed, facility, building, floor."""
    parts = [element.text(number) for number in (1, 2, 3, 4, 7, 8)]
    name = ", ".join(part for part in (parts[2], parts[1], parts[0]) if part)
    whole = name or element.text(9) or parts[3] or parts[4]
    if not whole:
        return None
    system, value = systems.local("location"), digest("PL", *parts, element.text(9))
    resource: Tree = {
        "resourceType": "Location",
        "identifier": [{"system": system, "value": value}],
        "status": "active",
        "name": whole,
        "mode": "instance",
    }
    if element.text(9) and element.text(9) != whole:
        resource["description"] = element.text(9)
    for code, number in PHYSICAL_TYPES:
        if element.text(number):
            resource["physicalType"] = coded(TERMINOLOGY + "location-physical-type", code)
            break
    if reading.origin.organization:
        resource["managingOrganization"] = reference(reading.origin.organization)
    return reference(reading.draft.mention(resource, system, value), whole)
