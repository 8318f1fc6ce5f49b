"""Results and notes of an episode → rows of XML4 and XML5.

Source: QĐ 4750 tables XML4 (only where there are results) and XML5 (forms of care that keep a course of illness);
        the vital-sign text of XML5: "CSST<M75_T37_HA120/70_NT18>"; LOINC codes of the FHIR vital signs profiles
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from ehr.fhir.elements import code_of, target_of, text_of
from ehr.fhir.vietnam import LOINC, MA_CHI_SO, MA_DICH_VU, claim_columns
from ehr.fhir.vital_signs import (
    BREATHS,
    DIASTOLIC,
    OXYGEN,
    OXYGEN_ARTERIAL,
    PRESSURE,
    PULSE,
    SYSTOLIC,
    TEMPERATURE,
)
from sync.dossier import Columns
from sync.episode import Episode, Tree, has_category, holds
from sync.moments import minute
from terminology.claim_tables import table

NOTED_FORMS: Final = frozenset({"02", "03", "04", "05", "06", "08", "09"})
"""MA_LOAI_KCB whose episodes carry XML5."""

_RESULTS: Final = ("laboratory", "imaging", "procedure")
_SIGNS: Final[Mapping[str, str]] = {PULSE: "M", TEMPERATURE: "T", BREATHS: "NT", OXYGEN: "SP", OXYGEN_ARTERIAL: "SP"}
_SIGN_ORDER: Final = ("M", "T", "HA", "NT", "SP")


def results(episode: Episode, ma_lk: str) -> tuple[Columns, ...]:
    """XML4, in the order of the results."""
    services = _services_of_results(episode)
    found = (
        _result(episode, observation, services)
        for observation in episode.observations
        if any(has_category(observation, category) for category in _RESULTS)
    )
    rows = sorted((row for row in found if row is not None), key=lambda row: (row["NGAY_KQ"], row["TEN_CHI_SO"]))
    return tuple({"MA_LK": ma_lk, "STT": str(number), **row} for number, row in enumerate(rows, start=1))


def notes(episode: Episode, ma_lk: str, form: str) -> tuple[Columns, ...]:
    """XML5: the notes, or what was measured where nobody wrote any."""
    if form not in NOTED_FORMS:
        return ()
    rows = sorted(
        list(_written(episode)) or list(_measured(episode)),
        key=lambda row: (row["THOI_DIEM_DBLS"], row["DIEN_BIEN_LS"]),
    )
    return tuple({"MA_LK": ma_lk, "STT": str(number), **row} for number, row in enumerate(rows, start=1))


def quantity_text(quantity: Tree) -> str:
    """The value with its comparator, digits as they were sent."""
    value = quantity.get("value")
    return "" if value is None else str(quantity.get("comparator", "")) + format(Decimal(str(value)), "f")


def _result(episode: Episode, observation: Tree, services: Mapping[str, str]) -> dict[str, str] | None:
    value, unit = _value(observation)
    when = observation.get("issued") or observation.get("effectiveDateTime")
    if not value or not when or not holds(observation):
        return None
    names = table("XML4").names
    columns = {name: text for name, text in claim_columns(observation).items() if name in names}
    code = observation.get("code")
    found = {
        "MA_DICH_VU": services.get(f"Observation/{observation['id']}", ""),
        "MA_CHI_SO": code_of(code, MA_CHI_SO) or code_of(code, LOINC) or "",
        "TEN_CHI_SO": text_of(code),
        "DON_VI_DO": unit,
        "NGAY_KQ": minute(str(when), f"Observation/{observation['id']}"),
        "MA_BS_DOC_KQ": episode.certificate(*observation.get("performer", ())),
    }
    width = next(field.width for field in table("XML4").fields if field.name == "GIA_TRI") or len(value)
    found["GIA_TRI" if len(value) <= width else "MO_TA"] = value
    return {name: text for name, text in (found | columns).items() if text}


def _value(observation: Tree) -> tuple[str, str]:
    """(value, unit) as text; ("", "") where there is none."""
    quantity = observation.get("valueQuantity")
    if quantity:
        return quantity_text(quantity), str(quantity.get("unit") or quantity.get("code") or "")
    if "valueCodeableConcept" in observation:
        return text_of(observation["valueCodeableConcept"]), ""
    for name in ("valueString", "valueInteger"):
        if name in observation:
            return str(observation[name]), ""
    return "", ""


def _services_of_results(episode: Episode) -> dict[str, str]:
    """Observation reference → MA_DICH_VU of the charge that delivered it, straight or through its report."""
    services: dict[str, str] = {}
    for charge in episode.charges:
        code = code_of(charge.get("code"), MA_DICH_VU)
        if code is None:
            continue
        for one in charge.get("service", ()):
            target = target_of(one)
            report = episode.referred.get(target, {})
            members = report.get("result", ()) if report.get("resourceType") == "DiagnosticReport" else ()
            for observation in (target, *(target_of(member) for member in members)):
                services.setdefault(observation, code)
    return services


def _written(episode: Episode) -> Iterator[dict[str, str]]:
    names = table("XML5").names
    for note in episode.notes:
        text, when = note.get("summary") or note.get("description"), note.get("date") or note.get("effectiveDateTime")
        if not text or not when or not holds(note):
            continue
        columns = {name: value for name, value in claim_columns(note).items() if name in names}
        found = {
            "DIEN_BIEN_LS": str(text),
            "THOI_DIEM_DBLS": minute(str(when), f"ClinicalImpression/{note['id']}"),
            "NGUOI_THUC_HIEN": episode.certificate(note.get("assessor"), episode.clinician),
        }
        yield found | columns


def _measured(episode: Episode) -> Iterator[dict[str, str]]:
    """One row a moment at which vital signs were taken."""
    moments: dict[str, list[Tree]] = defaultdict(list)
    for observation in episode.observations:
        when = observation.get("effectiveDateTime")
        if when and holds(observation) and has_category(observation, "vital-signs"):
            moments[minute(str(when), f"Observation/{observation['id']}")].append(observation)
    for when, taken in moments.items():
        signs = dict(_signs(taken))
        if signs:
            text = "_".join(name + signs[name] for name in _SIGN_ORDER if name in signs)
            performers = [performer for observation in taken for performer in observation.get("performer", ())]
            yield {
                "DIEN_BIEN_LS": f"CSST<{text}>",
                "THOI_DIEM_DBLS": when,
                "NGUOI_THUC_HIEN": episode.certificate(*performers, episode.clinician),
            }


def _signs(taken: Iterable[Tree]) -> Iterator[tuple[str, str]]:
    for observation in taken:
        code = code_of(observation.get("code"), LOINC)
        if code == PRESSURE:
            parts = {
                code_of(part.get("code"), LOINC): part.get("valueQuantity", {})
                for part in observation.get("component", ())
            }
            if SYSTOLIC in parts and DIASTOLIC in parts:
                yield "HA", f"{quantity_text(parts[SYSTOLIC])}/{quantity_text(parts[DIASTOLIC])}"
        elif code is not None and code in _SIGNS and "valueQuantity" in observation:
            yield _SIGNS[code], quantity_text(observation["valueQuantity"])
