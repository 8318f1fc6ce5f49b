"""Name the clinicians of a facility: the same facility always has the same people.

Out:     Clinician with a practising-certificate number (form NNNNNN/HNO-CCHN) and a ten-digit social-insurance number
"""

from functools import lru_cache
from typing import Final

from adapters.facilities.dice import dice
from adapters.facilities.episode import Clinician
from adapters.facilities.names import Sex, person_name
from adapters.facilities.registry import Facility, Kind

DOCTORS: Final[dict[Kind, int]] = {"station": 2, "centre": 24, "hospital": 90, "other": 10}


@lru_cache(maxsize=8_192)
def clinician(seed: int, facility: Facility, place: int) -> Clinician:
    """Number place of a facility's staff; 0 is its head."""
    random = dice(seed, "staff", facility.code, place)
    sex: Sex = "male" if random.random() < 0.45 else "female"
    family, middle, given = person_name(random, sex)
    return Clinician(
        family=family,
        middle=middle,
        given=given,
        certificate=f"{facility.number * 200 + place:06d}/HNO-CCHN",
        social=f"01{(facility.number * 200 + place) * 611 % 100_000_000:08d}",
    )


def doctors(facility: Facility) -> range:
    """Places of its doctors; nurses and technicians follow."""
    return range(1, 1 + DOCTORS[facility.kind])


def nurses(facility: Facility) -> range:
    count = DOCTORS[facility.kind]
    return range(1 + count, 1 + 2 * count)
