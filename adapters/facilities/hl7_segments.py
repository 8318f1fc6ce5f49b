"""Write the HL7 v2.5.1 segments that say who, where and when: MSH, EVN, PID, PV1, PV2, DG1, AL1, IN1, ZCC.

In:      Episode
Out:     segments as text, without their end
Units:   times with offset, "20261124081506+0700"
Keeps:   claim columns that HL7 has no field for, in a ZCC after the segment they belong to
Source:  HL7 v2.5.1 chapters 2, 3, 6; identifier types by table 0203 (PI, NI, SB); Vietnamese codes stand where
         adapters.hl7v2 reads them: MA_KHOA PV1-10, MA_LOAI_KCB PV1-18, MA_LK PV1-19, MA_LOAI_RV PV1-36, MA_HSBA PV1-50
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Final

from adapters.facilities import claim_columns
from adapters.facilities.communes import PROVINCE
from adapters.facilities.episode import Clinician, Episode
from ehr.fhir.vietnam import SOCIAL_INSURANCE

_ESCAPES: Final = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\", "\r": " "})
_SEX: Final = {"male": "M", "female": "F"}
_ALLERGY: Final = {"medication": "DA", "food": "FA"}
_STRUCTURES: Final = {
    "ADT^A01": "ADT_A01",
    "ADT^A04": "ADT_A01",
    "ADT^A08": "ADT_A01",
    "ADT^A03": "ADT_A03",
    "ORU^R01": "ORU_R01",
    "ORM^O01": "ORM_O01",
    "RDE^O11": "RDE_O11",
    "DFT^P03": "DFT_P03",
    "VXU^V04": "VXU_V04",
}


def text(value: str) -> str:
    """Free text with the five separators escaped."""
    return value.translate(_ESCAPES)


def stamp(at: datetime | None) -> str:
    return f"{at:%Y%m%d%H%M%S%z}" if at is not None else ""


def day(value: date | None) -> str:
    return f"{value:%Y%m%d}" if value is not None else ""


def segment(name: str, fields: Mapping[int, str]) -> str:
    """A segment from its fields by number; trailing empty fields are left out."""
    last = max(fields, default=0)
    return "|".join([name, *(fields.get(number, "") for number in range(1, last + 1))])


def header(kind: str, control_id: str, facility_code: str, at: datetime) -> str:
    """MSH. MSH-4 is the facility, MSH-18 says that the text is UTF-8."""
    return (
        f"MSH|^~\\&|HIS|{facility_code}|EHR|HANOI|{stamp(at)}||{kind}^{_STRUCTURES[kind]}|{control_id}|P|2.5.1"
        "|||AL|NE|VNM|UNICODE UTF-8"
    )


def event(kind: str, recorded: datetime, occurred: datetime) -> str:
    return segment("EVN", {1: kind.partition("^")[2], 2: stamp(recorded), 6: stamp(occurred)})


def patient(episode: Episode) -> str:
    citizen, facility = episode.citizen, episode.facility
    numbers = [f"{episode.record_number}^^^{facility.code}^PI"]
    if citizen.cccd is not None:
        numbers.append(f"{citizen.cccd}^^^BCA^NI")
    if citizen.card is not None:
        numbers.append(f"{citizen.card.number}^^^BHXH^SB")
    commune = citizen.commune
    place = (citizen.address_line, "", "", PROVINCE, "", "VNM", "H", commune.full_name, commune.full_district)
    return segment(
        "PID",
        {
            1: "1",
            3: "~".join(numbers),
            5: f"{text(citizen.family)}^{text(citizen.given)}^{text(citizen.middle)}^^^^L",
            7: day(citizen.birth_date),
            8: _SEX[citizen.sex],
            11: "^".join(map(text, place)),
            13: f"{citizen.phone}^PRS^CP" if citizen.phone is not None else "",
        },
    )


def columns(row: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """ZCC with the filled columns of a claim row; no segment where none is filled."""
    pairs = [f"{name}^{text(row[name])}" for name in names if row.get(name)]
    return [f"ZCC|{'~'.join(pairs)}"] if pairs else []


def clinician(person: Clinician) -> str:
    """XCN, known by the practising certificate."""
    return f"{person.certificate}^{text(person.family)}^{text(person.given)}^{text(person.middle)}^^^^^BYT^^^^LN"


def visit(episode: Episode, *, ended: bool = False) -> str:
    kind = "I" if episode.kind == "inpatient" else ("E" if episode.emergency else "O")
    fields = {
        1: "1",
        2: kind,
        3: f"{episode.department}^^{episode.bed}^{episode.facility.code}",
        7: clinician(episode.doctor),
        10: episode.department,
        18: episode.form,
        19: episode.link,
        44: stamp(episode.arrival),
        50: episode.chart_number,
    }
    if ended:
        fields |= {36: episode.outcome.discharge, 45: stamp(episode.end)}
    return segment("PV1", fields)


def reason(episode: Episode) -> str:
    return segment("PV2", {3: f"^{text(episode.reason)}"})


def diagnoses(episode: Episode, at: datetime, *, final: bool) -> list[str]:
    """DG1: all of them at the end, the main one as working diagnosis before."""
    listed = (episode.main, *episode.secondary) if final else (episode.main,)
    return [
        segment(
            "DG1",
            {
                1: str(rank),
                3: f"{diagnosis.code}^{text(diagnosis.text)}^I10",
                5: stamp(at),
                6: "F" if final else "A",
                15: str(rank),
                16: clinician(episode.doctor),
            },
        )
        for rank, diagnosis in enumerate(listed, start=1)
    ]


def allergies(episode: Episode) -> list[str]:
    return [
        segment(
            "AL1", {1: str(number), 2: _ALLERGY[allergy.category], 3: f"^{allergy.text}", 4: "MO", 5: allergy.reaction}
        )
        for number, allergy in enumerate(episode.allergies, start=1)
    ]


def insurance(episode: Episode) -> list[str]:
    card = episode.citizen.card
    if card is None:
        return []
    fields = {
        1: "1",
        2: f"{card.group}^BHYT",
        3: "BHXH",
        4: SOCIAL_INSURANCE,
        12: day(card.valid_from),
        13: day(card.valid_to),
        17: "SEL",
        36: card.number,
    }
    return [segment("IN1", fields), *columns({"MA_DKBD": card.registered}, claim_columns.CARD)]
