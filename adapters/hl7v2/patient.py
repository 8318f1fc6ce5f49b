"""Turn PID, PD1 and NK1 into Patient and RelatedPerson.

Out:     Patient known by the facility's own number (conditional update); RelatedPerson per NK1
Keeps:   every identifier with its issuer, the whole name as text, the time of birth where it is sent
Errors:  required at PID-3 where nothing identifies the patient
Source:  HL7 v2-to-FHIR guide, PID[Patient], CX[Identifier], NK1[RelatedPerson]; vietnam.py for identifier systems
"""

import re
from typing import Final

from adapters import systems
from adapters.draft import Tree, digest
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Element, Segment
from adapters.hl7v2.people import practitioners
from adapters.hl7v2.reading import Reading
from adapters.moments import birth
from ehr.fhir import vietnam
from ehr.fhir.elements import EXTENSION, TERMINOLOGY, coded, reference

GENDER: Final = {
    "M": "male",
    "F": "female",
    "O": "other",
    "A": "other",
    "N": "other",
    "U": "unknown",
    "1": "male",
    "2": "female",
    "3": "unknown",
    "MALE": "male",
    "FEMALE": "female",
}
"""Table 0001, and GIOI_TINH of Vietnamese records."""
MARITAL: Final = dict(zip("AEDMSWCGPRNIB", "LLDMSWCTTTAIU", strict=True))
"""Table 0002 → v3-MaritalStatus."""
OWN_TYPES: Final = frozenset({"", "PI", "MR", "MRN", "PT"})
"""CX-5 of the facility's own number. One without a type is taken for it."""
CCCD: Final = re.compile(r"\d{12}")
CMND: Final = re.compile(r"\d{9}")
ERASABLE: Final = (
    (5, "name"),
    (7, "birthDate"),
    (7, "_birthDate"),
    (8, "gender"),
    (11, "address"),
    (15, "communication"),
    (16, "maritalStatus"),
    (24, "multipleBirthBoolean"),
    (25, "multipleBirthInteger"),
    (29, "deceasedDateTime"),
    (30, "deceasedBoolean"),
)
"""Fields of PID that are the whole of an element."""


def patient(reading: Reading, *, mention: bool = False) -> str | None:
    """The reference of the message's patient; None with an issue where nothing identifies one, or several are named."""
    pid = reading.message.find("PID")
    if pid is None:
        reading.fault("required", "the message has no PID segment", "PID")
        return None
    for other in reading.message.all("PID"):
        if other is not pid:
            reading.fault("structure", "a second patient: this message type is about one; send one for each", "PID[2]")
            return None
    return of_segment(reading, pid, mention=mention)


def of_segment(reading: Reading, pid: Segment, *, mention: bool = False) -> str | None:
    identifiers = _identifiers(reading, pid)
    if not identifiers:
        reading.fault("required", "nothing identifies the patient: PID-3 holds no number", pid.path(3))
        return None
    own = identifiers[0]
    resource: Tree = {"resourceType": "Patient", "identifier": identifiers}
    _demographics(reading, pid, resource)
    _circumstances(reading, pid, resource)
    columns = reading.claim_columns(pid)
    if columns:
        resource.setdefault("extension", []).append(columns)
    if reading.origin.organization:
        resource["managingOrganization"] = reference(reading.origin.organization)
    if mention:
        return reading.draft.mention(resource, own["system"], own["value"])
    url = reading.draft.state(resource, own["system"], own["value"])
    erased = [name for number, name in ERASABLE if pid.null(number)]
    if pid.null(13) and pid.null(14):
        erased.append("telecom")
    reading.draft.erase(url, erased)
    return url


def _identifiers(reading: Reading, pid: Segment) -> list[Tree]:
    """The identifiers, the one that makes the patient itself within the facility first; PID-2 and PID-4 too, which
    older messages use, unless they only repeat a number of PID-3.
    """
    found: list[Tree] = []
    own = False
    for field in (3, 2, 4):
        for element in pid.repetitions(field):
            item = identifier(reading, element, own_taken=own)
            if item is None:
                continue
            own = own or item["system"] == vietnam.PATIENT_NUMBER
            if all(
                item["value"] != other["value"] for other in found if field != 3 or item["system"] == other["system"]
            ):
                found.append(item)
    return sorted(found, key=lambda item: item["system"] != vietnam.PATIENT_NUMBER)


def identifier(reading: Reading, element: Element, *, own_taken: bool = False) -> Tree | None:
    """CX as Identifier with the system its type names."""
    value = element.component(1)
    if not value:
        return None
    kind = element.text(5).upper()
    issuer = datatypes.authority(element, 4)
    result: Tree = {}
    code = "PI" if kind in OWN_TYPES else kind
    result["type"] = coded(systems.IDENTIFIER_TYPE, code)
    bare = value.replace(" ", "")
    if kind == "NI" and CCCD.fullmatch(bare):
        result |= {"system": vietnam.NATIONAL_ID, "value": bare}
    elif kind == "NI" and CMND.fullmatch(bare):
        result |= {"system": systems.CITIZEN_ID, "value": bare}
    elif kind == "SB":
        result |= {"system": vietnam.INSURANCE_NUMBER, "value": bare}
    elif kind == "PPN":
        result |= {"system": vietnam.PASSPORT_NUMBER, "value": bare}
    elif kind in OWN_TYPES and not own_taken:
        result |= {"system": vietnam.PATIENT_NUMBER, "value": value}
        result["assigner"] = {
            "identifier": {"system": vietnam.FACILITY_CODE, "value": reading.origin.facility_code or "unknown"}
        }
    else:
        result |= {"system": issuer or systems.local("number:" + (kind or "PI")), "value": value}
    period = {
        key: moment
        for key, number in (("start", 7), ("end", 8))
        if (moment := reading.moment_of(element.text(number), element.path))
    }
    if period:
        result["period"] = period
    return result


def _demographics(reading: Reading, pid: Segment, resource: Tree) -> None:
    names = [named for field in (5, 9) for element in pid.repetitions(field) if (named := datatypes.name(element))]
    if names:
        resource["name"] = names
    telecom = [
        found
        for field, use in ((13, "home"), (14, "work"), (40, None))
        for element in pid.repetitions(field)
        if (found := datatypes.contact(element, use))
    ]
    if telecom:
        resource["telecom"] = telecom
    sex = pid.text(8).upper()
    if sex:
        resource["gender"] = GENDER.get(sex, "unknown")
    born = reading.moment(pid, 7)
    if born:
        resource |= birth(pid.text(7), born)
    addresses = [found for element in pid.repetitions(11) if (found := datatypes.address(element))]
    if addresses:
        resource["address"] = addresses


def _circumstances(reading: Reading, pid: Segment, resource: Tree) -> None:
    died = reading.moment(pid, 29)
    if died:
        resource["deceasedDateTime"] = died
    elif pid.text(30).upper() in ("Y", "N"):
        resource["deceasedBoolean"] = pid.text(30).upper() == "Y"
    marital = pid.text(16).upper()
    code = MARITAL.get(marital)
    if code:
        resource["maritalStatus"] = coded(TERMINOLOGY + "v3-MaritalStatus", code)
    elif marital:
        resource["maritalStatus"] = {"text": pid.text(16, 2) or pid.text(16)}
    order = datatypes.decimal(pid.text(25))
    if order is not None and order == int(order):
        resource["multipleBirthInteger"] = int(order)
    elif pid.text(24).upper() in ("Y", "N"):
        resource["multipleBirthBoolean"] = pid.text(24).upper() == "Y"
    language = reading.concept(pid, 15)
    if language:
        resource["communication"] = [{"language": language}]
    mother = pid.first(6)
    if mother.text(1):
        extension = {"url": EXTENSION + "patient-mothersMaidenName", "valueString": mother.text(1)}
        resource.setdefault("extension", []).append(extension)
    doctors = practitioners(reading, reading.message.find("PD1"), 4)
    if doctors:
        resource["generalPractitioner"] = doctors


def related_persons(reading: Reading, patient_url: str) -> None:
    """NK1: next of kin and other contacts."""
    for segment in reading.message.all("NK1"):
        names = [named for element in segment.repetitions(2) if (named := datatypes.name(element))]
        relationship = reading.concept(segment, 3)
        if not names and not segment.filled(13) and not segment.filled(5):
            continue  # NK1 with a set id only, as some systems send for "none"
        telecom = [
            found
            for field, use in ((5, "home"), (6, "work"))
            for element in segment.repetitions(field)
            if (found := datatypes.contact(element, use))
        ]
        address = [found for element in segment.repetitions(4) if (found := datatypes.address(element))]
        key = digest(
            patient_url,
            datatypes.person_name_key(names[0]) if names else segment.text(13) or segment.text(1),
            datatypes.concept_key(relationship or {}),
        )
        system = systems.local("related-person")
        resource: Tree = {
            "resourceType": "RelatedPerson",
            "identifier": [{"system": system, "value": key}],
            "patient": reference(patient_url),
        }
        if relationship:
            resource["relationship"] = [relationship]
        for name, items in (("name", names), ("telecom", telecom), ("address", address)):
            if items:
                resource[name] = items
        sex = segment.text(15).upper()
        if sex in GENDER:
            resource["gender"] = GENDER[sex]
        reading.draft.state(resource, system, key)
