"""Compute citizen n of a synthetic city: the same (seed, n) gives the same person, and nobody is stored.

In:      seed, size (up to 60 million), n
Out:     Citizen; Population.citizen(n), Population.neighbour(commune, random)
Shape:   n mod 579 is the commune, so a station can draw its own people; the age pyramid, the sexes, the insured
         (95 %), card groups, occupations and ethnic groups are in proportion
Numbers: CCCD = 001 + century and sex + year + 6 digits (Decree 137/2015, Article 13); BHYT card = group + benefit +
         province 01 + 10 digits (Decision 1351/QĐ-BHXH 2015). Both are unique inside one city by construction.
         They have valid form and belong to nobody we know of; telephone numbers lie in the unassigned range 010.
Keeps:   one name in 200 is in decomposed Unicode (NFD), as some systems send it
Source:  card groups and insured share: public statistics of 2025; see docs/adr/0041
"""

import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from random import Random
from typing import Final

from adapters.facilities.communes import COMMUNES, PROVINCE, Commune
from adapters.facilities.dice import Wheel, dice
from adapters.facilities.names import Sex, person_name
from adapters.facilities.pyramid import CELLS, SLOTS
from adapters.facilities.registry import centre_of, station_of
from terminology.lists import DIAGNOSIS_BY_CODE

REFERENCE_DAY: Final = date(2026, 11, 1)
"""The day ages are counted at. Fixed: a birth date must not move with the day the simulator runs."""

SIZE_MAX: Final = 60_000_000
_SOCIAL_STEP: Final = 61_803_399  # coprime to 10^8: a walk through all eight-digit numbers
_CCCD_STEP: Final = 618_033 * 10 + 7  # coprime to 10^6
_MRN_STEP: Final = 38_196_601  # coprime to 10^8
_SLOT_STEP: Final = 1_597
_STREETS: Final = (
    "Láng",
    "Kim Mã",
    "Đội Cấn",
    "Giải Phóng",
    "Minh Khai",
    "Bạch Mai",
    "Tây Sơn",
    "Thái Hà",
    "Xuân Thủy",
    "Cầu Giấy",
    "Nguyễn Trãi",
    "Lê Duẩn",
    "Trần Hưng Đạo",
    "Hai Bà Trưng",
    "Ngọc Lâm",
    "Nguyễn Văn Cừ",
    "Quang Trung",
    "Phùng Hưng",
    "Lạc Long Quân",
    "Hoàng Hoa Thám",
)
_WORK: Final = Wheel("51200:14 52300:12 75300:14 81500:10 61100:12 21300:7 41100:9 93200:8 83200:7 22100:2 23300:5")
"""Occupations of working age, five digits in the pattern of Decision 34/2020/QĐ-TTg."""

_ETHNIC: Final = Wheel("01:987 06:7 02:2 07:1 03:1 09:1 04:1")
_CHRONIC: Final = (
    # ICD-10 code, first age, per-mille at 40, growth of the per-mille for each year after it
    ("I10", 30, 150, 12),
    ("E11.9", 30, 50, 4),
    ("E78.5", 30, 90, 4),
    ("I25.9", 45, 15, 4),
    ("J44.9", 45, 15, 2),
    ("J45.9", 2, 35, 0),
    ("M10.9", 35, 20, 1),
    ("M17.9", 45, 20, 9),
    ("K21.9", 18, 60, 1),
    ("B18.1", 18, 70, 0),
    ("N18.9", 45, 5, 1),
)
_ALLERGENS: Final = ("penicillin", "aspirin", "seafood", "cephalosporin", "peanut")


@dataclass(frozen=True, slots=True)
class Card:
    """A health-insurance card. registered: code of the facility of first registration (MA_DKBD)."""

    number: str
    valid_from: date
    valid_to: date
    registered: str

    @property
    def group(self) -> str:
        return self.number[:2]

    @property
    def benefit_percent(self) -> int:
        """What the fund pays in line, by the third character (Decision 1351/QĐ-BHXH)."""
        return {"1": 100, "2": 100, "3": 95, "4": 80, "5": 100}[self.number[2]]


@dataclass(frozen=True, slots=True)
class Citizen:
    """One synthetic person. cccd is None before the birth is registered; card is None for the uninsured."""

    number: int
    family: str
    middle: str
    given: str
    sex: Sex
    birth_date: date
    cccd: str | None
    card: Card | None
    phone: str | None
    address_line: str
    commune: Commune
    ethnic: str
    occupation: str
    chronic: tuple[str, ...]
    allergies: tuple[str, ...]
    height_cm: int
    weight_kg: float

    @property
    def name(self) -> str:
        return f"{self.family} {self.middle} {self.given}"

    @property
    def address(self) -> str:
        return f"{self.address_line}, {self.commune.full_name}, {self.commune.full_district}, {PROVINCE}"

    def age_at(self, day: date) -> int:
        return _years(self.birth_date, day)

    def record_number(self, facility_number: int) -> str:
        """This person's number in one facility: unique there, and another one in every facility."""
        return f"{(self.number * _MRN_STEP + facility_number * 7_368_787) % 100_000_000:08d}"


class Population:
    """size citizens of one seed."""

    def __init__(self, seed: int, size: int) -> None:
        if not len(COMMUNES) <= size <= SIZE_MAX:
            raise ValueError(f"a population has {len(COMMUNES)} to {SIZE_MAX} citizens")
        self.seed = seed
        self.size = size
        shifts = dice(seed, "shifts")
        self._slot_shift = shifts.randrange(SLOTS)
        self._cccd_shift = shifts.randrange(1_000_000)
        self._social_shift = shifts.randrange(100_000_000)
        self.citizen = lru_cache(maxsize=20_000)(self._citizen)

    def age_of(self, n: int) -> int:
        """Years completed in the year of the reference day, without computing the rest of the person."""
        return CELLS[self._slot(n)].age

    def neighbour(self, commune_place: int, random: Random) -> int:
        """The number of somebody who lives in the commune at this place of COMMUNES."""
        rounds = (self.size - commune_place - 1) // len(COMMUNES) + 1
        return commune_place + len(COMMUNES) * random.randrange(rounds)

    def _slot(self, n: int) -> int:
        return (n * _SLOT_STEP + self._slot_shift) % SLOTS

    def _cccd(self, n: int, sex: Sex, year: int) -> str:
        cell = CELLS[self._slot(n)]
        place = (n // SLOTS) * cell.size + cell.rank
        digits = (place * _CCCD_STEP + self._cccd_shift) % 1_000_000
        return f"001{(year - 1900) // 100 * 2 + (sex == 'female')}{year % 100:02d}{digits:06d}"

    def _citizen(self, n: int) -> Citizen:
        if not 0 <= n < self.size:
            raise ValueError(f"citizens are numbered 0 to {self.size - 1}")
        random = dice(self.seed, "citizen", n)
        cell = CELLS[self._slot(n)]
        commune = COMMUNES[n % len(COMMUNES)]
        # One year of age is one year of birth, so that the cell fixes the year in the CCCD.
        year = REFERENCE_DAY.year - cell.age
        days = (REFERENCE_DAY - date(year, 1, 1)).days if cell.age == 0 else 365
        born = date(year, 1, 1) + timedelta(days=random.randrange(days))
        family, middle, given = person_name(random, cell.sex)
        if random.random() < 0.005:
            family, middle, given = (unicodedata.normalize("NFD", part) for part in (family, middle, given))
        newborn = (REFERENCE_DAY - born).days < 60
        return Citizen(
            number=n,
            family=family,
            middle=middle,
            given=given,
            sex=cell.sex,
            birth_date=born,
            cccd=None if newborn else self._cccd(n, cell.sex, year),
            card=self._card(n, born, commune, random),
            phone=f"010{random.randrange(10_000_000):07d}" if cell.age >= 15 or random.random() < 0.7 else None,
            address_line=_address_line(commune, random),
            commune=commune,
            ethnic=_ETHNIC.turn(random),
            occupation=_occupation(cell.age, random),
            chronic=_chronic(cell.age, cell.sex, random),
            allergies=(random.choice(_ALLERGENS),) if random.random() < 0.06 else (),
            height_cm=_height_cm(cell.age, cell.sex, random),
            weight_kg=_weight_kg(cell.age, cell.sex, random),
        )

    def _card(self, n: int, born: date, commune: Commune, random: Random) -> Card | None:
        age = _years(born, REFERENCE_DAY)
        if random.random() >= (0.99 if age < 6 else 0.9465):
            return None
        social = (n * _SOCIAL_STEP + self._social_shift) % 100_000_000
        registered = station_of(commune) if random.random() < 0.6 else centre_of(commune)
        start = max(born, date(2026, 1, 1))
        return Card(f"{_card_group(age, random)}0101{social:08d}", start, date(2027, 12, 31), registered.code)


def _years(born: date, day: date) -> int:
    """Completed years of age on a day."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _card_group(age: int, random: Random) -> str:
    """Object group and benefit digit; over all ages DN ~ 30 %, GD ~ 25 %, HS and SV ~ 20 %, TE ~ 9 %, HT ~ 9 %."""
    if age < 6:
        return "TE1"
    draw = random.random()
    if age < 18:
        return "HS4" if draw < 0.93 else ("HN2" if draw < 0.97 else "BT2")
    if age < 23 and draw < 0.55:
        return "SV4"
    if age < 60:
        return next(group for limit, group in _ADULT_GROUPS if draw < limit)
    return "HT3" if draw < 0.68 else ("GD4" if draw < 0.90 else ("BT2" if draw < 0.97 else "CC1"))


_ADULT_GROUPS: Final = ((0.50, "DN4"), (0.90, "GD4"), (0.95, "HC4"), (0.97, "HN2"), (0.985, "CA5"), (1.0, "CK2"))


def _occupation(age: int, random: Random) -> str:
    return _WORK.turn(random) if 18 <= age < 62 else "00000"


def _chronic(age: int, sex: Sex, random: Random) -> tuple[str, ...]:
    """Diseases that stay, as ICD-10 codes; what a person has does not change from visit to visit."""
    return tuple(
        code
        for code, first, base, growth in _CHRONIC
        if age >= first
        and random.random() * 1000 < base + growth * max(0, age - 40)
        and DIAGNOSIS_BY_CODE[code].fits(sex, age)
    )


def _address_line(commune: Commune, random: Random) -> str:
    if commune.urban:
        return f"Số {random.randrange(1, 320)} {random.choice(_STREETS)}, tổ {random.randrange(1, 40)}"
    return f"Thôn {random.randrange(1, 15)}"


def _height_cm(age: int, sex: Sex, random: Random) -> int:
    grown = 167 if sex == "male" else 156
    if age >= 18:
        return round(random.gauss(grown, 5.5))
    return round(random.gauss(52 + (grown - 52) * min(1.0, (age / 17) ** 0.62), 3.0))


def _weight_kg(age: int, sex: Sex, random: Random) -> float:
    if age >= 18:
        return round(max(38.0, random.gauss(64 if sex == "male" else 54, 8.0)), 1)
    return round(max(2.6, random.gauss(4.5 + 2.5 * age if age < 12 else 34 + 3.4 * (age - 12), 0.6 + age * 0.25)), 1)
