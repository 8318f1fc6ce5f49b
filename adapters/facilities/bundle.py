"""Write an episode as FHIR R4 transaction Bundles, as a facility that speaks FHIR sends it.

In:      Episode
Out:     arrival(episode): patient, card, encounter in progress; departure(episode): everything, finished
Shape:   every entry is a conditional update by an identifier that means something in the facility (its patient
         number, MA_LK, MA_LK/table/row), references are urn:uuid; so a repeated Bundle changes nothing
Keeps:   digits of results and prices as they were printed
Source:  FHIR R4 3.1.0.11 (transactions); ehr.fhir.vietnam for where Vietnamese facts lie
"""

from datetime import datetime
from typing import Any

from adapters.draft import Draft
from adapters.facilities import claim_columns, claim_xml
from adapters.facilities.bundle_charges import charges
from adapters.facilities.bundle_facts import (
    clinical_notes,
    measurements,
    problems,
    protection,
    referral,
    reports,
)
from adapters.facilities.communes import PROVINCE
from adapters.facilities.episode import Clinician, Episode
from adapters.facilities.sheet import Sheet, columns, moment
from adapters.port import Origin
from adapters.systems import IDENTIFIER_TYPE
from ehr.fhir import codec, vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference


def arrival(episode: Episode, control_id: str) -> bytes:
    """What is known when the patient has been registered."""
    draft = Draft(Origin(episode.facility.code, control_id))
    sheet = Sheet(draft, episode)
    _person(sheet)
    _visit(sheet, finished=False)
    return _sealed(draft, control_id, episode.arrival)


def departure(episode: Episode, control_id: str) -> bytes:
    """The whole episode."""
    draft = Draft(Origin(episode.facility.code, control_id))
    sheet = Sheet(draft, episode)
    _person(sheet)
    sheet.visit = _visit(sheet, finished=True)
    draft.get(sheet.visit)["diagnosis"] = problems(sheet)
    measurements(sheet)
    answers = reports(sheet)
    clinical_notes(sheet)
    protection(sheet)
    referral(sheet)
    charges(sheet, answers)
    return _sealed(draft, control_id, episode.paid)


def _sealed(draft: Draft, control_id: str, at: datetime) -> bytes:
    bundle = draft.bundle()
    entries = bundle.pop("entry")
    head = {"identifier": {"system": "urn:city-ehr:message-control-id", "value": control_id}}
    return codec.dumps({**bundle, **head, "timestamp": moment(at), "entry": entries})


def _person(sheet: Sheet) -> None:
    episode = sheet.episode
    citizen = episode.citizen
    facility = reference(f"Organization/{episode.facility.organization_id}")
    identifiers: list[dict[str, Any]] = [
        {
            "type": coded(IDENTIFIER_TYPE, "PI"),
            "system": vietnam.PATIENT_NUMBER,
            "value": episode.record_number,
            "assigner": facility,
        }
    ]
    if citizen.cccd is not None:
        identifiers.append({"type": coded(IDENTIFIER_TYPE, "NI"), "system": vietnam.NATIONAL_ID, "value": citizen.cccd})
    if citizen.card is not None:
        identifiers.append(
            {"type": coded(IDENTIFIER_TYPE, "SB"), "system": vietnam.INSURANCE_NUMBER, "value": citizen.card.number}
        )
    commune = citizen.commune
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "extension": [columns(_summary(episode), claim_columns.PATIENT)],
        "identifier": identifiers,
        "name": [
            {
                "use": "official",
                "text": citizen.name,
                "family": citizen.family,
                "given": [citizen.middle, citizen.given],
            }
        ],
        "gender": citizen.sex,
        "birthDate": citizen.birth_date.isoformat(),
        "address": [
            {
                "use": "home",
                "text": citizen.address,
                "line": [citizen.address_line],
                "city": commune.full_name,
                "district": commune.full_district,
                "state": PROVINCE,
                "country": "VN",
            }
        ],
        "managingOrganization": facility,
    }
    if citizen.phone is not None:
        patient["telecom"] = [{"system": "phone", "value": citizen.phone, "use": "mobile"}]
    sheet.patient = sheet.draft.state(patient, vietnam.PATIENT_NUMBER, episode.record_number)
    sheet.doctor = _clinician(sheet.draft, episode.doctor)
    _card(sheet)


def _clinician(draft: Draft, clinician: Clinician) -> str:
    resource = {
        "resourceType": "Practitioner",
        "identifier": [{"system": vietnam.PRACTISING_CERTIFICATE, "value": clinician.certificate}],
        "name": [{"text": clinician.name, "family": clinician.family, "given": [clinician.middle, clinician.given]}],
    }
    return draft.mention(resource, vietnam.PRACTISING_CERTIFICATE, clinician.certificate)


def _card(sheet: Sheet) -> None:
    card = sheet.episode.citizen.card
    if card is None:
        return
    coverage = {
        "resourceType": "Coverage",
        "extension": [columns({"MA_DKBD": card.registered}, claim_columns.CARD)],
        "identifier": [{"system": vietnam.INSURANCE_NUMBER, "value": card.number}],
        "status": "active",
        "subscriberId": card.number,
        "beneficiary": reference(sheet.patient),
        "period": {"start": card.valid_from.isoformat(), "end": card.valid_to.isoformat()},
        "payor": [{"display": vietnam.SOCIAL_INSURANCE}],
    }
    sheet.draft.state(coverage, vietnam.INSURANCE_NUMBER, card.number)


def _visit(sheet: Sheet, *, finished: bool) -> str:
    episode = sheet.episode
    period = {"start": moment(episode.arrival)}
    facility = episode.facility
    kind = "IMP" if episode.kind == "inpatient" else ("EMER" if episode.emergency else "AMB")
    encounter: dict[str, Any] = {
        "resourceType": "Encounter",
        "identifier": [
            {"system": vietnam.EPISODE_LINK, "value": episode.link},
            {"system": vietnam.RECORD_NUMBER, "value": episode.chart_number},
        ],
        "status": "finished" if finished else "in-progress",
        "class": {"system": vietnam.ENCOUNTER_CLASS, "code": kind},
        "type": [coded(vietnam.MA_LOAI_KCB, episode.form)],
        "serviceType": coded(vietnam.MA_KHOA, episode.department, episode.department_name),
        "subject": reference(sheet.patient),
        "participant": [
            {
                "type": [coded(TERMINOLOGY + "v3-ParticipationType", "ATND")],
                "individual": reference(sheet.doctor, episode.doctor.name),
            }
        ],
        "period": period,
        "reasonCode": [{"text": episode.reason}],
        "location": [{"location": reference(f"Location/{facility.location_id}", facility.name)}],
        "serviceProvider": reference(f"Organization/{facility.organization_id}", facility.name),
    }
    if finished:
        period["end"] = moment(episode.end)
        encounter["extension"] = [columns(_summary(episode), claim_columns.VISIT)]
        encounter["hospitalization"] = {"dischargeDisposition": _disposition(episode)}
    return sheet.draft.state(encounter, vietnam.EPISODE_LINK, episode.link)


def _disposition(episode: Episode) -> dict[str, Any]:
    concept = coded(vietnam.MA_LOAI_RV, episode.outcome.discharge)
    if episode.outcome.result == "5":
        concept["coding"].append({"system": TERMINOLOGY + "discharge-disposition", "code": "exp"})
    return concept


def _summary(episode: Episode) -> claim_xml.Row:
    """The row of XML1: where FHIR has no element, the record keeps its columns."""
    return claim_xml.rows(episode)["XML1"][0]
