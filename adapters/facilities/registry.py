"""Know the city's 661 facilities: what kind each is, where it stands, and which language it speaks.

In:      the commune table; a FeedSplit says which language each facility speaks
Out:     FACILITIES (default split), city(count, split); register.py writes them into the record
Shape:   42 city hospitals, 30 district health centres, 10 others, 579 commune health stations
Codes:   01Z + two of 0-9A-Z, visibly synthetic: no Vietnamese facility code has a letter there
Names:   stations and centres are named after their commune or district; hospitals carry a number and the
         word "mô phỏng" (simulated), because no real hospital's name may stand beside synthetic patients
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from adapters.facilities.communes import COMMUNES, DISTRICTS, Commune

Kind = Literal["hospital", "centre", "other", "station"]
Feed = Literal["hl7v2", "fhir", "claim_xml"]

FEEDS: Final[tuple[Feed, ...]] = ("hl7v2", "fhir", "claim_xml")
HOSPITALS: Final = 42
OTHERS: Final = 10
_BASE36: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GOLDEN: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Facility:
    """One place of care. number counts from 1 over the whole city; place counts from 0 inside its kind."""

    number: int
    code: str
    name: str
    kind: Kind
    place: int
    commune: Commune
    feed: Feed

    @property
    def commune_code(self) -> str:
        return self.commune.code

    @property
    def district(self) -> str:
        return self.commune.full_district

    @property
    def organization_id(self) -> str:
        return f"facility-{self.code}"

    @property
    def location_id(self) -> str:
        return f"facility-{self.code}-site"

    @property
    def client_id(self) -> str:
        return f"feed-{self.code}"


Shares = tuple[float, float, float]
"""Shares of hl7v2, fhir and claim_xml; their sum is 1."""


@dataclass(frozen=True, slots=True)
class FeedSplit:
    """Which part of each kind of facility sends in which language."""

    hospital: Shares = (1.0, 0.0, 0.0)
    centre: Shares = (1.0, 0.0, 0.0)
    other: Shares = (0.4, 0.3, 0.3)
    station: Shares = (0.4, 0.4, 0.2)

    def __post_init__(self) -> None:
        for shares in (self.hospital, self.centre, self.other, self.station):
            assert abs(sum(shares) - 1.0) < 1e-9, "the shares of a kind add up to 1"
            assert min(shares) >= 0, "a share is not negative"

    def feed(self, kind: Kind, place: int) -> Feed:
        """Spread by the golden ratio: every run of neighbours has the shares of the whole, without a dice."""
        shares: Shares = getattr(self, kind)
        point = (place + 1) * _GOLDEN % 1.0
        if point < shares[0]:
            return "hl7v2"
        return "fhir" if point < shares[0] + shares[1] else "claim_xml"


DEFAULT_SPLIT: Final = FeedSplit()


def _code(number: int) -> str:
    assert 0 < number < 36 * 36, "two characters of base 36"
    return f"01Z{_BASE36[number // 36]}{_BASE36[number % 36]}"


def _sites() -> list[tuple[Kind, int, str, Commune]]:
    districts = list(DISTRICTS.values())
    sites: list[tuple[Kind, int, str, Commune]] = []
    for place in range(HOSPITALS):
        communes = districts[place % len(districts)]
        site = communes[(place // len(districts) * 2 + 1) % len(communes)]
        sites.append(("hospital", place, f"Bệnh viện Thành phố số {place + 1} (mô phỏng)", site))
    for place, communes in enumerate(districts):
        first = communes[0]
        sites.append(("centre", place, f"Trung tâm Y tế {first.district_unit} {first.district}", first))
    for place in range(OTHERS):
        communes = districts[place * 3 % len(districts)]
        site = communes[-1]
        sites.append(("other", place, f"Phòng khám đa khoa khu vực số {place + 1} (mô phỏng)", site))
    for place, commune in enumerate(COMMUNES):
        sites.append(("station", place, f"Trạm Y tế {commune.unit} {commune.name}", commune))
    return sites


FACILITIES: Final[tuple[Facility, ...]] = tuple(
    Facility(number, _code(number), name, kind, place, commune, DEFAULT_SPLIT.feed(kind, place))
    for number, (kind, place, name, commune) in enumerate(_sites(), start=1)
)

FACILITY_COUNT: Final = len(FACILITIES)

_BY_COMMUNE: Final = {facility.commune.code: facility for facility in FACILITIES if facility.kind == "station"}
_BY_DISTRICT: Final = {facility.commune.district_code: facility for facility in FACILITIES if facility.kind == "centre"}


def station_of(commune: Commune) -> Facility:
    return _BY_COMMUNE[commune.code]


def centre_of(commune: Commune) -> Facility:
    return _BY_DISTRICT[commune.district_code]


_WHOLE: Final[dict[Kind, int]] = {
    "hospital": HOSPITALS,
    "station": len(COMMUNES),
    "centre": len(DISTRICTS),
    "other": OTHERS,
}


def _quotas(count: int) -> dict[Kind, int]:
    """How many of each kind: one of each as far as count goes, the rest as in the whole city, stations last."""
    quotas: dict[Kind, int] = {kind: int(place < count) for place, kind in enumerate(_WHOLE)}
    kinds: tuple[Kind, ...] = ("hospital", "centre", "other")
    for kind in kinds:
        wanted = round(_WHOLE[kind] * count / FACILITY_COUNT)
        quotas[kind] = max(quotas[kind], min(wanted, quotas[kind] + count - sum(quotas.values())))
    quotas["station"] += count - sum(quotas.values())
    return quotas


def city(count: int = FACILITY_COUNT, split: FeedSplit = DEFAULT_SPLIT) -> tuple[Facility, ...]:
    """The first count facilities of every kind in proportion, with the feeds of a split."""
    if not 1 <= count <= FACILITY_COUNT:
        raise ValueError(f"a city has 1 to {FACILITY_COUNT} facilities")
    quotas = _quotas(count)
    return tuple(
        replace(facility, feed=split.feed(facility.kind, facility.place))
        for facility in FACILITIES
        if facility.place < quotas[facility.kind]
    )
