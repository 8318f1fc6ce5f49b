"""The project's own small code tables as typed rows.

In:      terminology/data/*.csv
Out:     DIAGNOSES, LAB_TESTS, MEDICINES, SERVICES, and CODE_LISTS by the name of the national claim field
Why:     an installation works before its operator has loaded the full lists; the simulated facilities, the claim
         renderer and the pages need names, units and prices for what they show
Source:  diagnoses     ICD-10 codes with the Vietnamese names of QĐ 4469/QĐ-BYT (2020), a few of them corrected
         lab tests     LOINC codes with UCUM units; adult reference ranges as hospital reports in Hanoi print them
         services      equivalent codes and names of QĐ 4440/QĐ-BYT (2020). The examination (NN.1896) and bed (KNN.…)
                       codes follow the form claims use and are not in that list
         medicines     ATC codes (WHO). The codes of the national ingredient list are not openly published but for
                       oxygen (40.17): the others are visibly synthetic, 40.Z001 and on
         prices        VND, of the order of the lists of 2023 to 2025; for simulation, not for payment
         CODE_LISTS    QĐ 4750/QĐ-BYT annexes (KET_QUA_DTRI, MA_LOAI_RV, GIOI_TINH), QĐ 824/QĐ-BYT
                       (MA_LOAI_KCB, MA_DOITUONG_KCB, a selection), QĐ 121-TCTK (MA_DANTOC), claim cost groups (MA_NHOM)
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import Final, Literal, cast

ICD_10: Final = "http://hl7.org/fhir/sid/icd-10"
LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
ATC: Final = "http://www.whocc.no/atc"
INGREDIENT: Final = "urn:city-ehr:codes:thuoc"
SERVICE: Final = "urn:city-ehr:codes:dvkt"
"""The systems under which the record holds these codes (ehr.fhir.vietnam, which this room does not know)."""

Level = Literal[1, 2, 3]
"""The least facility that offers it: 1 commune station, 2 district health centre, 3 city hospital."""

Route = Literal[
    "oral", "intravenous", "intramuscular", "subcutaneous", "inhalation", "topical", "ophthalmic", "vaginal"
]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """weight: relative frequency among outpatient visits; chronic: comes back monthly; main: may be the main one."""

    code: str
    name_vi: str
    name_en: str
    sex: Literal["any", "female", "male"]
    age_min: int
    age_max: int
    weight: int
    chronic: bool
    admission_ratio: float
    level: Level
    main: bool

    def fits(self, sex: str, age: int) -> bool:
        return self.sex in ("any", sex) and self.age_min <= age <= self.age_max


@dataclass(frozen=True, slots=True)
class LabTest:
    """One LOINC observation. Without unit the result is negative or positive; low and high bound the normal range.

    panel    tests of one panel are ordered and reported together
    service  code of the SERVICES row that is paid for it; None for vital signs
    """

    code: str
    name_vi: str
    name_en: str
    unit: str | None
    low: Decimal | None
    high: Decimal | None
    decimals: int
    category: Literal["vital-signs", "laboratory"]
    panel: str
    service: str | None


@dataclass(frozen=True, slots=True)
class Medicine:
    """One product. code: ingredient code (MA_THUOC); unit_vi: what price_vnd and dose count."""

    code: str
    atc: str | None
    ingredient: str
    strength: str
    form_vi: str
    form_en: str
    unit_vi: str
    route: Route
    price_vnd: Decimal
    dose: int
    times_a_day: int
    days: int
    indications: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.ingredient} {self.strength}"


@dataclass(frozen=True, slots=True)
class Service:
    """One technical service (DVKT), examination or bed day. group: MA_NHOM of the claim."""

    code: str
    name_vi: str
    name_en: str
    group: int
    price_vnd: Decimal
    level: Level
    icd9_code: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a national code list; name_en is empty where the list is Vietnamese only."""

    code: str
    name_vi: str
    name_en: str


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (files("terminology") / "data" / name).open(encoding="utf-8") as lines:
        yield from csv.DictReader(lines)


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def _level(text: str) -> Level:
    return cast(Level, int(text))


def _diagnosis(row: dict[str, str]) -> Diagnosis:
    return Diagnosis(
        code=row["code"],
        name_vi=row["name_vi"],
        name_en=row["name_en"],
        sex=cast(Literal["any", "female", "male"], row["sex"]),
        age_min=int(row["age_min"]),
        age_max=int(row["age_max"]),
        weight=int(row["weight"]),
        chronic=row["chronic"] == "1",
        admission_ratio=int(row["admission_percent"]) / 100,
        level=_level(row["level"]),
        main=row["main"] == "1",
    )


def _lab_test(row: dict[str, str]) -> LabTest:
    return LabTest(
        code=row["code"],
        name_vi=row["name_vi"],
        name_en=row["name_en"],
        unit=row["unit"] or None,
        low=_decimal(row["low"]),
        high=_decimal(row["high"]),
        decimals=int(row["decimals"]),
        category=cast(Literal["vital-signs", "laboratory"], row["category"]),
        panel=row["panel"],
        service=row["service"] or None,
    )


def _medicine(row: dict[str, str]) -> Medicine:
    return Medicine(
        code=row["code"],
        atc=row["atc"] or None,
        ingredient=row["ingredient"],
        strength=row["strength"],
        form_vi=row["form_vi"],
        form_en=row["form_en"],
        unit_vi=row["unit_vi"],
        route=cast(Route, row["route"]),
        price_vnd=Decimal(row["price_vnd"]),
        dose=int(row["dose"]),
        times_a_day=int(row["times_a_day"]),
        days=int(row["days"]),
        indications=tuple(row["indications"].split()),
    )


def _service(row: dict[str, str]) -> Service:
    return Service(
        code=row["code"],
        name_vi=row["name_vi"],
        name_en=row["name_en"],
        group=int(row["group"]),
        price_vnd=Decimal(row["price_vnd"]),
        level=_level(row["level"]),
        icd9_code=row["icd9_code"] or None,
    )


def _code_lists() -> dict[str, Mapping[str, Entry]]:
    lists: dict[str, dict[str, Entry]] = {}
    for row in _rows("code_lists.csv"):
        lists.setdefault(row["list"], {})[row["code"]] = Entry(row["code"], row["name_vi"], row["name_en"])
    return dict(lists)


DIAGNOSES: Final[tuple[Diagnosis, ...]] = tuple(map(_diagnosis, _rows("diagnoses.csv")))
LAB_TESTS: Final[tuple[LabTest, ...]] = tuple(map(_lab_test, _rows("lab_tests.csv")))
MEDICINES: Final[tuple[Medicine, ...]] = tuple(map(_medicine, _rows("medicines.csv")))
SERVICES: Final[tuple[Service, ...]] = tuple(map(_service, _rows("services.csv")))

DIAGNOSIS_BY_CODE: Final = {diagnosis.code: diagnosis for diagnosis in DIAGNOSES}
LAB_TEST_BY_CODE: Final = {test.code: test for test in LAB_TESTS}
SERVICE_BY_CODE: Final = {service.code: service for service in SERVICES}

CODE_LISTS: Final[Mapping[str, Mapping[str, Entry]]] = _code_lists()
"""MA_LOAI_KCB, MA_NHOM, MA_DANTOC, KET_QUA_DTRI, MA_LOAI_RV, GIOI_TINH, MA_DOITUONG_KCB: code → Entry."""
