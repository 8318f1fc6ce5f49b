"""Turn a person's record into the identity app's view: the electronic health book (Sổ sức khỏe điện tử).

In:      PersonRecord   the same record that makes the International Patient Summary
Out:     JSON with the four groups of the book: hanhChinh (administrative), tienSu (history),
         dotKham (one entry an episode that took place, newest first), tomTat (what is tracked: blood group, height,
         weight)
Leaves:  what was entered in error, refuted, called off or is only planned
Keeps:   names, codes and digits as the facilities sent them; every item names the facility it came from
Source:  QĐ 31/QĐ-BYT Art. 2(3) groups a to d; QĐ 1332/QĐ-BYT III.3 tracked values
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from ehr.clock import day_of, instant
from ehr.fhir.elements import identifier_of, text_of
from ehr.fhir.vietnam import INSURANCE_NUMBER
from ehr.fhir.vital_signs import HEIGHT, WEIGHT
from ehr.summary.ips import PersonRecord, patient
from ehr.summary.render import code_text, disposition_text, dosage_text, medication_text, range_text, value_text
from ehr.summary.sections import (
    ALLERGIES,
    IMMUNIZATIONS,
    MEDICATIONS,
    PAST_PROBLEMS,
    PROBLEMS,
    Tree,
    happened,
    has_code,
    newest_first,
    sections,
    when,
)

BLOOD_GROUP: Final = ("883-9", "882-1")
RHESUS: Final = "10331-7"
_GENDER: Final = {"male": "Nam", "female": "Nữ", "other": "Khác", "unknown": "Không rõ"}


def health_book(record: PersonRecord, *, now: datetime) -> dict[str, Any]:
    """The whole book of one person as of now."""
    subject = patient(record)
    return {
        "maHoSo": record.key,
        "thoiDiem": instant(now),
        "hanhChinh": _administrative(record, subject),
        "tienSu": _history(record, now),
        "dotKham": [_episode(record, e) for e in _newest(record, "Encounter")],
        "tomTat": _tracked(record),
    }


def full_name(subject: Tree) -> str:
    """The whole name as written, family name first where only parts were sent."""
    names = sorted(subject.get("name", ()), key=lambda n: n.get("use") not in ("official", None))
    for name in names:
        if name.get("text"):
            return str(name["text"])
        parts = [name.get("family", ""), *name.get("given", ())]
        if any(parts):
            return " ".join(p for p in parts if p)
    return ""


def address_text(subject: Tree) -> str:
    for address in subject.get("address", ()):
        if address.get("text"):
            return str(address["text"])
        parts = [*address.get("line", ()), address.get("district", ""), address.get("city", "")]
        return ", ".join(p for p in parts if p)
    return ""


def _administrative(record: PersonRecord, subject: Tree) -> dict[str, Any]:
    cover: Tree = next(iter(_newest(record, "Coverage")), {})
    period: Mapping[str, Any] = cover.get("period") or {}
    contact: Tree = next(iter(subject.get("contact", ())), {})
    return {
        "hoTen": full_name(subject),
        "ngaySinh": subject.get("birthDate", ""),
        "ngayMat": _death(record),
        "gioiTinh": _GENDER.get(str(subject.get("gender", "unknown")), "Không rõ"),
        "dienThoai": next((t["value"] for t in subject.get("telecom", ()) if t.get("system") == "phone"), ""),
        "diaChi": address_text(subject),
        "dinhDanh": [
            {"loai": text_of(i.get("type")), "heThong": i.get("system", ""), "so": i.get("value", "")}
            for i in subject.get("identifier", ())
        ],
        "theBHYT": {
            "so": identifier_of(cover, INSURANCE_NUMBER) or cover.get("subscriberId", ""),
            "tuNgay": period.get("start", ""),
            "denNgay": period.get("end", ""),
        }
        if cover
        else None,
        "nguoiDaiDien": {
            "hoTen": (contact.get("name") or {}).get("text", ""),
            "quanHe": text_of(next(iter(contact.get("relationship", ())), None)),
            "dienThoai": next((t["value"] for t in contact.get("telecom", ()) if "value" in t), ""),
        }
        if contact
        else None,
    }


def _death(record: PersonRecord) -> str | bool:
    """When the person died, as far as any facility tells; true where it tells no day."""
    told = [p.get("deceasedDateTime") or p.get("deceasedBoolean", False) for p in record.patients]
    return next((day for day in told if isinstance(day, str)), any(told))


def _history(record: PersonRecord, now: datetime) -> dict[str, Any]:
    chosen = {s.code: s.entries for s in sections(record.trees, day_of(now))}
    return {
        "diUng": [_item(record, t) for t in chosen.get(ALLERGIES, ())],
        "benhTat": [_problem(record, t) for t in (*chosen.get(PROBLEMS, ()), *chosen.get(PAST_PROBLEMS, ()))],
        "tiemChung": [_item(record, t, element="vaccineCode") for t in chosen.get(IMMUNIZATIONS, ())],
        "thuocDangDung": [_medicine(record, t) for t in chosen.get(MEDICATIONS, ())],
    }


def _item(record: PersonRecord, tree: Tree, *, element: str = "code") -> dict[str, Any]:
    concept = tree.get(element)
    return {
        "ma": code_text(concept),
        "ten": text_of(concept),
        "ngay": when(tree),
        "noiGui": sender(record, tree),
    }


def _problem(record: PersonRecord, tree: Tree) -> dict[str, Any]:
    """With the codes that say whether it is over, and whether it is sure."""
    states = {"trangThai": code_text(tree.get("clinicalStatus")), "xacNhan": code_text(tree.get("verificationStatus"))}
    return _item(record, tree) | states


def sender(record: PersonRecord, tree: Tree) -> str:
    """The facility a resource came from, in words."""
    return record.senders.get(f"{tree['resourceType']}/{tree['id']}", "")


def _medicine(record: PersonRecord, tree: Tree) -> dict[str, Any]:
    concept = tree.get("medicationCodeableConcept")
    return {
        "ma": code_text(concept),
        "ten": medication_text(tree),
        "cachDung": dosage_text(tree),
        "ngay": when(tree),
        "noiGui": sender(record, tree),
    }


def of_encounter(trees: Iterable[Tree], encounter_id: str) -> list[Tree]:
    """Those resources that say they belong to an encounter."""
    wanted = f"Encounter/{encounter_id}"
    return [t for t in trees if str((t.get("encounter") or {}).get("reference", "")).endswith(wanted)]


def _episode(record: PersonRecord, encounter: Tree) -> dict[str, Any]:
    period: Mapping[str, Any] = encounter.get("period") or {}
    stay: Mapping[str, Any] = encounter.get("hospitalization") or {}
    provider: Mapping[str, Any] = encounter.get("serviceProvider") or {}

    def own(kind: str) -> list[Tree]:
        return of_encounter(_newest(record, kind), str(encounter["id"]))

    return {
        "id": encounter["id"],
        "coSo": provider.get("display") or sender(record, encounter),
        "hinhThuc": str((encounter.get("class") or {}).get("code", "")),
        "trangThai": encounter.get("status", ""),
        "ngayVao": period.get("start", ""),
        "ngayRa": period.get("end", ""),
        "lyDo": "; ".join(text_of(c) for c in encounter.get("reasonCode", ())),
        "ketQua": disposition_text(stay.get("dischargeDisposition")),
        "chanDoan": [{"ma": code_text(t.get("code")), "ten": text_of(t.get("code"))} for t in own("Condition")],
        "xetNghiem": [
            {
                "ma": code_text(t.get("code")),
                "ten": text_of(t.get("code")),
                "giaTri": value_text(t),
                "khoangThamChieu": range_text(t),
                "danhGia": "; ".join(code_text(c) for c in t.get("interpretation", ())),
                "ngay": when(t),
            }
            for t in own("Observation")
        ],
        "thuoc": [_medicine(record, t) for t in own("MedicationRequest")],
        "phauThuatThuThuat": [_item(record, t) for t in own("Procedure")],
    }


def _newest(record: PersonRecord, type_name: str) -> list[Tree]:
    """What holds of a type, newest first."""
    return newest_first([tree for tree in record.trees.get(type_name, ()) if happened(tree)])


def _tracked(record: PersonRecord) -> dict[str, Any]:
    def latest(*codes: str) -> str:
        found = (t for t in _newest(record, "Observation") if has_code(t.get("code"), *codes))
        return next(filter(None, map(value_text, found)), "")

    return {
        "nhomMau": latest(*BLOOD_GROUP),
        "rh": latest(RHESUS),
        "chieuCao": latest(HEIGHT),
        "canNang": latest(WEIGHT),
    }
