"""Say what happened in one episode of care, in no facility's language: the renderers turn it into messages.

Shape:   Episode → Diagnosis, Vitals, Order (Result, Reading), Medicine, Service, Note, Vaccine, Outcome
Money:   Decimal; unit prices with 3 decimals, amounts with 2 (QĐ 4750); see money.py
Times:   timezone aware, Indochina Time
Digits:  measured values are strings, exactly as the analyser printed them ("5.60")
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from adapters.facilities.money import Amounts, Totals
from adapters.facilities.population import Citizen
from adapters.facilities.registry import Facility

EpisodeKind = Literal["outpatient", "inpatient", "station"]
Flag = Literal["N", "H", "L", "A"]
"""HL7 table 0078: normal, high, low, abnormal."""


@dataclass(frozen=True, slots=True)
class Clinician:
    """certificate: number of the practising certificate (CCHN); social: 10-digit social-insurance number."""

    family: str
    middle: str
    given: str
    certificate: str
    social: str

    @property
    def name(self) -> str:
        return f"{self.family} {self.middle} {self.given}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """code: ICD-10."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Vitals:
    at: datetime
    pulse: int
    temperature: str
    systolic: int | None
    diastolic: int | None
    breaths: int
    oxygen: int
    height_cm: int
    weight_kg: str

    @property
    def line(self) -> str:
        """The convention of XML5: M75_T37_HA120/70_NT18_SP98."""
        pressure = f"_HA{self.systolic}/{self.diastolic}" if self.systolic is not None else ""
        return f"M{self.pulse}_T{self.temperature}{pressure}_NT{self.breaths}_SP{self.oxygen}"


@dataclass(frozen=True, slots=True)
class Result:
    """One measured quantity or finding. low and high are the reference range; unit is UCUM, empty for findings."""

    loinc: str
    name: str
    value: str
    unit: str
    low: str
    high: str
    flag: Flag


@dataclass(frozen=True, slots=True)
class Service:
    """One row of XML3: an examination, test, image, procedure, operation or bed day.

    code MA_DICH_VU, icd9 MA_PTTT_QT, group MA_NHOM, price DON_GIA_BV, price_insured DON_GIA_BH, rate TYLE_TT_DV
    """

    code: str
    name: str
    icd9: str
    group: str
    unit: str
    quantity: Decimal
    price: Decimal
    price_insured: Decimal
    rate: int
    ordered: datetime
    done: datetime
    resulted: datetime | None
    performer: Clinician | None
    machine: str
    bed: str
    amounts: Amounts

    @property
    def is_operative(self) -> bool:
        """An operation or a procedure by its MA_NHOM."""
        return self.group in {"8", "18"}

    @property
    def is_procedure(self) -> bool:
        """An operation or procedure that gives no report of its own."""
        return self.is_operative and self.resulted is None


@dataclass(frozen=True, slots=True)
class Order:
    """A service that was asked of a laboratory or imaging room, and what came back.

    results      the numbers of a laboratory; empty for images
    description  what the reader saw, conclusion what it means; empty for laboratories
    """

    number: str
    service: Service
    results: tuple[Result, ...]
    description: str = ""
    conclusion: str = ""


@dataclass(frozen=True, slots=True)
class Medicine:
    """One row of XML2. code: MA_THUOC, the active ingredient; each: units of one dose; whole_pack: one pack lasts."""

    code: str
    name: str
    ingredient: str
    atc: str
    strength: str
    unit: str
    route: str
    route_name: str
    form: str
    registration: str
    tender: str
    each: Decimal
    times: int
    days: int
    whole_pack: bool
    instructions: str
    quantity: Decimal
    price: Decimal
    ordered: datetime
    given: datetime
    amounts: Amounts

    @property
    def dose(self) -> str:
        """LIEU_DUNG of QĐ 4750: "1 viên/lần * 2 lần/ngày * 30 ngày [2 viên/ngày]"."""
        if self.whole_pack:
            return f"{self.times} lần/ngày * {self.days} ngày"
        each, daily = plain(self.each), plain(self.each * self.times)
        return f"{each} {self.unit}/lần * {self.times} lần/ngày * {self.days} ngày [{daily} {self.unit}/ngày]"


@dataclass(frozen=True, slots=True)
class Note:
    at: datetime
    text: str
    author: Clinician


@dataclass(frozen=True, slots=True)
class Vaccine:
    """A dose given at a station. code: CVX; number counts doses of the series."""

    code: str
    name: str
    lot: str
    expires: date
    number: int
    route: str
    site: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Allergy:
    """substance: key of ALLERGENS; text is Vietnamese."""

    substance: str
    text: str
    category: Literal["medication", "food"]
    reaction: str


@dataclass(frozen=True, slots=True)
class Attendance:
    """Why the insurance may pay, and how much: MA_DOITUONG_KCB, MUC_HUONG, referral papers."""

    category: str
    benefit: int
    came_from: str
    referral_number: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """result KET_QUA_DTRI, discharge MA_LOAI_RV; referred_to is a facility code or empty."""

    result: str
    discharge: str
    referred_to: str
    advice: str
    revisit: date | None
    treatment: str


@dataclass(frozen=True, slots=True)
class Episode:
    """One visit or stay. link is MA_LK, form MA_LOAI_KCB, department MA_KHOA."""

    link: str
    facility: Facility
    citizen: Citizen
    record_number: str
    chart_number: str
    kind: EpisodeKind
    form: str
    emergency: bool
    department: str
    department_name: str
    bed: str
    arrival: datetime
    admitted: datetime | None
    end: datetime
    paid: datetime
    reason: str
    admission_reason: str
    main: Diagnosis
    secondary: tuple[Diagnosis, ...]
    doctor: Clinician
    nurse: Clinician
    head: Clinician
    attendance: Attendance
    vitals: tuple[Vitals, ...]
    notes: tuple[Note, ...]
    orders: tuple[Order, ...]
    services: tuple[Service, ...]
    medicines: tuple[Medicine, ...]
    vaccines: tuple[Vaccine, ...]
    allergies: tuple[Allergy, ...]
    outcome: Outcome
    totals: Totals

    @property
    def insured(self) -> bool:
        return self.citizen.card is not None

    @property
    def diagnosis_text(self) -> str:
        """CHAN_DOAN_RV: main, then secondary, with semicolons (QĐ 1332, notes)."""
        return "; ".join([self.main.text, *(other.text for other in self.secondary)])

    @property
    def days(self) -> int:
        """SO_NGAY_DTRI: 0 for a visit, days of medicines for a long-term one, else last day - first day + 1."""
        if self.form in {"01", "07", "09"}:
            return 0
        if self.form == "05":
            return max((medicine.days for medicine in self.medicines), default=0)
        return (self.end.date() - self.arrival.date()).days + 1


def plain(number: Decimal) -> str:
    """A number without useless zeros or an exponent: 0.5, 2, 30."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
