"""A place and a distance → a box the index can find, and the circle in it.

Source:  FHIR R4 8.7 Location, search parameter near; haversine formula on a sphere of the mean radius (IUGG)
"""

import math
from typing import Final

from ehr.index.leaves import MICRODEGREES
from ehr.search.shape import Near, Values
from ehr.search.terms import NearValue

EARTH_METRES: Final = 6_371_008.8
DEGREE_METRES: Final = math.pi * EARTH_METRES / 180


def near(to: Values, value: NearValue) -> Near:
    """Over a pole or the 180th meridian the box is as wide as the Earth."""
    high = value.metres / DEGREE_METRES
    low_latitude, high_latitude = value.latitude - high, value.latitude + high
    west, east = -180.0, 180.0
    if max(abs(low_latitude), abs(high_latitude)) < 90:
        narrowing = math.sin(min(value.metres / EARTH_METRES, math.pi / 2)) / math.cos(math.radians(value.latitude))
        wide = math.degrees(math.asin(min(1.0, narrowing)))
        if abs(value.longitude) + wide <= 180:
            west, east = value.longitude - wide, value.longitude + wide
    return Near(
        to.add(value.latitude),
        to.add(value.longitude),
        to.add(value.metres),
        (to.add(low_latitude), to.add(high_latitude)),
        (to.add(math.floor(west * MICRODEGREES)), to.add(math.ceil(east * MICRODEGREES))),
    )
