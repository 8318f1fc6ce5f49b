"""Write an episode as the national claim file: tables XML1 to XML5 in a GIAMDINHHS envelope.

In:      Episode, the table version
Out:     rows(episode): table code → rows by field name; envelope(episode): bytes
Order:   fields stand in the order of terminology.claim_tables, every one of them, empty or not
Keeps:   sums: the totals of XML1 are those of XML2 and XML3 to the last digit
Source:  QĐ 4750/QĐ-BYT and QĐ 3176/QĐ-BYT (tables), CV 1245/BHXH-CNTT (envelope, containers)
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from adapters.facilities.communes import PROVINCE_CODE
from adapters.facilities.episode import Episode, Medicine, Order, Service
from adapters.facilities.money import Amounts
from terminology.claim_tables import Table, Version, tables

Row = dict[str, str]
Rows = Mapping[str, list[Row]]

_HEAD: Final = '<?xml version="1.0" encoding="utf-8"?>'
_NAMESPACES: Final = (
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
)
_SEX: Final = {"male": "1", "female": "2"}
_NOTES_WANTED: Final = frozenset({"02", "03", "04", "05", "06", "08", "09"})
"""MA_LOAI_KCB that have XML5."""


def rows(episode: Episode) -> Rows:
    """Tables that have rows, in order. XML5 only for the forms of care that want it."""
    found: dict[str, list[Row]] = {
        "XML1": [_summary(episode)],
        "XML2": [_medicine(episode, at, line) for at, line in enumerate(episode.medicines, start=1)],
        "XML3": [_service(episode, at, line) for at, line in enumerate(episode.services, start=1)],
        "XML4": list(_findings(episode)),
        "XML5": list(_notes(episode)) if episode.form in _NOTES_WANTED else [],
    }
    return {code: lines for code, lines in found.items() if lines}


def envelope(episode: Episode, *, version: Version = "3176", spoil: Callable[[str], str] | None = None) -> bytes:
    """One envelope with one HOSO. spoil changes the text of every table before it is wrapped (faults.py)."""
    by_code = tables(version)
    parts = []
    for code, lines in rows(episode).items():
        text = document(by_code[code], lines)
        content = base64.b64encode((spoil(text) if spoil is not None else text).encode()).decode()
        parts.append(f"<FILEHOSO><LOAIHOSO>{code}</LOAIHOSO><NOIDUNGFILE>{content}</NOIDUNGFILE></FILEHOSO>")
    return (
        f"{_HEAD}<GIAMDINHHS {_NAMESPACES}>"
        f"<THONGTINDONVI><MACSKCB>{episode.facility.code}</MACSKCB></THONGTINDONVI>"
        f"<THONGTINHOSO><NGAYLAP>{_day(episode.paid)}</NGAYLAP><SOLUONGHOSO>1</SOLUONGHOSO>"
        f"<DANHSACHHOSO><HOSO>{''.join(parts)}</HOSO></DANHSACHHOSO></THONGTINHOSO><CHUKYDONVI/></GIAMDINHHS>"
    ).encode()


def document(table: Table, lines: Iterable[Row]) -> str:
    """The XML document of one table."""
    names = table.names
    bodies = ["".join(_element(name, line.get(name, "")) for name in names) for line in lines]
    if not table.repeats:
        return f"{_HEAD}<{table.root}>{bodies[0]}</{table.root}>"
    record, group = table.record_tag, table.list_tag
    inner = "".join(f"<{record}>{body}</{record}>" for body in bodies)
    return f"{_HEAD}<{table.root}><{group}>{inner}</{group}></{table.root}>"


def _element(name: str, value: str) -> str:
    if not value:
        return f"<{name}/>"
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<{name}>{text}</{name}>"


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y%m%d%H%M}" if moment is not None else ""


def _day(day: date | None) -> str:
    return f"{day:%Y%m%d}" if day is not None else ""


def money(amount: Decimal) -> str:
    return f"{amount:.2f}"


def price(amount: Decimal) -> str:
    return f"{amount:.3f}"


def _summary(episode: Episode) -> Row:
    return {
        **_person(episode),
        **_course(episode),
        **_totals(episode),
        "MA_LK": episode.link,
        "STT": "1",
        "MA_LOAI_KCB": episode.form,
        "MA_KHOA": episode.department,
        "MA_CSKCB": episode.facility.code,
        "CAN_NANG": f"{episode.citizen.weight_kg:.2f}",
        "MA_HSBA": episode.chart_number,
        "MA_TTDV": episode.head.social,
    }


def _person(episode: Episode) -> Row:
    citizen = episode.citizen
    row = {
        "MA_BN": episode.record_number,
        "HO_TEN": citizen.name,
        "SO_CCCD": citizen.cccd or "",
        "NGAY_SINH": f"{citizen.birth_date:%Y%m%d}0000",
        "GIOI_TINH": _SEX[citizen.sex],
        "MA_QUOCTICH": "000",
        "MA_DANTOC": citizen.ethnic,
        "MA_NGHE_NGHIEP": citizen.occupation,
        "DIA_CHI": citizen.address,
        "MATINH_CU_TRU": PROVINCE_CODE,
        "MAHUYEN_CU_TRU": citizen.commune.district_code,
        "MAXA_CU_TRU": citizen.commune.code,
        "DIEN_THOAI": citizen.phone or "",
    }
    if citizen.card is not None:
        row |= {
            "MA_THE_BHYT": citizen.card.number,
            "MA_DKBD": citizen.card.registered,
            "GT_THE_TU": _day(citizen.card.valid_from),
            "GT_THE_DEN": _day(citizen.card.valid_to),
        }
    return row


def _course(episode: Episode) -> Row:
    outcome, attendance = episode.outcome, episode.attendance
    operations = [line.icd9 for line in episode.services if line.is_operative and line.icd9]
    return {
        "LY_DO_VV": episode.reason,
        "LY_DO_VNT": episode.admission_reason,
        "CHAN_DOAN_VAO": episode.main.text,
        "CHAN_DOAN_RV": episode.diagnosis_text,
        "MA_BENH_CHINH": episode.main.code,
        "MA_BENH_KT": ";".join(other.code for other in episode.secondary),
        "MA_PTTT_QT": ";".join(operations),
        "MA_DOITUONG_KCB": attendance.category,
        "MA_NOI_DI": attendance.came_from,
        "MA_NOI_DEN": outcome.referred_to,
        "NGAY_VAO": _minute(episode.arrival),
        "NGAY_VAO_NOI_TRU": _minute(episode.admitted),
        "NGAY_RA": _minute(episode.end),
        "GIAY_CHUYEN_TUYEN": attendance.referral_number,
        "SO_NGAY_DTRI": str(episode.days),
        "PP_DIEU_TRI": outcome.treatment,
        "KET_QUA_DTRI": outcome.result,
        "MA_LOAI_RV": outcome.discharge,
        "GHI_CHU": outcome.advice,
        "NGAY_TTOAN": _minute(episode.paid),
        "NGAY_TAI_KHAM": _day(outcome.revisit),
        "NAM_QT": f"{episode.end:%Y}",
        "THANG_QT": f"{episode.end:%m}",
    }


def _totals(episode: Episode) -> Row:
    sums = episode.totals
    return {
        "T_THUOC": money(sums.medicines),
        "T_VTYT": money(sums.supplies),
        "T_TONGCHI_BV": money(sums.hospital),
        "T_TONGCHI_BH": money(sums.insured),
        "T_BNTT": money(sums.patient),
        "T_BNCCT": money(sums.copay),
        "T_BHTT": money(sums.fund),
        "T_NGUONKHAC": "0.00",
        "T_BHTT_GDV": money(sums.fund),
    }


def _amounts(amounts: Amounts) -> Row:
    return {
        "PHAM_VI": "1" if amounts.rate else "2",
        "TYLE_TT_BH": str(amounts.rate),
        "THANH_TIEN_BV": money(amounts.hospital),
        "THANH_TIEN_BH": money(amounts.insured),
        "T_NGUONKHAC_NSNN": "0.00",
        "T_NGUONKHAC_VTNN": "0.00",
        "T_NGUONKHAC_VTTN": "0.00",
        "T_NGUONKHAC_CL": "0.00",
        "T_NGUONKHAC": "0.00",
        "MUC_HUONG": str(amounts.benefit),
        "T_BNTT": money(amounts.patient),
        "T_BNCCT": money(amounts.copay),
        "T_BHTT": money(amounts.fund),
        "MA_PTTT": "1",
    }


def _medicine(episode: Episode, at: int, line: Medicine) -> Row:
    return {
        **_amounts(line.amounts),
        "MA_LK": episode.link,
        "STT": str(at),
        "MA_THUOC": line.code,
        "MA_NHOM": "4",
        "TEN_THUOC": line.name,
        "DON_VI_TINH": line.unit,
        "HAM_LUONG": line.strength,
        "DUONG_DUNG": line.route,
        "DANG_BAO_CHE": line.form,
        "LIEU_DUNG": line.dose,
        "CACH_DUNG": line.instructions,
        "SO_DANG_KY": line.registration,
        "TT_THAU": line.tender,
        "SO_LUONG": price(line.quantity),
        "DON_GIA": price(line.price),
        "MA_KHOA": episode.department,
        "MA_BAC_SI": episode.doctor.certificate,
        "NGAY_YL": _minute(line.ordered),
        "NGAY_TH_YL": _minute(line.given),
        "NGUON_CTRA": "1",
    }


def _service(episode: Episode, at: int, line: Service) -> Row:
    return {
        **_amounts(line.amounts),
        "MA_LK": episode.link,
        "STT": str(at),
        "MA_DICH_VU": line.code,
        "MA_PTTT_QT": line.icd9 if line.is_operative else "",
        "MA_NHOM": line.group,
        "TEN_DICH_VU": line.name,
        "DON_VI_TINH": line.unit,
        "SO_LUONG": price(line.quantity),
        "DON_GIA_BV": price(line.price),
        "DON_GIA_BH": price(line.price_insured),
        "TYLE_TT_DV": str(line.rate),
        "MA_KHOA": episode.department,
        "MA_GIUONG": line.bed,
        "MA_BAC_SI": episode.doctor.certificate,
        "NGUOI_THUC_HIEN": line.performer.certificate if line.performer is not None else "",
        "MA_BENH": episode.main.code,
        "NGAY_YL": _minute(line.ordered),
        "NGAY_TH_YL": _minute(line.done),
        "NGAY_KQ": _minute(line.resulted),
        "PP_VO_CAM": "1" if line.group == "8" else "",
        "MA_MAY": line.machine,
    }


def _findings(episode: Episode) -> Iterable[Row]:
    at = 0
    for order in episode.orders:
        for row in _answers(order):
            at += 1
            yield {
                "MA_LK": episode.link,
                "STT": str(at),
                "MA_DICH_VU": order.service.code,
                "NGAY_KQ": _minute(order.service.resulted),
                "MA_BS_DOC_KQ": (order.service.performer or episode.doctor).certificate,
                **row,
            }


def _answers(order: Order) -> Iterable[Row]:
    for result in order.results:
        yield {
            "MA_CHI_SO": result.loinc,
            "TEN_CHI_SO": result.name,
            "GIA_TRI": result.value,
            "DON_VI_DO": result.unit,
        }
    if not order.results:
        yield {"TEN_CHI_SO": order.service.name, "MO_TA": order.description, "KET_LUAN": order.conclusion}


def _notes(episode: Episode) -> Iterable[Row]:
    for at, note in enumerate(episode.notes, start=1):
        yield {
            "MA_LK": episode.link,
            "STT": str(at),
            "DIEN_BIEN_LS": note.text,
            "THOI_DIEM_DBLS": _minute(note.at),
            "NGUOI_THUC_HIEN": note.author.certificate,
        }
