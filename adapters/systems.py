"""The code and identifier systems that feeds name by HL7 v2 short names, and those that only one facility has.

Source:  HL7 v2 table 0396 (coding systems); FHIR R4 4.3.0 (code system registry); ehr.fhir.vietnam for ours
"""

from typing import Final
from urllib.parse import quote

from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY
from terminology.lists import ATC

CITIZEN_ID: Final = "http://fhir.ehealth.gov.vn/core/sid/citizen_id"
"""The old 9-digit CMND."""
CVX: Final = "http://hl7.org/fhir/sid/cvx"
IDENTIFIER_TYPE: Final = TERMINOLOGY + "v2-0203"
NULL_FLAVOR: Final = TERMINOLOGY + "v3-NullFlavor"

MESSAGE_TIME: Final = "urn:city-ehr:extension:message-time"
"""meta.extension of what a message wrote: the moment the sender speaks of, so that a late message is known as late."""
STATE_TIME: Final = "urn:city-ehr:extension:state-time"
"""The same of the message that stated the status of an Encounter: later ones may have said nothing of it."""

CODE_SYSTEMS: Final[dict[str, str]] = {
    "LN": vietnam.LOINC,
    "LOINC": vietnam.LOINC,
    "I10": vietnam.ICD_10,
    "ICD10": vietnam.ICD_10,
    "ICD-10": vietnam.ICD_10,
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD-10-CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "I10P": "http://www.cms.gov/Medicare/Coding/ICD10",
    "I9": "http://hl7.org/fhir/sid/icd-9",
    "ICD9": "http://hl7.org/fhir/sid/icd-9-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "I9CDX": "http://hl7.org/fhir/sid/icd-9-cm",
    "I9CP": "http://hl7.org/fhir/sid/icd-9-cm",
    "SCT": "http://snomed.info/sct",
    "SNM": "http://snomed.info/sct",
    "SNOMED-CT": "http://snomed.info/sct",
    "UCUM": vietnam.UCUM,
    "CVX": CVX,
    "MVX": TERMINOLOGY + "MVX",
    "NDC": "http://hl7.org/fhir/sid/ndc",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ATC": ATC,
    "C4": "http://www.ama-assn.org/go/cpt",
    "CPT": "http://www.ama-assn.org/go/cpt",
    "CDCREC": "urn:oid:2.16.840.1.113883.6.238",
    "DVKT": vietnam.MA_DICH_VU,
    "THUOC": vietnam.MA_THUOC,
    "VATTU": vietnam.MA_VAT_TU,
    "CHISO": vietnam.MA_CHI_SO,
    "KHOA": vietnam.MA_KHOA,
}
"""HL7 v2 names of coding systems (table 0396, upper case) → FHIR URI."""


def local(kind: str) -> str:
    """The system of a number that only one facility gives: "urn:city-ehr:sid:<kind>"."""
    return "urn:city-ehr:sid:" + quote(kind, safe="-.")


def local_codes(facility_code: str, name: str) -> str:
    """The system of codes that one facility made."""
    return "urn:city-ehr:codes:" + quote(facility_code or "unknown", safe="-.") + ":" + quote(name, safe="-.")


def code_system(name: str, facility_code: str) -> str | None:
    """The URI of an HL7 v2 coding system name; None where the sender named none."""
    name = name.strip()
    if not name:
        return None
    known = CODE_SYSTEMS.get(name.upper())
    if known is not None:
        return known
    if name.upper().startswith("HL7") and name[3:].isdigit():
        return TERMINOLOGY + "v2-" + name[3:].zfill(4)
    if name.startswith(("http://", "https://", "urn:")):
        return name
    if name[0].isdigit() and "." in name and name.replace(".", "").isdigit():
        return "urn:oid:" + name
    return local_codes(facility_code, name)
