"""Read the committed table of Hanoi's communes: 579 communes of 30 districts, as of 2024-06-11.

In:      data/hanoi_communes.csv, lines beginning with # are its source
Out:     COMMUNES, in code order; DISTRICTS, code → (unit, name)
Why:     codes and names are one version; since 2025-07-01 the same numbers name other units, so the
         version is that of this table
Source:  General Statistics Office, list of administrative units (danhmuchanhchinh.gso.gov.vn)
"""

from dataclasses import dataclass
from typing import Final

from adapters.facilities.tables import rows

PROVINCE_CODE: Final = "01"
PROVINCE: Final = "Thành phố Hà Nội"
_COMMUNE_UNITS: Final = {"P": "phường", "X": "xã", "T": "thị trấn"}
_DISTRICT_UNITS: Final = {"Q": "quận", "H": "huyện", "T": "thị xã"}


@dataclass(frozen=True, slots=True)
class Commune:
    """One commune. code has 5 digits, district_code 3; unit and district_unit are Vietnamese words in lower case."""

    code: str
    unit: str
    name: str
    district_code: str
    district_unit: str
    district: str

    @property
    def full_name(self) -> str:
        return f"{self.unit[0].upper()}{self.unit[1:]} {self.name}"

    @property
    def full_district(self) -> str:
        return f"{self.district_unit[0].upper()}{self.district_unit[1:]} {self.district}"

    @property
    def urban(self) -> bool:
        return self.unit != "xã"


def _read() -> tuple[Commune, ...]:
    return tuple(
        Commune(
            code=row["code"],
            unit=_COMMUNE_UNITS[row["unit"]],
            name=row["name"],
            district_code=row["district_code"],
            district_unit=_DISTRICT_UNITS[row["district_unit"]],
            district=row["district"],
        )
        for row in rows("hanoi_communes")
    )


COMMUNES: Final = _read()

DISTRICTS: Final[dict[str, tuple[Commune, ...]]] = {
    code: tuple(commune for commune in COMMUNES if commune.district_code == code)
    for code in sorted({commune.district_code for commune in COMMUNES})
}
"""District code → its communes."""
