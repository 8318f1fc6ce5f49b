"""Read the committed table of Hanoi's communes: 579 communes of 30 districts, as of 2024-06-11.

In:      data/hanoi_communes.csv, lines beginning with # are its source
Out:     COMMUNES, in code order; DISTRICTS, code → (unit, name)
Why:     codes and names are one version; since 2025-07-01 the same numbers name other units, so the
         version travels with them (COMMUNES_VERSION)
Source:  General Statistics Office, list of administrative units (danhmuchanhchinh.gso.gov.vn)
"""

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

COMMUNES_VERSION: Final = "2024-06-11"
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
    text = files("adapters.facilities").joinpath("data/hanoi_communes.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(
        Commune(
            code=row["code"],
            unit=_COMMUNE_UNITS[row["unit"]],
            name=row["name"],
            district_code=row["district_code"],
            district_unit=_DISTRICT_UNITS[row["district_unit"]],
            district=row["district"],
        )
        for row in csv.DictReader(lines)
    )


COMMUNES: Final = _read()

DISTRICTS: Final[dict[str, tuple[Commune, ...]]] = {
    code: tuple(commune for commune in COMMUNES if commune.district_code == code)
    for code in sorted({commune.district_code for commune in COMMUNES})
}
"""District code → its communes."""
