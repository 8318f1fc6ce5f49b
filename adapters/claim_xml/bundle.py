"""Turn a GIAMDINHHS envelope into one transaction Bundle: every dossier of it, or none.

Out:     per HOSO a Patient, an Encounter (MA_LK), Coverages, Conditions, body weight; MedicationRequest,
         ServiceRequest, Procedure and ChargeItem per row of XML2 and XML3; Observations and reports of XML4; notes of
         XML5; every other table as a DocumentReference that holds it
Errors:  list[Issue] naming HOSO, table, row and field; exceptions for an envelope that cannot be opened
Source:  QĐ 4750/QĐ-BYT and QĐ 3176/QĐ-BYT; CV 1245/BHXH-CNTT; VN Core's QĐ 4210-to-FHIR page for the choice of elements
"""

import base64
from collections.abc import Collection

from adapters import systems
from adapters.claim_xml.charges import medicines, services
from adapters.claim_xml.check import check
from adapters.claim_xml.envelope import Dossier, open_envelope
from adapters.claim_xml.notes import notes
from adapters.claim_xml.person import coverages, patient, weight
from adapters.claim_xml.results import results
from adapters.claim_xml.stay import Stay
from adapters.claim_xml.visit import encounter
from adapters.draft import Draft, Tree
from adapters.port import Mapped, Origin
from ehr.errors import Issue
from ehr.fhir import vietnam
from ehr.fhir.elements import coded


def episodes_of(body: bytes) -> list[str]:
    """MA_LK of every dossier."""
    return [dossier.summary.get("MA_LK", "") for dossier in open_envelope(body).dossiers]


def bundle_of(body: bytes, origin: Origin, without: Collection[str] = ()) -> Mapped:
    """without: episodes (MA_LK) to leave as they are."""
    envelope = open_envelope(body)
    if envelope.facility_code != origin.facility_code:
        at = "THONGTINDONVI.MACSKCB"
        return [Issue("forbidden", "THONGTINDONVI.MACSKCB is another facility than the sender", at)]
    issues = [issue for dossier in envelope.dossiers for issue in check(dossier, origin.facility_code)]
    links = [dossier.summary.get("MA_LK", "") for dossier in envelope.dossiers]
    issues += [
        Issue("duplicate", "MA_LK stands in another HOSO of the envelope", f"{dossier.at}.XML1.MA_LK")
        for number, dossier in enumerate(envelope.dossiers)
        if links[number] in links[:number]
    ]
    if issues:
        return issues
    draft = Draft(origin)
    for dossier, link in zip(envelope.dossiers, links, strict=True):
        if link not in without:
            _dossier(draft, dossier)
    return draft.bundle()


def _dossier(draft: Draft, dossier: Dossier) -> None:
    summary = dossier.summary
    patient_url = patient(draft, summary)
    visit_url = encounter(draft, summary, patient_url)
    coverages(draft, summary, patient_url)
    weight(draft, summary, patient_url, visit_url)
    stay = Stay(draft, patient_url, visit_url)
    rows = {code: dossier.rows.get(code, []) for code in ("XML2", "XML3", "XML4", "XML5")}
    medicines(stay, rows["XML2"])
    services(stay, rows["XML3"])
    results(stay, rows["XML4"], rows["XML3"])
    notes(stay, rows["XML5"])
    for code, body in dossier.documents.items():
        _document(stay, code, body, summary["MA_LK"])


def _document(stay: Stay, code: str, body: bytes, link: str) -> None:
    """A table that is a paper (discharge, referral, birth …): kept whole, byte for byte."""
    system, value = systems.local("document"), f"{link}/{code}"
    content = {"contentType": "application/xml", "data": base64.b64encode(body).decode()}
    resource: Tree = {
        "resourceType": "DocumentReference",
        "identifier": [{"system": system, "value": value}],
        "status": "current",
        "type": coded(vietnam.CLAIM_TABLE, code),
        "subject": stay.patient,
        "content": [{"attachment": content}],
        "context": {"encounter": [stay.visit]},
    }
    stay.draft.state(resource, system, value)
