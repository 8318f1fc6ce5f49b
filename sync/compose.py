"""An episode of the record → its dossier, or every reason why it cannot be sent as it stands.

In:     Episode
Out:    Dossier, complete and checked: widths, required fields, sums; or Withheld with its issues
Source: QĐ 4750 table XML1; values of codes as in the annex
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from ehr.errors import Invalid, Issue
from ehr.fhir.elements import code_of, identifier_of, text_of
from ehr.fhir.vietnam import (
    ICD_10,
    LOINC,
    MA_KHOA,
    MA_LOAI_KCB,
    MA_LOAI_RV,
    NATIONAL_ID,
    PASSPORT_NUMBER,
    PATIENT_NUMBER,
    RECORD_NUMBER,
    SEX_OF_GENDER,
    claim_columns,
)
from ehr.fhir.vital_signs import WEIGHT
from sync.amounts import Amounts, total
from sync.benefit import benefit
from sync.charge_rows import money, priced, settled
from sync.check import check
from sync.clinical_rows import notes, results
from sync.dossier import SECONDARY_MAX, Charge, Dossier, Withheld
from sync.episode import Episode, Tree, card_of, holds
from sync.moments import birth, date_of, day, days_of_stay, minute
from terminology.claim_tables import table

_MONEY: Final = frozenset(name for name in table("XML1").names if name.startswith("T_"))
_FORM_OF_CLASS: Final[Mapping[str, str]] = {
    "AMB": "01",
    "EMER": "01",
    "IMP": "03",
    "ACUTE": "03",
    "NONAC": "03",
    "SS": "04",
    "HH": "12",
    "VR": "14",
}
_STAY_FORMS: Final = frozenset({"02", "03", "04", "06"})
_DISCHARGE: Final[Mapping[str, str]] = {"home": "1", "hosp": "2", "other-hcf": "2", "aadvice": "4", "exp": "1"}
_EXAMINATION_DEPARTMENT: Final = "K01"
_VIETNAMESE: Final = "000"
_ETHNICITY_UNKNOWN: Final = "99"
_NO_OCCUPATION: Final = "00000"
_UNDETERMINED: Final = "7"
_DIED: Final = "5"
_SEPARATOR: Final = ";"


def compose(episode: Episode) -> Dossier | Withheld:
    """Write the dossier of one episode."""
    issues: list[Issue] = []
    summary: dict[str, str] = {}
    charges: list[Charge] = []
    dossier: Dossier | None = None
    try:
        summary = _summary(episode)
        rows, wrong = priced(episode, summary.get("MA_KHOA", ""), summary.get("MA_BENH_CHINH", ""))
        issues += wrong
        charges, wrong = settled(
            rows, episode.ma_lk, _benefit(episode, summary, sum((row.bh for row in rows), Decimal(0)))
        )
        issues += wrong
        dossier = Dossier(
            ma_lk=episode.ma_lk,
            facility_code=episode.facility_code,
            encounter_id=str(episode.encounter["id"]),
            encounter_version=episode.encounter_version,
            patient_id=str(episode.patient["id"]),
            coverage_id=str(episode.coverages[0]["id"]) if episode.coverages else "",
            summary=summary | _sums(charges),
            drugs=tuple(charge for charge in charges if charge.table == "XML2"),
            services=tuple(charge for charge in charges if charge.table == "XML3"),
            results=results(episode, episode.ma_lk),
            notes=notes(episode, episode.ma_lk, summary.get("MA_LOAI_KCB", "")),
        )
        issues += check(dossier)
    except Invalid as error:
        issues += error.issues
    if dossier is None or issues:
        return Withheld(episode.ma_lk, tuple(issues), total(charge.amounts for charge in charges).bv)
    return dossier


def _summary(episode: Episode) -> dict[str, str]:
    """XML1 without its money."""
    encounter, patient = episode.encounter, episode.patient
    stated = claim_columns(patient) | _cards(episode) | claim_columns(encounter)
    found = _person(patient) | _stay(episode) | _diagnoses(episode)
    found |= {
        "MA_LK": episode.ma_lk,
        "STT": "1",
        "MA_CSKCB": episode.facility_code,
        "MA_HSBA": identifier_of(encounter, RECORD_NUMBER) or episode.ma_lk,
        "CAN_NANG": _weight(episode),
    }
    names = table("XML1").names
    columns = {name: value for name, value in stated.items() if name in names and name not in _MONEY and value}
    columns |= {"MA_LK": episode.ma_lk, "STT": "1", "MA_CSKCB": episode.facility_code}
    merged = found | columns
    if merged.get("NGAY_VAO") and merged.get("NGAY_RA"):
        form = merged.get("MA_LOAI_KCB", "")
        stay = days_of_stay(merged["NGAY_VAO"], merged["NGAY_RA"]) if form in _STAY_FORMS else 0
        merged.setdefault("SO_NGAY_DTRI", str(stay))
        merged |= {"NAM_QT": merged["NGAY_RA"][:4], "THANG_QT": str(int(merged["NGAY_RA"][4:6]))}
    merged.setdefault("MA_DOITUONG_KCB", _attendance(episode, merged))
    return {name: merged[name] for name in names if merged.get(name)}


def _person(patient: Tree) -> dict[str, str]:
    national = identifier_of(patient, NATIONAL_ID)
    name: Tree = next(iter(patient.get("name", ())), {})
    address: Tree = next(iter(patient.get("address", ())), {})
    parts = [*address.get("line", ()), address.get("city"), address.get("district"), address.get("state")]
    return {
        "MA_BN": identifier_of(patient, PATIENT_NUMBER) or "",
        "HO_TEN": str(name.get("text") or " ".join([name.get("family", ""), *name.get("given", ())]).strip()),
        "SO_CCCD": national or identifier_of(patient, PASSPORT_NUMBER) or "",
        "NGAY_SINH": birth(dict(patient)),
        "GIOI_TINH": SEX_OF_GENDER.get(str(patient.get("gender", "")), ""),
        "MA_QUOCTICH": _VIETNAMESE if national else "",
        "MA_DANTOC": _ETHNICITY_UNKNOWN,
        "MA_NGHE_NGHIEP": _NO_OCCUPATION,
        "DIA_CHI": str(address.get("text") or ", ".join(str(part) for part in parts if part)),
        "DIEN_THOAI": next((str(t["value"]) for t in patient.get("telecom", ()) if t.get("system") == "phone"), ""),
    }


def _cards(episode: Episode) -> dict[str, str]:
    """The card columns: parallel lists, one part a card."""
    columns: dict[str, str] = {}
    for coverage in episode.coverages:
        period = coverage.get("period", {})
        own = {
            "MA_THE_BHYT": card_of(coverage),
            "MA_DKBD": claim_columns(coverage).get("MA_DKBD") or _registered(coverage),
            "GT_THE_TU": day(period["start"], "Coverage.period.start") if "start" in period else "",
            "GT_THE_DEN": day(period["end"], "Coverage.period.end") if "end" in period else "",
        }
        for name, value in own.items():
            columns[name] = columns[name] + _SEPARATOR + value if name in columns else value
        for name in ("MA_KHUVUC", "NAM_NAM_LIEN_TUC", "NGAY_MIEN_CCT"):
            columns.setdefault(name, claim_columns(coverage).get(name, ""))
    return columns


def _registered(coverage: Tree) -> str:
    """Facility of initial registration, where it stands as an identifier in an extension of the Coverage."""
    for extension in coverage.get("extension", ()):
        if str(extension.get("url", "")).endswith(":registered-facility"):
            return str(extension.get("valueIdentifier", {}).get("value", ""))
    return ""


def _stay(episode: Episode) -> dict[str, str]:
    encounter = episode.encounter
    period = encounter.get("period", {})
    form = next((code for concept in encounter.get("type", ()) if (code := code_of(concept, MA_LOAI_KCB))), None)
    kind = str(encounter.get("class", {}).get("code", ""))
    disposition = encounter.get("hospitalization", {}).get("dischargeDisposition")
    arrived = minute(period["start"], "Encounter.period.start") if "start" in period else ""
    form = form or _FORM_OF_CLASS.get(kind, "")
    left = code_of(disposition, MA_LOAI_RV) or next(
        (_DISCHARGE[c["code"]] for c in (disposition or {}).get("coding", ()) if c.get("code") in _DISCHARGE), "1"
    )
    died = any(coding.get("code") == "exp" for coding in (disposition or {}).get("coding", ()))
    reason = next((words for concept in encounter.get("reasonCode", ()) if (words := text_of(concept))), "")
    inpatient = form in {"03", "04", "09"}
    department = code_of(encounter.get("serviceType"), MA_KHOA)
    return {
        "NGAY_VAO": arrived,
        "NGAY_RA": minute(period["end"], "Encounter.period.end") if "end" in period else "",
        "NGAY_VAO_NOI_TRU": arrived if inpatient else "",
        "LY_DO_VV": reason,
        "LY_DO_VNT": reason if inpatient else "",
        "MA_LOAI_KCB": form,
        "MA_LOAI_RV": left,
        "KET_QUA_DTRI": _DIED if died else _UNDETERMINED,
        "MA_KHOA": department or ("" if inpatient else _EXAMINATION_DEPARTMENT),
    }


def _diagnoses(episode: Episode) -> dict[str, str]:
    admission = list(episode.conditions(frozenset({"AD", "CC"})))
    final = list(episode.conditions(frozenset({"DD", "billing"}))) or list(episode.conditions())
    codes = [code_of(one.get("code"), ICD_10) or "" for one in final]
    main = codes[0] if codes else ""  # of the first alone: another diagnosis is not the main one for want of its code
    others = dict.fromkeys(code for code in codes if code and code != main)
    words = _SEPARATOR.join(dict.fromkeys(text_of(one.get("code")) for one in final))
    first = text_of((admission or final or [{}])[0].get("code"))
    return {
        "CHAN_DOAN_VAO": first,
        "CHAN_DOAN_RV": words,
        "MA_BENH_CHINH": main,
        "MA_BENH_KT": _SEPARATOR.join(list(others)[:SECONDARY_MAX]),
    }


def _attendance(episode: Episode, columns: Mapping[str, str]) -> str:
    """MA_DOITUONG_KCB where the facility did not say: emergency, at the place of registration, or free movement."""
    if episode.encounter.get("class", {}).get("code") == "EMER":
        return "2"
    if episode.facility_code in columns.get("MA_DKBD", "").split(_SEPARATOR):
        return "1.1"
    return "1.2" if episode.facility_kind in {"station", "centre"} else ""


def _weight(episode: Episode) -> str:
    """CAN_NANG: the last body weight of the episode, kg with two decimals."""
    weights = [
        observation
        for observation in episode.observations
        if code_of(observation.get("code"), LOINC) == WEIGHT
        and observation.get("valueQuantity", {}).get("code") == "kg"
        and holds(observation)
    ]
    if not weights:
        return ""
    last = max(weights, key=lambda one: (str(one.get("effectiveDateTime", "")), str(one["id"])))
    return money(Decimal(str(last["valueQuantity"]["value"])))


def _benefit(episode: Episode, summary: Mapping[str, str], inside_scope: Decimal) -> Decimal:
    if not episode.coverages or not summary.get("NGAY_RA"):
        raise Invalid("a dossier needs a BHYT card and a time of leaving", at="XML1.NGAY_RA")
    left = summary["NGAY_RA"]
    at_station = episode.facility_kind == "station"
    card = card_of(episode.coverages[0])
    if summary.get("NGAY_MIEN_CCT") and summary["NGAY_MIEN_CCT"][:8] <= left[:8]:
        return Decimal(100)
    return benefit(
        card, inside_scope, date_of(left, "XML1.NGAY_RA"), summary.get("MA_DOITUONG_KCB", ""), at_station=at_station
    )


def _sums(charges: list[Charge]) -> dict[str, str]:
    """The nine totals of XML1, from the rows."""
    sums = total(charge.amounts for charge in charges)

    def of(chosen: list[Charge]) -> Amounts:
        return total(charge.amounts for charge in chosen)

    return {
        "T_THUOC": money(of([charge for charge in charges if charge.table == "XML2"]).bv),
        "T_VTYT": money(of([charge for charge in charges if charge.is_supply]).bv),
        "T_TONGCHI_BV": money(sums.bv),
        "T_TONGCHI_BH": money(sums.bh),
        "T_BNTT": money(sums.bntt),
        "T_BNCCT": money(sums.bncct),
        "T_BHTT": money(sums.bhtt),
        "T_NGUONKHAC": money(sums.other),
        "T_BHTT_GDV": money(of([charge for charge in charges if charge.is_fee_for_service]).bhtt),
    }
